"""What stands behind a score: out-of-fold probabilities in, calibration, coverage and mistakes out.

Plain functions of arrays; the report draws what they return.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Bin:
    """Rows whose confidence lies between two bounds.

    Attributes:
        low: lower bound, not included except for 0.
        high: upper bound, included.
        rows: how many there are.
        confidence: their mean confidence; nan without rows.
        accuracy: the share of them that is right; nan without rows.
    """

    low: float
    high: float
    rows: int
    confidence: float
    accuracy: float


def calibration(confidence: Floats, right: Flags, bins: int = 15) -> tuple[list[Bin], float]:
    """Set confidence against accuracy, and sum up their distance.

    Args:
        confidence: (n,) probability of the predicted class.
        right: (n,) whether it was the target.
        bins: of equal width between 0 and 1.

    Returns:
        The bins, and the expected calibration error: the mean distance of confidence and accuracy
        over the bins, weighted by rows (Guo et al. 2017, eq. 3).
    """
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    made, error = [], 0.0
    for i in range(bins):
        inside = place == i
        rows = int(inside.sum())
        mean = float(confidence[inside].mean()) if rows else float("nan")
        accuracy = float(right[inside].mean()) if rows else float("nan")
        made.append(Bin(float(edges[i]), float(edges[i + 1]), rows, mean, accuracy))
        if rows:
            error += rows / len(confidence) * abs(mean - accuracy)
    return made, error


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
