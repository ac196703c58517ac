"""What cross-validation promised of a table of new rows: out-of-fold rows in, an interval out.

The score of n new rows differs from the out-of-fold score for two reasons even where nothing has
changed: the new rows are a draw, and so were those of the estimate. Each resample draws both. For
every group of near-duplicates of the new table an out-of-fold row is drawn, and with it as many
rows of its group as the new one has (so the stand-in table is as large and as clustered as the new
one); and groups of all out-of-fold rows, as for the score's own interval. The difference of the two
scores, added to the out-of-fold score, is spread as new scores are (a bootstrap prediction
interval; Mojirsheibani 1998): what a metric loses on few rows stands in it, too.

Where hardly a row is wrong, resamples can't say how few that might have been by chance: of no wrong
row in 300 they would promise that none will ever be. So one more wrong row is drawn from, as
Agresti and Coull (1998) add to what was seen; of more than a few wrong rows it changes nothing.

A table whose classes have other shares may score otherwise with the same model. How much of a
difference that explains is found by drawing the out-of-fold rows with the new table's shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from foldwise.config.grammar import BUILTIN
from foldwise.evaluation.bootstrap import LEVEL, drawn_rows, percentiles, resample, resamples_of
from foldwise.evaluation.words import figure, metric_name, signed
from foldwise.metrics.metric import Floats, Ids, Metric, evaluate, score

Positions = NDArray[np.intp]
Where = Literal["inside", "below", "above"]


@dataclass(frozen=True)
class Scored:
    """Predicted rows as metrics take them.

    Attributes:
        target: (n,) class ids, or what the kind of target has instead.
        prediction: likewise.
        probabilities: (n, n_classes).
        groups: (n,); rows of equal number are one observation.
    """

    target: Ids
    prediction: Ids
    probabilities: Floats
    groups: NDArray[Any]

    def of(self, rows: NDArray[Any]) -> Scored:
        """Return some of the rows, by position or by a mask."""
        each = (self.target, self.prediction, self.probabilities, self.groups)
        return Scored(*(values[rows] for values in each))

    @property
    def arrays(self) -> tuple[Ids, Ids, Floats]:
        """What metrics take."""
        return self.target, self.prediction, self.probabilities


@dataclass(frozen=True)
class Promise:
    """What was to be expected of a metric on a table of new rows, and what came.

    Attributes:
        metric: its name.
        greater_is_better: of its values.
        value: of the new rows; nan where it isn't defined.
        estimate: of the out-of-fold rows.
        low: lower end of the 95% interval for new rows.
        high: upper end.
        by_shares: how much the new table's class shares alone add to the estimate; None where the
            target has no classes.
        shares_low: lower end of the interval for rows with its class shares; None as above.
        shares_high: upper end.
    """

    metric: str
    greater_is_better: bool
    value: float
    estimate: float
    low: float
    high: float
    by_shares: float | None = None
    shares_low: float | None = None
    shares_high: float | None = None

    @property
    def defined(self) -> bool:
        """Whether there is a score and something to hold it against."""
        return bool(np.isfinite([self.value, self.low, self.high]).all())

    @property
    def where(self) -> Where:
        """Where the score lies; a rounding error beside an end is inside."""
        return _where(self.value, self.low, self.high)

    @property
    def worse(self) -> bool:
        """Whether the score lies outside, on the bad side."""
        return self.where == ("below" if self.greater_is_better else "above")

    @property
    def shares_explain(self) -> bool:
        """Whether a score that lies outside lies inside by the table's class shares."""
        if self.shares_low is None or self.shares_high is None or self.where == "inside":
            return False
        return _where(self.value, self.shares_low, self.shares_high) == "inside"

    def told(self, rows: int) -> str:
        """Say whether the promise was kept, and what that means.

        Args:
            rows: of the new table.
        """
        name, range_ = metric_name(self.metric), f"{figure(self.low)} to {figure(self.high)}"
        if not self.defined:
            return f"{name} isn't defined on these rows: there is nothing to hold it against."
        of = f"what cross-validation promised of {rows:,} rows like its own, {range_}"
        if self.where == "inside":
            return f"{name} {figure(self.value)} lies within {of}."
        told = f"{name} {figure(self.value)} lies {self.where} {of}"
        if self.worse:
            told += ": these rows are harder for the run than those it was made from."
        else:
            told += (
                ": these rows are easier for the run than those it was made from, or it was "
                "trained on some of them."
            )
        return told + self._by_shares()

    def _by_shares(self) -> str:
        if self.by_shares is None or not np.isfinite(self.by_shares):
            return ""
        difference, moved = self.value - self.estimate, self.by_shares
        if self.shares_explain:
            return (
                f" The other shares of its classes explain that: with them {signed(moved)} was to "
                f"be expected, and {figure(self.shares_low)} to {figure(self.shares_high)}."
            )
        return (
            f" The other shares of its classes alone account for {signed(moved)} of the "
            f"{signed(difference)}."
        )

    def as_json(self) -> dict[str, Any]:
        """Return what `evaluate --json` says of it."""
        shares = None
        if self.by_shares is not None:
            shares = {
                "difference": self.by_shares,
                "low": self.shares_low,
                "high": self.shares_high,
                "explain": self.shares_explain,
            }
        return {
            "metric": self.metric,
            "value": self.value,
            "out_of_fold": self.estimate,
            "low": self.low,
            "high": self.high,
            "inside": self.where == "inside" if self.defined else None,
            "where": self.where if self.defined else None,
            "by_class_shares": shares,
        }


