"""From the folds' files to the run's scores, with the folds' files made by hand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import accuracy_score, f1_score

from foldwise.config.schema import Config
from foldwise.evaluation import summary
from foldwise.evaluation.summary import summarize
from foldwise.parts.usercode import UserCode
from foldwise.run.files import to_json, write_parquet
from foldwise.run.folder import FoldFolder, RunFolder
from foldwise.run.readers import read_json
from foldwise.run.seal import add, commit
from foldwise.tasks.multiclass import Multiclass
from foldwise.tasks.predictions import mean_of_models
from made_runs import leave_a_model

CLASSES = ["a", "b", "c"]


def table(
    rows: list[int], repeat: int | None, fold: int | None, target: list[str], logits: np.ndarray
) -> pl.DataFrame:
    columns = {"row": rows, "repeat": [repeat] * len(rows), "fold": [fold] * len(rows)}
    types = {"row": pl.Int64, "repeat": pl.Int32, "fold": pl.Int32}
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return pl.DataFrame(columns, schema=types).with_columns(
        pl.Series("target", target),
        pl.Series("prediction", [CLASSES[i] for i in logits.argmax(axis=1)]),
        *(pl.Series(f"prob_{name}", probabilities[:, i]) for i, name in enumerate(CLASSES)),
        *(pl.Series(f"logit_{name}", logits[:, i]) for i, name in enumerate(CLASSES)),
    )


def seal_scores(fold: FoldFolder, scores: dict[str, float]) -> None:
    """Seal what a fold's validation leaves."""
    left = [fold.predictions, fold.holdout]
    commit(fold.path, "validated", left, fold.validation, to_json({"scores": scores}))
    add(fold.path, "members", [])


@pytest.fixture
def prepared(tmp_path: Path) -> Any:
    """Two repeats of two folds of 20 rows, and a holdout of 6, as validation leaves them."""
    config = Config.model_validate(
        {
            "run": {"name": "made", "dir": str(tmp_path)},
            "data": {"path": "a.csv", "target": "label", "text": ["text"]},
            "folds": {"n": 2, "repeats": 2},
            "metrics": ["f1_macro", "accuracy"],
            "trackers": [],
            "baselines": False,
            "ensemble": "model",
            "calibration": "none",
        }
    )
    task = Multiclass(config, UserCode())
    task.classes = CLASSES
    run = RunFolder(tmp_path / "made")
    rng = np.random.default_rng(0)
    labels = rng.choice(CLASSES, size=26).tolist()
    for number in (1, 2, 3, 4):
        fold = run.fold(number)
        fold.path.mkdir(parents=True)
        rows = [row for row in range(20) if row % 2 == number % 2]
        own = table(
            rows, (number + 1) // 2, number, [labels[r] for r in rows], rng.normal(size=(10, 3))
        )
        write_parquet(fold.predictions, own)
        held = table(list(range(20, 26)), None, number, labels[20:], rng.normal(size=(6, 3)))
        write_parquet(fold.holdout, held)
        scores = {
            "f1_macro": f1_score(own["target"], own["prediction"], average="macro"),
            "accuracy": accuracy_score(own["target"], own["prediction"]),
        }
        leave_a_model(fold)
        seal_scores(fold, scores)
    run.append_log("started")
    return SimpleNamespace(
        config=config,
        run=run,
        task=task,
        folds=[1, 2, 3, 4],
        holdout=pl.DataFrame({"row": range(20, 26)}),
        assignment=SimpleNamespace(groups=lambda rows: rows),
        code=UserCode([]),
        online=False,
    )


def test_pooled_scores_are_over_all_rows_and_means_over_whole_folds(prepared: Any) -> None:
    metrics = summarize(prepared)
    assert metrics == read_json(prepared.run.metrics)
    oof = pl.read_parquet(prepared.run.out_of_fold)
    expected = f1_score(oof["target"], oof["prediction"], average="macro")
    assert metrics["oof"]["f1_macro"]["value"] == pytest.approx(expected, abs=1e-6)
    folds = [
        f1_score(part["target"], part["prediction"], average="macro")
        for part in (oof.filter(pl.col("fold") == n) for n in (1, 2, 3, 4))
    ]
    assert metrics["mean"]["f1_macro"] == pytest.approx(np.mean(folds), abs=1e-6)
    assert metrics["std"]["f1_macro"] == pytest.approx(np.std(folds, ddof=1), abs=1e-6)
    assert abs(expected - np.mean(folds)) > 1e-3  # so the two can't be mistaken for each other
    interval = metrics["oof"]["f1_macro"]
    assert interval["low"] < interval["value"] < interval["high"]


def test_every_row_stands_once_a_repeat_in_order(prepared: Any) -> None:
    summarize(prepared)
    oof = pl.read_parquet(prepared.run.out_of_fold)
    assert oof.select("repeat", "row").rows() == [(r, row) for r in (1, 2) for row in range(20)]


