"""Thresholds a label: probabilities and true label sets in, from which probability each counts out.

Where F1 judges, one half is the wrong threshold: the best one is half of the F1 that can be reached
(Lipton, Elkan and Naryanaswamy 2014), so a label that is hard to find should be named from a
probability well below one half. Two estimates of it are averaged, since they err apart: the one
that the probabilities themselves ask for, which trusts their calibration, and the one that was best
on these rows, which hangs on single rows where a label is rare.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from foldwise.decisions.temperature import Floats

HALF = 0.5
_LEAST = 1e-6  # of a threshold: what is impossible isn't named


def f1_thresholds(probabilities: Floats, target: NDArray[Any], *, together: bool) -> Floats:
    """Return thresholds that make F1 large on other rows like these.

    Args:
        probabilities: (n, labels), calibrated.
        target: 0 and 1, (n, labels).
        together: one threshold for all labels (F1 over all decisions alike), not one for each.

    Returns:
        (labels,), each above 0 and up to one half, or up to 1 where the rows ask for it; one half
        for a label that no row has.
    """
    best = best_thresholds(probabilities, target, together=together)
    if together:
        return np.sqrt(best * _expected(probabilities.ravel()))
    found: Floats = np.sqrt(best * [_expected(own) for own in probabilities.T])
    return np.where(target.any(axis=0), found, HALF)


def best_thresholds(probabilities: Floats, target: NDArray[Any], *, together: bool) -> Floats:
    """Return the thresholds that were best on these rows: with them F1 is what could be reached.

    Two sets of probabilities can be compared by it, however they are calibrated.
    """
    if together:
        best = _observed(probabilities.ravel(), target.ravel())
        return np.full(probabilities.shape[1], best)
    pairs = zip(probabilities.T, target.T, strict=True)
    return np.array([_observed(own, true) for own, true in pairs])


def _observed(probabilities: Floats, target: NDArray[Any]) -> float:
    if not target.any():
        return HALF
    order = np.argsort(-probabilities, kind="stable")
    ranked, true = probabilities[order], target[order]
    named = np.arange(1, len(ranked) + 1)
    f1 = 2 * np.cumsum(true) / (named + true.sum())
    # Equal probabilities are named together.
    f1[:-1][ranked[1:] == ranked[:-1]] = 0
    best = int(f1.argmax())
    below = ranked[best + 1] if best + 1 < len(ranked) else 0.0
    return max(float(ranked[best] + below) / 2, _LEAST)


def _expected(probabilities: Floats) -> float:
    # Half of the F1 that is to be expected of naming the most probable rows, at its best.
    ranked = np.sort(probabilities)[::-1]
    named = np.arange(1, len(ranked) + 1)
    f1 = 2 * np.cumsum(ranked) / (named + ranked.sum())
    return max(float(f1.max()) / 2, _LEAST)
