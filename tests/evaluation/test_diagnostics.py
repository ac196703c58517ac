from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from foldwise.evaluation.diagnostics import (
    calibration,
    confidence_counts,
    coverage,
    most_confident_mistakes,
)

RNG = np.random.default_rng(0)
CONFIDENCE = RNG.uniform(0.2, 1, 500)
RIGHT = RNG.random(500) < CONFIDENCE**2


def test_calibration_bins_agree_with_scikit_learn() -> None:
    bins, error = calibration(CONFIDENCE, RIGHT, bins=10)
    accuracy, confidence = calibration_curve(RIGHT, CONFIDENCE, n_bins=10)
    filled = [b for b in bins if b.rows]
    assert [b.accuracy for b in filled] == pytest.approx(accuracy)
    assert [b.confidence for b in filled] == pytest.approx(confidence)
    rows = np.array([b.rows for b in filled])
    assert error == pytest.approx((rows / 500 * np.abs(accuracy - confidence)).sum())
    assert math.isnan(bins[0].accuracy)


def test_a_calibrated_model_has_no_error() -> None:
    assert calibration(np.array([0.75] * 4), np.array([True, True, True, False]))[1] == 0


def test_confidence_one_falls_into_the_last_bin_and_zero_into_the_first() -> None:
    bins, _ = calibration(np.array([0.0, 1.0]), np.array([False, True]), bins=5)
    assert [b.rows for b in bins] == [1, 0, 0, 0, 1]


def test_coverage_is_what_is_left_at_each_threshold() -> None:
    found = coverage(CONFIDENCE, RIGHT, np.array([0.0, 0.5, 0.9, 1.1]))
    for threshold, share, accuracy in found[:3]:
        kept = threshold <= CONFIDENCE
        assert (share, accuracy) == pytest.approx((kept.mean(), RIGHT[kept].mean()))
    assert found[3][1] == 0
    assert math.isnan(found[3][2])


def test_every_row_is_counted_once_by_confidence() -> None:
    counts = confidence_counts(CONFIDENCE, RIGHT)
    assert counts.sum(axis=0).tolist() == [RIGHT.sum(), (~RIGHT).sum()]


def test_a_confidence_that_rounding_put_above_one_is_counted() -> None:
    above = np.nextafter(1, 2)
    counts = confidence_counts(np.array([above, 1.0]), np.array([True, False]), bins=4)
    assert counts.tolist() == [[0, 0], [0, 0], [0, 0], [1, 1]]
    bins, error = calibration(np.array([above]), np.array([True]), bins=4)
    assert [b.rows for b in bins] == [0, 0, 0, 1]
    assert error == pytest.approx(0)


def test_mistakes_come_most_confident_first() -> None:
    found = most_confident_mistakes(
        np.array([0.9, 0.8, 0.95, 0.7]), np.array([False, True, False, False]), most=2
    )
    assert found.tolist() == [2, 0]
