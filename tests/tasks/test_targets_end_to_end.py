"""Each kind of target through folds, training, validation, holdout and new rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.metrics import (
    cohen_kappa_score,
    f1_score,
    hamming_loss,
    mean_absolute_error,
    mean_squared_error,
    r2_score,
    roc_auc_score,
)

from conftest import PRECISION, make_table
from foldwise.commands.labelling import Models
from foldwise.commands.predict import Written, predict
from foldwise.config.load import load_config
from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError
from foldwise.parts.usercode import UserCode
from foldwise.predictor import Predictor
from foldwise.preparation.build import build_task
from foldwise.preparation.resolve import resolve
from foldwise.run.folder import RunFolder
from foldwise.run.readers import read_json
from foldwise.table.written import NewTable
from foldwise.workflow import cross_validate, validate

NUMBERS = {"card": 100.0, "loan": 130.0, "debt": 190.0}
RATINGS = {"card": "low", "loan": "middle", "debt": "high"}
SETS = {"card": ["card", "bank"], "loan": ["bank"], "debt": []}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables: Parquet with a list column, JSONL for new rows."""
    path = tmp_path_factory.mktemp("targets")
    for name, rows in (("table", 48), ("new", 9)):
        table = make_table(rows=rows, seed=rows)
        rng = np.random.default_rng(rows)
        table = table.with_columns(
            price=pl.col("label").replace_strict(NUMBERS) + rng.normal(size=rows),
            rating=pl.col("label").replace_strict(RATINGS),
            tags=pl.Series([SETS[label] for label in table["label"]]),
        ).with_columns(stamp=pl.col("price") + 1.7e9)
        table.write_parquet(path / f"{name}.parquet")
        table.write_ndjson(path / f"{name}.jsonl")
    return path