def test_holdout_is_scored_by_the_mean_probability(prepared: Any) -> None:
    metrics = summarize(prepared)
    held = pl.read_parquet(prepared.run.holdout)
    folds = [pl.read_parquet(prepared.run.fold(n).holdout) for n in (1, 2, 3, 4)]
    mean = np.mean([fold.select("^prob_.*$").to_numpy() for fold in folds], axis=0)
    np.testing.assert_allclose(held.select("^prob_.*$").to_numpy(), mean, atol=1e-12)
    np.testing.assert_allclose(held.select("^logit_.*$").to_numpy(), np.log(mean), atol=1e-12)
    prediction = np.array(CLASSES)[mean.argmax(axis=1)]
    assert held["prediction"].to_list() == prediction.tolist()
    value = metrics["holdout"]["accuracy"]["value"]
    assert value == pytest.approx(accuracy_score(held["target"], prediction), abs=1e-6)
    assert metrics["rows"] == {"oof": 40, "holdout": 6}


def test_mean_of_models_can_differ_from_the_majority_of_their_labels() -> None:
    # Two models lean to b by a little, one to a by a lot.
    tables = [
        pl.DataFrame({"fold": [k], "prediction": [label], "prob_a": [a], "prob_b": [1 - a],
                      "logit_a": [0.0], "logit_b": [0.0]})
        for k, (label, a) in enumerate([("b", 0.45), ("b", 0.45), ("a", 0.9)])
    ]  # fmt: skip
    found = mean_of_models(tables)
    assert found["prob_a"].to_list() == pytest.approx([0.6])
    assert found["prediction"].to_list() == ["a"]
    assert found["fold"].to_list() == [None]


def test_probability_of_zero_has_a_finite_logit() -> None:
    one = pl.DataFrame({"prediction": ["a"], "prob_a": [1.0], "prob_b": [0.0]})
    found = mean_of_models([one])
    assert found["logit_a"].to_list() == [0.0]
    assert np.isfinite(found["logit_b"][0])


def test_score_that_a_fold_does_not_have_leaves_no_mean(prepared: Any) -> None:
    fold = prepared.run.fold(2)
    seal_scores(fold, read_json(fold.validation)["scores"] | {"f1_macro": float("nan")})
    metrics = summarize(prepared)
    assert metrics["folds"]["2"]["f1_macro"] is None
    assert metrics["mean"]["f1_macro"] is None
    assert metrics["std"]["f1_macro"] is None
    assert metrics["mean"]["accuracy"] > 0


def test_one_fold_has_no_deviation(prepared: Any) -> None:
    prepared.folds = [1]
    metrics = summarize(prepared)
    assert metrics["std"] == {"f1_macro": None, "accuracy": None}
    assert metrics["mean"] == metrics["folds"]["1"]


def test_run_without_holdout_has_none(prepared: Any) -> None:
    prepared.holdout = None
    assert summarize(prepared)["holdout"] is None
    assert not prepared.run.holdout.exists()


def test_metrics_are_written_last_so_a_run_that_has_them_has_all(
    prepared: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(summary, "commit", full)
    with pytest.raises(OSError, match="No space"):
        summarize(prepared)
    assert prepared.run.out_of_fold.exists()
    assert prepared.run.holdout.exists()
    assert not prepared.run.finished


def test_a_tempered_answers_holdout_is_the_mean_of_tempered_folds(prepared: Any) -> None:
    prepared.config = prepared.config.model_copy(update={"calibration": "temperature"})
    metrics = summarize(prepared)
    temperature = metrics["answer"]["temperature"]
    assert temperature > 1.5  # the folds guess, and are sure of it
    assert set(metrics["answer"]["folds"]) == {"1", "2", "3", "4"}
    powers = [
        np.exp(pl.read_parquet(prepared.run.fold(n).holdout).select("^logit_.*$").to_numpy())
        ** (1 / temperature)
        for n in (1, 2, 3, 4)
    ]
    mean = np.mean([p / p.sum(axis=1, keepdims=True) for p in powers], axis=0)
    held = pl.read_parquet(prepared.run.holdout).select("^prob_.*$").to_numpy()
    np.testing.assert_allclose(held, mean, atol=1e-9)
    raw = pl.read_parquet(prepared.run.member("model").out_of_fold)
    oof = pl.read_parquet(prepared.run.out_of_fold)
    assert oof["prediction"].equals(raw["prediction"])
    assert not oof["prob_a"].equals(raw["prob_a"])


def test_sets_are_judged_out_of_fold_and_on_the_holdout_by_class(prepared: Any) -> None:
    found = summarize(prepared)["answer"]["sets"]
    assert found["level"] == 0.9
    for estimate, rows in (("oof", 40), ("holdout", 6)):
        judged = found[estimate]
        assert judged["rows"] == rows == sum(each["rows"] for each in judged["classes"])
        hits = sum(each["rows"] * each["coverage"] for each in judged["classes"])
        assert judged["coverage"] == pytest.approx(hits / rows)
        assert judged["by_class"]["size"] >= 2.5  # of so few rows a class is hardly ruled out
    assert 0.75 <= found["oof"]["coverage"] <= 1
