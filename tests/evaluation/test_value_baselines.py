"""Baselines of numbers and of sets of labels."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import r2_score, roc_auc_score

from foldwise.evaluation.baselines import baseline_names, baseline_values, value_column

COLUMNS = (["story"], ["kind", "postcode"], ["size"])


def table(rows: int = 60) -> tuple[pl.DataFrame, np.ndarray]:
    rng = np.random.default_rng(0)
    place = rng.integers(0, 3, rows)
    frame = pl.DataFrame(
        {
            "story": np.array(["small cheap hut", "nice old flat", "huge dear house"])[place],
            "kind": np.array(["a", "b", "c"])[place],
            "postcode": [f"p{i}" for i in range(rows)],
            "size": rng.normal(size=rows),
        }
    )
    return frame, place * 100.0 + rng.normal(size=rows)


def predicted(name: str, target: np.ndarray, labels: bool, frame: pl.DataFrame) -> np.ndarray:
    half = len(frame) // 2
    arguments = (*COLUMNS, "mean", 0)
    return baseline_values(name, frame[:half], frame[half:], target[:half], labels, *arguments)


def test_names_follow_the_task() -> None:
    assert baseline_names([], [], [], "regression") == ("mean", "median")
    assert baseline_names(*COLUMNS, "ordinal") == ("median", "lookup", "tfidf")
    assert baseline_names(*COLUMNS, "multilabel") == ("majority", "lookup", "tfidf")


def test_numbers_get_mean_median_and_the_mean_of_their_category() -> None:
    frame, values = table()
    target = values[:, None]
    half = values[:30]
    assert predicted("mean", target, False, frame)[:, 0] == pytest.approx(half.mean())
    assert predicted("median", target, False, frame)[:, 0] == pytest.approx(np.median(half))
    assert value_column(frame[:30], target[:30], ["postcode", "kind"], 0) == "kind"
    looked_up = predicted("lookup", target, False, frame)[:, 0]
    kinds = frame["kind"].to_numpy()
    expected = [half[kinds[:30] == kind].mean() for kind in kinds[30:]]
    np.testing.assert_allclose(looked_up, expected)


def test_value_that_training_lacks_gets_the_mean_of_all() -> None:
    frame = pl.DataFrame({"kind": ["a", "a", None, "b", None]})
    target = np.array([[1.0], [3.0], [8.0]])
    arguments = ([], ["kind"], [], "mean", 0)
    found = baseline_values("lookup", frame[:3], frame[3:], target, False, *arguments)
    assert found[:, 0].tolist() == [4.0, 8.0]


def test_words_predict_numbers_and_labels() -> None:
    frame, values = table()
    found = predicted("tfidf", values[:, None], False, frame)[:, 0]
    assert r2_score(values[30:], found) > 0.9
    labels = np.stack([values > 50, values < 50, values > -1000], axis=1).astype(float)
    found = predicted("tfidf", labels, True, frame)
    assert ((found >= 0) & (found <= 1)).all()
    assert roc_auc_score(labels[30:, 0], found[:, 0]) == 1
    assert (found[:, 2] == 1).all()  # what every training row has