@pytest.fixture(scope="module", autouse=True)
def _no_charts() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("foldwise.charts.learning_curves.learning_curves", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def run_of(folder: Path, backbone: Path) -> Callable[..., RunFolder]:
    """Run a task with holdout and baselines, once a module."""
    done: dict[str, RunFolder] = {}

    def run(task: str, target: str, **data: Any) -> RunFolder:
        name = f"{task}-{target}"
        if name not in done:
            config = Config.model_validate(
                {
                    "run": {"name": name, "dir": str(folder / "runs"), "seed": 7},
                    "task": task,
                    "data": {
                        "path": str(folder / "table.parquet"),
                        "target": target,
                        "text": ["text"],
                        "categorical": ["kind"],
                        **data,
                    },
                    "holdout": {"fraction": 0.2},
                    "folds": {"n": 2, "duplicates": "identical"},
                    "selection": {"rows": "inner"},
                    "text": {"max_length": 16},
                    "model": {"backbone": str(backbone)},
                    "optimizer": {"lr": 3e-3, "head_lr": 1e-2},
                    "training": {
                        "epochs": 2,
                        "batch_size": 8,
                        "device": "cpu",
                        "precision": PRECISION,
                    },
                    "trackers": [],
                }
            )
            done[name] = cross_validate(config)
        return done[name]

    return run


def scores_of(run: RunFolder) -> tuple[dict[str, float], pl.DataFrame]:
    """The out-of-fold scores by metric, and the rows they are of."""
    oof = read_json(run.metrics)["oof"]
    for entry in oof.values():
        assert entry["low"] <= entry["value"] <= entry["high"]
    return {name: entry["value"] for name, entry in oof.items()}, pl.read_parquet(run.out_of_fold)


def model_of(run: RunFolder) -> dict[str, float]:
    """The model's own out-of-fold scores, beside the answer's."""
    oof = read_json(run.metrics)["members"]["model"]["oof"]
    return {name: entry["value"] for name, entry in oof.items()}


def validates_alike(run: RunFolder) -> None:
    before = run.metrics.read_bytes()
    validate(run.path, precision=PRECISION)
    assert run.metrics.read_bytes() == before


def test_regression_scores_in_the_units_of_the_target(
    run_of: Callable[..., RunFolder], folder: Path
) -> None:
    run = run_of("regression", "price")
    scores, oof = scores_of(run)
    target, prediction = oof["target"].to_numpy(), oof["prediction"].to_numpy()
    assert oof.columns == ["row", "repeat", "fold", "target", "prediction"]
    assert list(scores) == ["rmse", "mae", "r2", "spearman"]
    assert scores["rmse"] == pytest.approx(mean_squared_error(target, prediction) ** 0.5)
    assert scores["mae"] == pytest.approx(mean_absolute_error(target, prediction))
    assert scores["r2"] == pytest.approx(r2_score(target, prediction))
    assert scores["spearman"] == pytest.approx(spearmanr(target, prediction).statistic)
    assert scores["rmse"] < np.std(target)
    assert model_of(run)["rmse"] < np.std(target)  # it learns
    table = pl.read_parquet(folder / "table.parquet")
    assert target.tolist() == table[oof["row"].to_list()]["price"].to_list()
    metrics = read_json(run.metrics)
    assert list(metrics["baselines"]) == ["mean", "median", "lookup", "linear"]
    assert metrics["smaller_is_better"] == ["rmse", "mae"]
    errors = {name: b["oof"]["rmse"]["value"] for name, b in metrics["baselines"].items()}
    assert errors["lookup"] < errors["mean"] / 2  # kind tells the label
    held = pl.read_parquet(run.member("model").holdout)
    mean = np.mean([pl.read_parquet(run.fold(n).holdout)["prediction"] for n in (1, 2)], axis=0)
    np.testing.assert_allclose(held["prediction"], mean)
    validates_alike(run)


def test_numbers_far_from_zero_are_learnt_as_well_as_those_near_it(
    run_of: Callable[..., RunFolder],
) -> None:
    # As float32 all of the far ones were 1.7e9, give or take 128.
    near, far = run_of("regression", "price"), run_of("regression", "stamp")
    errors = [read_json(run.metrics)["oof"]["rmse"]["value"] for run in (near, far)]
    assert errors[1] == pytest.approx(errors[0], rel=1e-4)
    assert pl.read_parquet(far.out_of_fold).schema["prediction"] == pl.Float64
    baselines = [read_json(run.metrics)["baselines"] for run in (near, far)]
    for name in ("mean", "median", "lookup", "linear"):
        values = [b[name]["oof"]["rmse"]["value"] for b in baselines]
        assert values[1] == pytest.approx(values[0], rel=1e-4)


def test_ordinal_probabilities_and_scores_follow_the_order(
    run_of: Callable[..., RunFolder],
) -> None:
    run = run_of("ordinal", "rating", order=["low", "middle", "high"])
    scores, oof = scores_of(run)
    ranks = {"low": 0, "middle": 1, "high": 2}
    target, prediction = (
        [ranks[label] for label in oof[name]] for name in ("target", "prediction")
    )
    kappa = cohen_kappa_score(target, prediction, weights="quadratic")
    assert scores["quadratic_kappa"] == pytest.approx(kappa)
    assert scores["mae"] == pytest.approx(mean_absolute_error(target, prediction))
    probabilities = oof.select("prob_low", "prob_middle", "prob_high").to_numpy()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert prediction == (probabilities.cumsum(axis=1) < 0.5).sum(axis=1).tolist()  # the median
    assert oof.columns[-2:] == ["logit_above_low", "logit_above_middle"]
    assert model_of(run)["quadratic_kappa"] > 0.1  # it learns: chance is 0
    assert list(read_json(run.metrics)["baselines"]) == ["median", "lookup", "linear"]
    labels = [entry["label"] for entry in read_json(run.fold(1).validation)["per_class"]]
    assert labels == list(ranks)
    held = pl.read_parquet(run.member("model").holdout).select("^prob_.*$").to_numpy()
    tables = [pl.read_parquet(run.fold(n).holdout).select("^prob_.*$") for n in (1, 2)]
    np.testing.assert_allclose(held, np.mean([table.to_numpy() for table in tables], axis=0))
    validates_alike(run)


def test_multilabel_rows_have_any_number_of_labels(run_of: Callable[..., RunFolder]) -> None:
    run = run_of("multilabel", "tags")
    scores, oof = scores_of(run)
    assert set(oof["target"]) == {"bank;card", "bank", ""}
    target, prediction = (
        np.array([[name in cell.split(";") for name in ("bank", "card")] for cell in oof[column]])
        for column in ("target", "prediction")
    )
    probabilities = oof.select("prob_bank", "prob_card").to_numpy()
    np.testing.assert_array_equal(prediction, probabilities >= 0.5)
    logits = oof.select("logit_bank", "logit_card").to_numpy()
    np.testing.assert_allclose(probabilities, 1 / (1 + np.exp(-logits)))
    expected = f1_score(target, prediction, average="macro", zero_division=0)
    assert scores["f1_macro"] == pytest.approx(expected)
    assert scores["hamming_loss"] == pytest.approx(hamming_loss(target, prediction))
    assert roc_auc_score(target, probabilities, average="macro") > 0.7  # it learns
    assert list(read_json(run.metrics)["baselines"]) == ["majority", "lookup", "linear"]
    entry = read_json(run.fold(1).validation)["per_class"][1]
    in_fold = oof.filter(pl.col("fold") == 1)["target"]
    assert entry["label"] == "card"
    assert entry["support"] == sum("card" in cell for cell in in_fold)
    validates_alike(run)


def test_a_new_model_of_labels_begins_at_their_shares(make_config: Callable[..., Config]) -> None:
    frame = pl.DataFrame({"text": ["card fee"] * 6, "label": ["a;b", *4 * ["b"], ""]})
    config = make_config(task="multilabel", data={"rare_classes": "drop"}, folds={"n": 2})
    task = build_task(resolve(config), UserCode())
    task.fit_target(frame)
    task.fit_rows(frame)
    model = task.build_model().eval()
    with torch.no_grad():
        batch = task.collate([task.dataset(frame)[0]])
        logits = model(**{name: value for name, value in batch.items() if name != "target"})
    assert task.classes == ["b"]
    assert logits.sigmoid().item() == pytest.approx(6 / 8, abs=0.05)


@pytest.mark.parametrize(
    ("task", "target", "data"),
    [
        ("regression", "price", {}),
        ("ordinal", "rating", {"order": ["low", "middle", "high"]}),
        ("multilabel", "tags", {}),
    ],
)
def test_new_rows_are_predicted_and_evaluated(
    run_of: Callable[..., RunFolder],
    folder: Path,
    tmp_path: Path,
    task: str,
    target: str,
    data: dict[str, Any],
) -> None:
    run = run_of(task, target, **data)
    predictor = Predictor(run.path)
    frame = predictor.read(str(folder / "new.jsonl"), labelled=True)
    table = predictor.predict(frame)
    arrays = predictor.task.to_arrays(table)
    shown = {m.name: m.compute(*arrays) for m in predictor.task.metrics()}
    assert list(shown) == list(read_json(run.metrics)["oof"])
    assert len(arrays[0]) == 9
    predict(Models(run.path), NewTable(str(folder / "new.jsonl")), Written(tmp_path / "out.csv"))
    written = pl.read_csv(tmp_path / "out.csv", infer_schema=task == "regression")
    expected = table["prediction"].to_list()
    if task == "regression":
        np.testing.assert_allclose(written["prediction"], expected)
        assert written.columns == ["row", "prediction", "problem"]
    else:
        assert written["prediction"].to_list() == expected


def test_resolved_config_is_read_back_and_the_finished_run_left_alone(
    run_of: Callable[..., RunFolder],
) -> None:
    run = run_of("regression", "price")
    config = load_config(run.config)
    assert config.selection.metric == "rmse"
    assert (config.loss.name, config.loss.class_weights) == ("mse", "none")
    before = run.metrics.stat().st_mtime_ns
    cross_validate(config)
    assert run.metrics.stat().st_mtime_ns == before


def test_rating_that_only_the_new_rows_have_is_refused(
    run_of: Callable[..., RunFolder], tmp_path: Path
) -> None:
    run = run_of("ordinal", "rating", order=["low", "middle", "high"])
    row = {"text": "the card", "kind": "c0", "rating": "highest"}
    (tmp_path / "odd.jsonl").write_text(json.dumps(row) + "\n")
    predictor = Predictor(run.path)
    table = predictor.predict(predictor.read(str(tmp_path / "odd.jsonl"), labelled=True))
    with pytest.raises(FoldwiseError, match=r"^column 'rating': label 'highest' isn't among those"):
        predictor.task.to_arrays(table)
