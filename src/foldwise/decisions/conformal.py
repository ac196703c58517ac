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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foldwise.decisions.temperature import Floats

Ids = NDArray[np.int64]
Flags = NDArray[np.bool_]

_ROUNDING = 1e-9  # 1 - 0.9 isn't 0.1
_HALVINGS = 60  # of a range, down to the last digits of its numbers


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
    folds = []
    for number, made in new.items():
        here = known.fold == number
        order = np.argsort(error[here])
        sums = np.concatenate([[0.0], np.cumsum(weight[here][order])])
        folds.append((made, error[here][order], sums))
    above = [(-made, errors, sums) for made, errors, sums in folds]
    return _lower_end(folds, 1 - level), -_lower_end(above, 1 - level)


def _weight_up_to(wanted: Floats, values: Floats, weight: Floats) -> Floats:
    # Of each wanted value, the weight of what isn't above it.
    order = np.argsort(values)
    sums = np.concatenate([[0.0], np.cumsum(weight[order])])
    found: Floats = sums[np.searchsorted(values[order], wanted, side="right")]
    return found


def _lower_end(folds: Sequence[tuple[Floats, Floats, Floats]], miss: float) -> Floats:
    """Return the smallest number that can't be ruled out from below, by halving.

    Args:
        folds: of each the new rows' numbers (m,), the known rows' errors in their order, and sums
            of their weights from zero on.
        miss: share that may lie below.
    """
    made = np.stack([each for each, _, _ in folds])
    total = sum(float(sums[-1]) for _, _, sums in folds)
    allowed = miss * (1 + total) - 1 + _ROUNDING
    if allowed < 0:
        return np.full(made.shape[1], -np.inf)
    most = max((float(errors[-1]) for _, errors, _ in folds if len(errors)), default=0.0)
    low, high = made.min(axis=0) - most - 1, made.max(axis=0) + most
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        # The weight of known rows whose error reaches down to the middle.
        reached = sum(
            sums[-1] - sums[np.searchsorted(errors, each - middle, side="left")]
            for each, errors, sums in folds
        )
        stays = reached > allowed
        low, high = np.where(stays, low, middle), np.where(stays, middle, high)
    return np.asarray(high)
