from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from foldwise.evaluation.diagnostics import (
    calibration,
    chance_error,
    confidence_counts,
    coverage,
    most_confident_mistakes,
)

RNG = np.random.default_rng(0)
CONFIDENCE = RNG.uniform(0.2, 1, 500)
RIGHT = RNG.random(500) < CONFIDENCE**2


def test_calibration_bins_agree_with_scikit_learn() -> None:
    bins, error = calibration(CONFIDENCE, RIGHT, bins=10)
    accuracy, confidence = calibration_curve(RIGHT, CONFIDENCE, n_bins=10, strategy="quantile")
    assert [b.accuracy for b in bins] == pytest.approx(accuracy)
    assert [b.confidence for b in bins] == pytest.approx(confidence)
    assert [b.rows for b in bins] == [50] * 10
    assert error == pytest.approx(np.abs(accuracy - confidence).mean())


def test_a_calibrated_model_has_no_error() -> None:
    assert calibration(np.array([0.75] * 4), np.array([True, True, True, False]), bins=1)[1] == 0


def test_fewer_rows_than_bins_are_a_bin_each() -> None:
    bins, error = calibration(np.array([1.0, 0.5]), np.array([True, False]))
    assert [(b.rows, b.confidence) for b in bins] == [(1, 0.5), (1, 1.0)]
    assert error == pytest.approx(0.25)


def test_what_is_exactly_right_has_the_error_of_chance() -> None:
    right = RNG.random((200, 500)) < CONFIDENCE
    errors = [calibration(CONFIDENCE, each)[1] for each in right]
    assert chance_error(CONFIDENCE) == pytest.approx(np.mean(errors), abs=0.004)
    assert calibration(CONFIDENCE, RIGHT)[1] > 2 * chance_error(CONFIDENCE)


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


def test_mistakes_come_most_confident_first() -> None:
    found = most_confident_mistakes(
        np.array([0.9, 0.8, 0.95, 0.7]), np.array([False, True, False, False]), most=2
    )
    assert found.tolist() == [2, 0]