def promises(
    metrics: Sequence[Metric],
    out_of_fold: Scored,
    new: Scored,
    *,
    classes: int = 0,
    seed: int,
    resamples: int | None = None,
) -> list[Promise]:
    """Set each metric of new rows against what cross-validation promised of them.

    Args:
        metrics: what to compute.
        out_of_fold: the run's estimate.
        new: the new rows.
        classes: how many there are, where the target is one class a row and its shares count;
            rows of other ids are left out of what the shares explain.
        seed: of the draws.
        resamples: number of draws; None: `resamples_of` the larger of both tables.
    """
    rows = max(len(out_of_fold.target), len(new.target))
    resamples = resamples or resamples_of(rows)
    estimate = score(metrics, *out_of_fold.arrays)
    values = score(metrics, *new.arrays)
    out_of_fold = _with_one_wrong(out_of_fold, classes)
    estimated = resample(metrics, *out_of_fold.arrays, out_of_fold.groups, seed, resamples)
    plain = _stand_ins(metrics, out_of_fold, new.groups, None, seed, resamples)
    weights = _weights(out_of_fold.target, new.target, classes)
    if weights is not None:
        known = new.groups[new.target < classes]
        shared = _stand_ins(metrics, out_of_fold, known, weights, seed, resamples)
        drawn = drawn_rows(out_of_fold.groups, seed, resamples)
        redrawn = np.array([_reweighed(metrics, out_of_fold, weights, rows) for rows in drawn])
        centres = _reweighed(metrics, out_of_fold, weights, np.arange(len(weights)))
    found = []
    for j, metric in enumerate(metrics):
        name = metric.name
        ends = _ends(metric, estimate[name], plain[:, j] - estimated.draws_of(name))
        more: tuple[float, ...] = ()
        if weights is not None:
            moved = _mean(shared[:, j]) - _mean(plain[:, j])
            more = (moved, *_ends(metric, centres[j], shared[:, j] - redrawn[:, j]))
        better = metric.greater_is_better
        found.append(Promise(name, better, values[name], estimate[name], *ends, *more))
    return found


def _with_one_wrong(rows: Scored, classes: int) -> Scored:
    """Add the right answer that was closest to being wrong, as if it had been."""
    right = np.flatnonzero((rows.prediction == rows.target) & (rows.target < classes))
    if classes < 2 or not len(right):
        return rows
    two = np.sort(rows.probabilities[right], axis=1)[:, -2:]
    nearest = right[np.argmin(two[:, 1] - two[:, 0])]
    one = rows.probabilities[nearest].copy()
    first = int(rows.prediction[nearest])
    second = int(np.argsort(one)[-1 if one.argmax() != first else -2])
    one[[first, second]] = one[[second, first]]
    return Scored(
        np.append(rows.target, rows.target[nearest]),
        np.append(rows.prediction, second).astype(rows.prediction.dtype),
        np.vstack([rows.probabilities, one]),
        np.append(rows.groups, rows.groups.max() + 1),
    )


