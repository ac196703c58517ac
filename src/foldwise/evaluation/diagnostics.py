"""What stands behind a score: out-of-fold probabilities in, calibration, coverage and mistakes out.

Plain functions of arrays; the report draws what they return.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
BINS = 15
_DRAWS = 100


@dataclass(frozen=True)
class Bin:
    """Rows of like confidence.

    Attributes:
        rows: how many there are.
        confidence: their mean confidence.
        accuracy: the share of them that is right.
    """

    rows: int
    confidence: float
    accuracy: float


def calibration(confidence: Floats, right: Flags, bins: int = BINS) -> tuple[list[Bin], float]:
    """Set confidence against accuracy, and sum up their distance.

    Args:
        confidence: (n,) probability of the predicted class.
        right: (n,) whether it was the target.
        bins: of equally many rows, by confidence: of equal width, most rows of a sure model would
            lie in the last one, and its error be averaged away (Nixon et al. 2019).

    Returns:
        The bins that have rows, and the expected calibration error: the mean distance of
        confidence and accuracy over the bins, weighted by rows (Guo et al. 2017, eq. 3).
    """
    order = np.argsort(confidence, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    made = [Bin(len(p), float(confidence[p].mean()), float(right[p].mean())) for p in parts]
    distances = [each.rows * abs(each.confidence - each.accuracy) for each in made]
    return made, sum(distances) / len(confidence)


def chance_error(confidence: Floats, bins: int = BINS) -> float:
    """Return the calibration error of confidences that come true exactly as often as they say.

    It isn't zero: the rows of a bin are right more or less often by chance. The mean of draws.
    """
    random = np.random.default_rng(0)
    draws = (random.random(len(confidence)) < confidence for _ in range(_DRAWS))
    return float(np.mean([calibration(confidence, right, bins)[1] for right in draws]))


def coverage(
    confidence: Floats, right: Flags, thresholds: Floats
) -> list[tuple[float, float, float]]:
    """Say what is left, and how right it is, if only confident predictions are kept.

    Args:
        confidence: (n,).
        right: (n,).
        thresholds: (t,).

    Returns:
        For each threshold it, the share of rows with at least that confidence, and the accuracy on
        them (nan where none are left).
    """
    order = np.argsort(confidence)
    ranked = confidence[order]
    wins = np.concatenate([[0], np.cumsum(right[order])])
    found = []
    for threshold in thresholds:
        first = int(np.searchsorted(ranked, threshold, side="left"))
        kept = len(ranked) - first
        accuracy = (wins[-1] - wins[first]) / kept if kept else float("nan")
        found.append((float(threshold), kept / len(ranked), float(accuracy)))
    return found


def confidence_counts(confidence: Floats, right: Flags, bins: int = 20) -> NDArray[np.int64]:
    """Count right and wrong predictions by confidence: (bins, 2), right first."""
    edges = np.linspace(0, 1, bins + 1)
    # Sums of probabilities may be a rounding error above 1, which lies in no bin.
    sure = np.minimum(confidence, 1)
    both = [np.histogram(sure[right == which], edges)[0] for which in (True, False)]
    return np.stack(both, axis=1).astype(np.int64)


def most_confident_mistakes(confidence: Floats, right: Flags, most: int) -> NDArray[np.intp]:
    """Return the positions of wrong predictions, the most confident first."""
    wrong = np.flatnonzero(~right)
    return wrong[np.argsort(-confidence[wrong], kind="stable")][:most]
