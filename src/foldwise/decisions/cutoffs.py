"""Cutoffs of an order: probabilities and true ranks in, from which mean rank on each label out.

Quadratic kappa is 2 cov / (var + var' + (mean - mean')^2) of true and named ranks, the concordance
of Lin (1989) on ranks. A median, or a rounded mean rank, is too near the middle for it: what is
unsure varies less than the truth. Of all straight lines through mean ranks the best is the one that
gives them the mean and deviation of the true ranks: kappa is then their correlation. The cutoffs
are where that line passes from one rank to the next, so that nothing is searched for.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from foldwise.decisions.temperature import Floats

_CONSTANT = 1e-9  # ranks: what deviates less says the same of every row


def matched_cutoffs(probabilities: Floats, target: NDArray[Any]) -> Floats:
    """Return from which mean rank on the labels above the lowest are named.

    Args:
        probabilities: (n, classes), from the lowest to the highest.
        target: ranks from 0 (n,), of rows that no member was trained on.

    Returns:
        (classes - 1,), rising.
    """
    ranks = mean_ranks(probabilities)
    spread, wanted = float(ranks.std()), float(target.std())
    told = spread > _CONSTANT and wanted > _CONSTANT
    slope = wanted / spread if told else 1.0
    steps = np.arange(probabilities.shape[1] - 1) + 0.5
    cutoffs: Floats = ranks.mean() + (steps - target.mean()) / slope
    return cutoffs


def ranks_of(probabilities: Floats, cutoffs: Floats) -> NDArray[np.int64]:
    """Return the rank that each row is named by, (n,): how many cutoffs its mean rank reaches."""
    return np.searchsorted(cutoffs, mean_ranks(probabilities), side="right")


def mean_ranks(probabilities: Floats) -> Floats:
    """Return the ranks that are to be expected, (n,)."""
    ranks: Floats = probabilities @ np.arange(probabilities.shape[1], dtype=np.float64)
    return ranks