def _stand_ins(
    metrics: Sequence[Metric],
    out_of_fold: Scored,
    groups: NDArray[Any],
    weights: Floats | None,
    seed: int,
    resamples: int,
) -> Floats:
    """Score tables of out-of-fold rows that are as large and as clustered as the new one.

    Args:
        metrics: what to compute.
        out_of_fold: rows to draw.
        groups: (n,) of the new table.
        weights: (rows,) of the draw; None for equal ones.
        seed: of the draws.
        resamples: number of draws.

    Returns:
        (resamples, metrics).
    """
    random = np.random.default_rng([seed, 1])
    sizes = np.unique(groups, return_counts=True)[1]
    _, group, members = np.unique(out_of_fold.groups, return_inverse=True, return_counts=True)
    by_group = np.argsort(group, kind="stable")
    starts = np.cumsum(members) - members
    upto = None if weights is None else np.cumsum(weights) / weights.sum()
    others = np.ones(int(sizes.sum()), dtype=bool)
    others[np.cumsum(sizes) - sizes] = False  # the rows that come along with a drawn one
    draws = np.empty((resamples, len(metrics)))
    for i in range(resamples):
        if upto is None:
            first = random.integers(len(group), size=len(sizes))
        else:
            first = np.searchsorted(upto, random.random(len(sizes)), side="right")
            first = np.minimum(first, len(group) - 1)
        rows = np.repeat(first, sizes)
        along = group[rows[others]]
        offsets = (random.random(len(along)) * members[along]).astype(np.intp)
        rows[others] = by_group[starts[along] + offsets]
        draws[i] = _scores(metrics, out_of_fold, rows)
    return draws


def _reweighed(
    metrics: Sequence[Metric], out_of_fold: Scored, weights: Floats, rows: Positions
) -> list[float]:
    """Score some out-of-fold rows as if their classes had other shares.

    Metrics take no weights, so rows are repeated: evenly along the rows sorted by class, which
    adds next to no noise (systematic sampling; Cochran 1977, chapter 8).
    """
    ordered = rows[np.argsort(out_of_fold.target[rows], kind="stable")]
    upto = np.cumsum(weights[ordered])
    if upto[-1] <= 0:  # no row of the new table's classes was drawn
        return [float("nan")] * len(metrics)
    steps = (np.arange(len(weights)) + 0.5) * upto[-1] / len(weights)
    return _scores(metrics, out_of_fold, ordered[np.searchsorted(upto, steps)])


def _weights(own: Ids, new: Ids, classes: int) -> Floats | None:
    """Return each out-of-fold row's weight by which classes have the new table's shares."""
    if not classes:
        return None
    have = np.bincount(own[own < classes], minlength=classes)
    want = np.where(have > 0, np.bincount(new[new < classes], minlength=classes), 0)
    if not want.any():
        return None
    each = np.divide(want, have, out=np.zeros(classes), where=have > 0)
    return np.where(own < classes, each[np.minimum(own, classes - 1)], 0.0)


def _scores(metrics: Sequence[Metric], rows: Scored, drawn: Positions) -> list[float]:
    target, prediction = rows.target[drawn], rows.prediction[drawn]
    shape = (len(drawn), *rows.probabilities.shape[1:])
    wanted = any(metric.needs == "probabilities" for metric in metrics)
    probabilities = rows.probabilities[drawn] if wanted else np.broadcast_to(np.nan, shape)
    return [evaluate(metric, target, prediction, probabilities) for metric in metrics]


def _ends(metric: Metric, centre: float, differences: Floats) -> tuple[float, float]:
    ends = percentiles(centre + differences, LEVEL)
    low, high = ends["low"], ends["high"]
    if metric.name in BUILTIN["metric"]:  # none of them exceeds 1, no loss is below 0
        if metric.greater_is_better:
            high = min(high, 1.0)
        else:
            low = max(low, 0.0)
    return low, high


def _mean(draws: Floats) -> float:
    defined = draws[np.isfinite(draws)]
    return float(defined.mean()) if defined.size else float("nan")


def _where(value: float, low: float, high: float) -> Where:
    if value < low - 1e-9:
        return "below"
    return "above" if value > high + 1e-9 else "inside"
