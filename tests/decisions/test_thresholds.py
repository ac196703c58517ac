"""Thresholds: by brute force, and by the law that the best one is half of the F1 reached."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score

from foldwise.decisions.thresholds import best_thresholds, f1_thresholds

RNG = np.random.default_rng(0)


def made(n: int = 3000) -> tuple[np.ndarray, np.ndarray]:
    values = RNG.beta(0.4, 3, size=(n, 2)) * np.array([1.0, 0.6])
    return values, (RNG.random(values.shape) < values).astype(np.int64)


def test_the_best_thresholds_are_those_of_trying_all() -> None:
    values, target = made(60)
    found = best_thresholds(values, target, together=False)
    for label in range(2):
        tried = [
            f1_score(target[:, label], values[:, label] >= t, zero_division=0)
            for t in np.append(values[:, label], 0.0)
        ]
        reached = f1_score(target[:, label], values[:, label] >= found[label])
        assert reached == pytest.approx(max(tried))


def test_thresholds_are_half_of_the_f1_that_is_reached() -> None:
    values, target = made()
    for threshold, own, true in zip(
        f1_thresholds(values, target, together=False), values.T, target.T, strict=True
    ):
        assert threshold == pytest.approx(f1_score(true, own >= threshold) / 2, abs=0.04)


def test_one_threshold_for_all_labels_makes_micro_f1_large() -> None:
    values, target = made()
    found = f1_thresholds(values, target, together=True)
    assert found[0] == found[1]
    at_half = f1_score(target, values >= 0.5, average="micro")
    assert f1_score(target, values >= found, average="micro") > at_half + 0.1


def test_a_label_that_no_row_has_keeps_a_half() -> None:
    values, target = made(50)
    target[:, 1] = 0
    assert f1_thresholds(values, target, together=False)[1] == 0.5


def test_equal_probabilities_are_named_together() -> None:
    values, target = np.array([[0.3], [0.3], [0.1]]), np.array([[1], [0], [0]])
    assert 0.1 < best_thresholds(values, target, together=False)[0] < 0.3
