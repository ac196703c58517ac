"""Sets and intervals that hold the truth as often as is asked: out-of-fold rows in, new rows' out.

New rows are answered by several folds, so a row of a fold is compared with what its own fold says
of the new row (cross-conformal prediction, Vovk 2015; CV+, Barber et al. 2021; Romano, Sesia and
Candès 2020): a value is left out where nearly all known rows were stranger than they would be.
Compared with the mean of the folds instead, which is better than any of them, sets would be larger
than need be. With a single fold this is split conformal prediction (Papadopoulos et al. 2002).

How strange a row is: one minus the probability of its class, which gives the smallest sets
(Sadinle, Lei and Wasserman 2019); the distance of a number. A group of near-duplicates is one
observation, of which each row is a part: the promise is for a row of a new group (Dunn, Wasserman
and Ramdas 2022).

What is proved is that at most twice the asked share is missed; what is seen is the asked share.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foldwise.decisions.temperature import Floats

Ids = NDArray[np.int64]
Flags = NDArray[np.bool_]

_ROUNDING = 1e-9  # 1 - 0.9 isn't 0.1
_CELLS = 4_000_000  # known rows times new rows that are compared at once


@dataclass(frozen=True)
class Known:
    """Rows whose truth is known, answered by what never saw them.

    Attributes:
        values: probabilities of classes (n, k), or numbers (n, 1).
        target: class ids, int64 (n,), or numbers, float64 (n,).
        fold: the fold that answered each, (n,).
        group: near-duplicates have equal numbers, and so have repeats of a row, (n,).
    """

    values: Floats
    target: NDArray[np.int64] | Floats
    fold: Ids
    group: Ids

    @property
    def weight(self) -> Floats:
        """Each row's part of its group, (n,)."""
        _, place, size = np.unique(self.group, return_inverse=True, return_counts=True)
        weight: Floats = 1 / size[place]
        return weight

    def part(self, chosen: Flags) -> Known:
        """Return some of the rows."""
        return Known(
            self.values[chosen], self.target[chosen], self.fold[chosen], self.group[chosen]
        )


def label_sets(
    known: Known, new: Mapping[int, Floats], level: float, *, by_class: bool = False
) -> Flags:
    """Return which classes can't be ruled out for new rows.

    Args:
        known: with probabilities and class ids.
        new: by fold, probabilities of the new rows (m, k); folds without known rows don't count.
        level: share of new rows whose class shall be in their set, between 0 and 1.
        by_class: hold the level for the rows of each class, by known rows of that class alone; a
            class with fewer than 1 / (1 - level) - 1 groups is in every set.

    Returns:
        (m, k). A set can be empty: the row is less like any class than nearly all known rows.
    """
    weight = known.weight
    shape = next(iter(new.values())).shape
    stranger, total = np.zeros(shape), np.zeros(shape[1])
    own = known.values[np.arange(len(weight)), known.target.astype(np.int64)]
    for number, values in new.items():
        here = known.fold == number
        for label in range(shape[1]):
            chosen = here & (known.target == label) if by_class else here
            stranger[:, label] += _weight_up_to(values[:, label], own[chosen], weight[chosen])
            total[label] += weight[chosen].sum()
    sets: Flags = (1 + stranger) / (1 + total) > 1 - level + _ROUNDING
    return sets


def number_intervals(
    known: Known, new: Mapping[int, Floats], level: float
) -> tuple[Floats, Floats]:
    """Return between which numbers the truth of new rows lies.

    Args:
        known: with numbers.
        new: by fold, predicted numbers of the new rows (m,); folds without known rows don't count.
        level: share of new rows whose number shall lie in their interval, between 0 and 1.

    Returns:
        Lower and upper ends, (m,); infinite where the known rows are too few for the level.
    """
    weight, error = known.weight, np.abs(known.target - known.values[:, 0])
    here = np.isin(known.fold, list(new))
    weight, error, fold = weight[here], error[here], known.fold[here]
    rows = len(next(iter(new.values())))
    low, high = np.empty(rows), np.empty(rows)
    places = np.searchsorted(list(new), fold)
    made = np.stack(list(new.values()))
    step = max(1, _CELLS // max(1, len(fold)))
    for start in range(0, rows, step):
        of_row = made[places, start : start + step]  # (known, some new rows)
        part = slice(start, start + step)
        low[part] = _lower_end(of_row - error[:, None], weight, 1 - level)
        high[part] = -_lower_end(-of_row - error[:, None], weight, 1 - level)
    return low, high


def _weight_up_to(wanted: Floats, values: Floats, weight: Floats) -> Floats:
    # Of each wanted value, the weight of what isn't above it.
    order = np.argsort(values)
    sums = np.concatenate([[0.0], np.cumsum(weight[order])])
    found: Floats = sums[np.searchsorted(values[order], wanted, side="right")]
    return found


def _lower_end(values: Floats, weight: Floats, miss: float) -> Floats:
    # By column the smallest value that can't be ruled out: 1 + the weight up to it is too much.
    allowed = miss * (1 + weight.sum()) - 1 + _ROUNDING
    if allowed < 0:
        return np.full(values.shape[1], -np.inf)
    order = np.argsort(values, axis=0)
    first = (np.cumsum(weight[order], axis=0) <= allowed).sum(axis=0, keepdims=True)
    ends = np.take_along_axis(values, np.take_along_axis(order, first, axis=0), axis=0)
    return np.asarray(ends[0])
