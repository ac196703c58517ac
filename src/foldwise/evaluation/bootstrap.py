"""Intervals: out-of-fold rows and their groups in, each metric's value with a 95% interval out.

A percentile bootstrap (Efron & Tibshirani 1993, ch. 13) that draws groups of near-duplicate rows
with replacement, all rows of a group together: near-copies are one observation, and drawing them
one by one would give intervals that are too narrow. All metrics see the same resamples, and are
the very functions of metrics.py, called on the drawn rows, so there is one definition of each.

What the interval covers: other rows like these. Not other seeds, folds or training sets.

Counts of a confusion matrix could be drawn instead of rows, at next to no cost. But members are set
against each other on the same resamples, and counts that are drawn apart are of other rows; so of
more than a million rows fewer resamples are drawn instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foldwise.metrics.metric import Floats, Ids, Metric, evaluate, score

LEVEL = 0.95  # share of the draws between low and high
MOST, FEWEST = 1000, 400  # resamples
DRAWN_ROWS = 10**9  # of all resamples together, where that allows FEWEST


@dataclass(frozen=True)
class Resampled:
    """Metrics of the same rows, and of resamples of them.

    Two of the same rows, groups and seed are paired: draw i holds the same rows in both.

    Attributes:
        names: of the metrics.
        values: (metrics,) over all rows; nan where one isn't defined.
        draws: (resamples, metrics).
        groups: how many groups of rows there are to draw from.
    """

    names: tuple[str, ...]
    values: Floats
    draws: Floats
    groups: int

    def value_of(self, name: str) -> float:
        """Return a metric over all rows."""
        return float(self.values[self.names.index(name)])

    def draws_of(self, name: str) -> Floats:
        """Return a metric's values on the resamples."""
        return self.draws[:, self.names.index(name)]

    def intervals(self, level: float = LEVEL) -> dict[str, dict[str, float]]:
        """Return {name: {value, low, high}}; nan where the metric isn't defined."""
        return {
            name: {"value": float(self.values[j]), **percentiles(self.draws[:, j], level)}
            for j, name in enumerate(self.names)
        }


def resamples_of(rows: int) -> int:
    """Return how many resamples of so many rows are drawn: MOST, of more than a million fewer.

    From one set of draws to another an interval's ends move by 0.13 standard errors with FEWEST, by
    0.08 with MOST (Efron & Tibshirani 1993, ch. 19). Of a million rows that is less than 0.0001 of
    an accuracy.
    """
    return min(MOST, max(FEWEST, DRAWN_ROWS // max(rows, 1)))


def intervals(
    metrics: Sequence[Metric],
    target: Ids,
    prediction: Ids,
    probabilities: Floats,
    groups: NDArray[Any],
    seed: int,
    resamples: int | None = None,
    level: float = LEVEL,
) -> dict[str, dict[str, float]]:
    """Compute every metric over all rows, with a bootstrap interval: `resample` says how.

    Returns:
        {name: {value, low, high}}; nan where the metric isn't defined.
    """
    drawn = resample(metrics, target, prediction, probabilities, groups, seed, resamples)
    return drawn.intervals(level)


def resample(
    metrics: Sequence[Metric],
    target: Ids,
    prediction: Ids,
    probabilities: Floats,
    groups: NDArray[Any],
    seed: int,
    resamples: int | None = None,
) -> Resampled:
    """Compute every metric over all rows and over resamples of their groups.

    A resample on which a metric is nan (say, AUROC with one class drawn) doesn't count for it.

    Args:
        metrics: what to compute.
        target: (rows,) class ids.
        prediction: (rows,) class ids.
        probabilities: (rows, n_classes).
        groups: (rows,) of any sortable type; equal values are drawn together.
        seed: of the draws.
        resamples: number of draws; None: `resamples_of` the rows.

    Raises:
        FoldwiseError: a user's metric returns something else than a finite float.
    """
    values = score(metrics, target, prediction, probabilities)
    # Copying the probabilities of the drawn rows is most of the time; without need for them, an
    # array of their shape that holds nan and no memory stands in.
    with_probabilities = any(metric.needs == "probabilities" for metric in metrics)
    n_classes = probabilities.shape[1]
    resamples = resamples or resamples_of(len(target))
    draws = np.empty((resamples, len(metrics)))
    for i, rows in enumerate(drawn_rows(groups, seed, resamples)):
        drawn_target, drawn_prediction = target[rows], prediction[rows]
        drawn_probabilities = (
            probabilities[rows]
            if with_probabilities
            else np.broadcast_to(np.nan, (len(rows), n_classes))
        )
        for j, metric in enumerate(metrics):
            draws[i, j] = evaluate(metric, drawn_target, drawn_prediction, drawn_probabilities)
    names = tuple(metric.name for metric in metrics)
    all_rows = np.array([values[name] for name in names], dtype=np.float64)
    return Resampled(names, all_rows, draws, len(np.unique(groups)))


def drawn_rows(groups: NDArray[Any], seed: int, resamples: int) -> Iterator[NDArray[np.intp]]:
    """Yield, for each resample, the row positions of as many groups as there are."""
    random = np.random.default_rng(seed)
    _, group_of_row, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    rows_by_group = np.argsort(group_of_row, kind="stable")
    starts = np.cumsum(sizes) - sizes
    for _ in range(resamples):
        drawn = random.integers(len(sizes), size=len(sizes))
        # Without a loop over groups: a row's place is its group's start, plus how far it lies
        # behind the first row of that drawn group.
        drawn_sizes = sizes[drawn]
        ends = np.cumsum(drawn_sizes)
        offsets = np.repeat(starts[drawn] - (ends - drawn_sizes), drawn_sizes)
        yield rows_by_group[offsets + np.arange(ends[-1])]


def percentiles(draws: NDArray[np.float64], level: float) -> dict[str, float]:
    """Return the ends of the interval that holds a share `level` of the finite draws; or nan."""
    defined = draws[np.isfinite(draws)]
    if not defined.size:
        return {"low": float("nan"), "high": float("nan")}
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return {"low": float(low), "high": float(high)}
