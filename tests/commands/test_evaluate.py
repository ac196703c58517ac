"""`foldwise evaluate` scores new rows by the labels and groups that training would give them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import accuracy_score, f1_score
from typer.testing import CliRunner

from conftest import make_table
from foldwise import Predictor
from foldwise.cli import app
from foldwise.config.schema import Config
from foldwise.run.folder import RunFolder
from foldwise.run.readers import read_json
from foldwise.workflow import cross_validate

RARE = ["fee", "wire", "fee", "wire"]


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory, backbone: Path) -> RunFolder:
    """A run whose rare labels fee and wire were merged, and which has a holdout file."""
    folder = tmp_path_factory.mktemp("merged")
    _table(64, seed=0).write_csv(folder / "table.csv")
    pl.concat([_table(40, seed=1)] * 2).write_csv(folder / "held.csv")
    config = Config.model_validate(
        {
            "run": {"name": "test", "dir": str(folder / "runs")},
            "data": {
                "path": str(folder / "table.csv"),
                "target": "label",
                "text": ["text"],
                "rare_classes": "merge",
            },
            "holdout": {"path": str(folder / "held.csv")},
            "folds": {"n": 3},
            "selection": {"rows": "inner"},
            "text": {"max_length": 24},
            "model": {"backbone": str(backbone)},
            "metrics": ["accuracy"],
            "optimizer": {"lr": 3e-3, "head_lr": 1e-2},
            "training": {"epochs": 2, "batch_size": 8, "device": "cpu", "precision": "float32"},
            "baselines": False,
            "ensemble": "model",
        }
    )
    return cross_validate(config)


def test_the_metric_that_picks_the_epoch_decides_and_is_shown_where_metrics_leaves_it_out(
    merged: RunFolder, tmp_path: Path
) -> None:
    metrics = read_json(merged.metrics)
    assert metrics["verdict"]["metric"] == "f1_macro"
    names = ["accuracy", "f1_macro"]
    assert list(metrics["oof"]) == list(metrics["mean"]) == list(metrics["holdout"]) == names
    assert all(list(scores) == names for scores in metrics["folds"].values())
    shown = CliRunner().invoke(app, ["train", str(merged.config)])
    assert {"accuracy", "f1_macro"} <= set(shown.stdout.split())
    _table(40, seed=2).write_csv(tmp_path / "later.csv")
    told = CliRunner().invoke(app, ["evaluate", str(merged.path), str(tmp_path / "later.csv")])
    assert told.stdout.splitlines()[-1].startswith("f1_macro: 0.")


def _table(rows: int, seed: int) -> pl.DataFrame:
    table = make_table(rows, seed).select("text", "label")
    labels = table["label"].to_list()
    return table.with_columns(label=pl.Series(labels[: -len(RARE)] + RARE))


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, list[str]]]:
    """Evaluate a run on a table; return the printed cells by metric: value and interval."""
    monkeypatch.setenv("COLUMNS", "120")

    def evaluate(run: RunFolder, path: Path) -> dict[str, list[str]]:
        result = CliRunner().invoke(app, ["evaluate", str(run.path), str(path)])
        assert result.exit_code == 0, result.output
        lines = [line.split("│")[1:-1] for line in result.stdout.splitlines()]
        return {cells[0].strip(): [c.strip() for c in cells[1:]] for cells in lines if cells}

    return evaluate


def test_rare_labels_are_merged_as_training_merged_them(
    merged: RunFolder, evaluated: Callable[..., dict[str, list[str]]], tmp_path: Path
) -> None:
    assert read_json(merged.classes) == {
        "classes": ["card", "debt", "loan", "other"],
        "merged": ["fee", "wire"],
    }
    table = _table(40, seed=2).with_columns(
        label=pl.Series(["never seen", *_table(40, seed=2)["label"].to_list()[1:]])
    )
    table.write_csv(tmp_path / "later.csv")
    predictor = Predictor(merged.path)
    predicted = predictor.predict(predictor.read(str(tmp_path / "later.csv"), labelled=False))
    target = table["label"].replace({"fee": "other", "wire": "other"}).to_list()
    labels = sorted(set(target))
    assert labels == ["card", "debt", "loan", "never seen", "other"]
    guess = predicted["prediction"].to_list()
    macro = f1_score(target, guess, labels=labels, average="macro", zero_division=0)
    told = evaluated(merged, tmp_path / "later.csv")
    assert told["accuracy"][0] == f"{accuracy_score(target, guess):.3f}"
    assert told["f1_macro"][0] == f"{macro:.3f}"


def test_a_holdout_file_scores_what_evaluate_makes_of_it(
    merged: RunFolder, evaluated: Callable[..., dict[str, list[str]]]
) -> None:
    told = evaluated(merged, merged.path.parents[1] / "held.csv")
    for name, entry in read_json(merged.metrics)["holdout"].items():
        interval = f"[{entry['low']:.3f}, {entry['high']:.3f}]"
        assert told[name][:2] == [f"{entry['value']:.3f}", interval]


def test_intervals_draw_near_duplicates_of_the_new_rows_together(
    merged: RunFolder, evaluated: Callable[..., dict[str, list[str]]], tmp_path: Path
) -> None:
    table = _table(40, seed=3)
    table.write_csv(tmp_path / "once.csv")
    pl.concat([table] * 4).write_csv(tmp_path / "copies.csv")
    once, copies = (
        evaluated(merged, tmp_path / name)["accuracy"] for name in ("once.csv", "copies.csv")
    )
    assert once[0] == copies[0]
    ends = [np.array(cells[1].strip("[]").split(", "), dtype=float) for cells in (once, copies)]
    # Four copies of every row tell no more than the rows: the interval stays as wide.
    assert np.ptp(ends[1]) == pytest.approx(np.ptp(ends[0]), rel=0.1)
