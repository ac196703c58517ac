"""How good a run is on parts of its rows: a value for each row and the parts in, scores out.

A slice's score is the mean of a value a row has (1 for a right prediction, or its absolute error),
with a bootstrap over groups of near-duplicates, so that small slices are seen to be uncertain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from foldwise.evaluation.bootstrap import percentiles

OTHERS = "(others)"


@dataclass(frozen=True)
class Slice:
    """A part of the rows.

    Attributes:
        name: the column's value, or a range of lengths.
        rows: how many it has.
        score: mean of their values.
        low: lower end of its 95% interval.
        high: upper end.
    """

    name: str
    rows: int
    score: float
    low: float
    high: float


def by_value(
    values: NDArray[np.float64],
    groups: NDArray[np.int64],
    cells: Sequence[str],
    seed: int,
    most: int = 15,
) -> list[Slice]:
    """Score the rows of each value of a column, the frequent ones first.

    Args:
        values: (n,) what is averaged.
        groups: (n,) rows drawn together.
        cells: (n,) the column's values.
        seed: of the bootstrap.
        most: slices in all; rarer values are pooled as "(others)".
    """
    names, place, counts = np.unique(np.array(cells), return_inverse=True, return_counts=True)
    ranked = np.argsort(-counts, kind="stable")
    alone = ranked if len(ranked) <= most else ranked[: most - 1]
    slices = [_slice(str(names[i]), place == i, values, groups, seed) for i in alone]
    if len(ranked) > len(alone):
        rest = ~np.isin(place, alone)
        slices.append(_slice(OTHERS, rest, values, groups, seed))
    return slices


def by_length(
    values: NDArray[np.float64],
    groups: NDArray[np.int64],
    lengths: NDArray[np.int64],
    seed: int,
    parts: int = 6,
) -> list[Slice]:
    """Score the rows by length, in parts of about equally many rows.

    Args:
        values: (n,) what is averaged.
        groups: (n,) rows drawn together.
        lengths: (n,) tokens before truncation.
        seed: of the bootstrap.
        parts: how many; fewer where many rows have the same length.
    """
    inner = np.unique(np.quantile(lengths, np.linspace(0, 1, parts + 1)[1:-1]).astype(np.int64))
    edges = [int(lengths.min()) - 1, *(int(e) for e in inner), int(lengths.max())]
    slices = []
    for low, high in pairwise(edges):
        inside = (lengths > low) & (lengths <= high)
        if inside.any():
            slices.append(_slice(f"{low + 1} to {high} tokens", inside, values, groups, seed))
    return slices


def _slice(
    name: str,
    inside: NDArray[np.bool_],
    values: NDArray[np.float64],
    groups: NDArray[np.int64],
    seed: int,
    resamples: int = 1000,
) -> Slice:
    _, place = np.unique(groups[inside], return_inverse=True)
    sums, sizes = np.bincount(place, values[inside]), np.bincount(place)
    rng = np.random.default_rng(seed)
    draws = np.empty(resamples)
    for i in range(resamples):
        drawn = rng.integers(len(sums), size=len(sums))
        draws[i] = sums[drawn].sum() / sizes[drawn].sum()
    ends = percentiles(draws, 0.95)
    rows = int(inside.sum())
    return Slice(name, rows, float(values[inside].mean()), ends["low"], ends["high"])
