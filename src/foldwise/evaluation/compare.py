"""Is one run better than another? Two finished runs on the same folds in, a verdict out.

Two tests, since each sees what the other can't. The fold-wise one (a t-test corrected for training
sets that overlap) sees that models trained on other rows come out differently; with few folds it
has little power. The bootstrap over out-of-fold rows sees that other rows would be scored
differently, and nothing of training. A winner needs both to exclude zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from foldwise.config.load import diff_configs
from foldwise.errors import FoldwiseError
from foldwise.evaluation.bootstrap import drawn_rows, percentiles
from foldwise.evaluation.candidates import Candidate
from foldwise.metrics.metric import Metric, evaluate

RESAMPLES = 2000


@dataclass(frozen=True)
class Difference:
    """How far one run is ahead of another, with its interval; positive is better.

    Attributes:
        value: better minus worse: with a metric where less is better, the sign is turned.
        low: lower end of the interval.
        high: upper end.
    """

    value: float
    low: float
    high: float

    @property
    def clear(self) -> bool:
        """Whether the interval lies wholly above zero."""
        return self.low > 0


@dataclass(frozen=True)
class Pair:
    """The best run against one other.

    Attributes:
        best: name of the run with the best out-of-fold score.
        other: name of the other.
        level: of both intervals: 0.95, or more where several others are compared at once.
        by_fold: the differences of the folds' scores, in the order of the folds.
        folds: their mean, with the corrected t-test's interval.
        p_value: of that test, two-sided; nan where the folds don't differ among themselves.
        rows: the difference of the pooled scores, with the paired bootstrap's interval.
    """

    best: str
    other: str
    level: float
    by_fold: tuple[float, ...]
    folds: Difference
    p_value: float
    rows: Difference

    @property
    def clear(self) -> bool:
        """Whether both intervals exclude zero."""
        return self.folds.clear and self.rows.clear


@dataclass(frozen=True)
class Comparison:
    """What several runs on the same folds come to.

    Attributes:
        metric: what they are compared by.
        ranked: the runs, best out-of-fold score first.
        pairs: the best against each other run, in their order.
    """

    metric: Metric
    ranked: tuple[Candidate, ...]
    pairs: tuple[Pair, ...]

    @property
    def verdict(self) -> str:
        """Say whether the best is clearly better than the runner-up, in one line."""
        if not self.pairs[0].clear:
            return "verdict: no clear difference"
        return f"verdict: {self.pairs[0].best} better than {self.pairs[0].other}"


def compare(
    candidates: Sequence[Candidate], metric: str | None = None, resamples: int = RESAMPLES
) -> Comparison:
    """Set the best run against each of the others.

    With k others the intervals have the level 1 - 0.05/k (Bonferroni), so that all hold together
    with 95%.

    Args:
        candidates: two or more finished runs.
        metric: name; None for what the first run selected its epochs by, or else its first.
        resamples: draws of the bootstrap.

    Raises:
        FoldwiseError: fewer than two runs, runs that can't be paired, or no such metric.
    """
    if len(candidates) < 2:
        raise FoldwiseError("compare needs two runs or more")
    for other in candidates[1:]:
        check_pairs(candidates[0], other)
    chosen = _metric(candidates, metric)
    sign = 1 if chosen.greater_is_better else -1

    def rank(candidate: Candidate) -> float:
        value = candidate.scores["oof"][chosen.name]["value"]
        return -math.inf if value is None else sign * value

    best, *others = sorted(candidates, key=rank, reverse=True)
    level = 1 - 0.05 / len(others)
    pairs = tuple(_pair(best, other, chosen, level, resamples) for other in others)
    return Comparison(chosen, (best, *others), pairs)


def check_pairs(first: Candidate, second: Candidate) -> None:
    """Check that two runs scored the same rows in the same folds.

    Raises:
        FoldwiseError: they didn't; it says what differs and which config keys may be why.
    """
    what = _unlike(first, second)
    if what is None:
        return
    keys = [
        line
        for line in diff_configs(first.config, second.config)
        if line.split(".")[0].split(":")[0] in ("data", "folds", "holdout", "task", "text")
        or line.startswith("run.seed")
    ]
    cause = f" (their configs differ in: {'; '.join(keys)})" if keys else ""
    raise FoldwiseError(
        f"{first.name} and {second.name} can't be compared: {what}{cause}. Only scores of the same "
        "rows in the same folds can be paired; run one again with the other's data and folds"
    )


def corrected_t_test(
    differences: np.ndarray, test_to_train: float, level: float
) -> tuple[Difference, float]:
    """Test whether fold-wise differences have mean zero (Nadeau and Bengio 2003).

    The folds' training sets overlap, so their differences vary less than those of independent
    ones would; the variance of the mean is taken as (1/J + n_test/n_train) s^2 instead of s^2/J,
    with J - 1 degrees of freedom.

    Args:
        differences: (J,) one a fold, J >= 2.
        test_to_train: rows scored over rows trained on, the mean over folds.
        level: of the interval.

    Returns:
        The mean with its interval, and the two-sided p-value; equal differences throughout have
        no spread to test, so the interval is the mean itself and p is nan.
    """
    n = len(differences)
    mean = float(differences.mean())
    error = math.sqrt((1 / n + test_to_train) * float(differences.var(ddof=1)))
    if error == 0:
        return Difference(mean, mean, mean), math.nan
    reach = float(stats.t.ppf((1 + level) / 2, n - 1)) * error
    p_value = 2 * float(stats.t.sf(abs(mean) / error, n - 1))
    return Difference(mean, mean - reach, mean + reach), p_value


def paired_bootstrap(
    best: Candidate, other: Candidate, metric: Metric, level: float, resamples: int = RESAMPLES
) -> Difference:
    """Bootstrap the difference of two runs' pooled out-of-fold scores.

    Both are scored on the same drawn rows (Efron and Tibshirani 1993), whole groups of
    near-duplicates at a time.

    Args:
        best: the run that is ahead.
        other: the other; its out-of-fold rows are the same, in the same order.
        metric: recomputed on every resample.
        level: of the percentile interval.
        resamples: number of draws.
    """
    sign = 1 if metric.greater_is_better else -1
    seed = best.config.folds.seed
    groups = best.assignment.groups(best.out_of_fold["row"].to_numpy())
    draws = np.array(
        [
            _scored(best, metric, rows) - _scored(other, metric, rows)
            for rows in drawn_rows(groups, seed, resamples)
        ]
    )
    every = np.arange(best.out_of_fold.height)
    value = sign * (_scored(best, metric, every) - _scored(other, metric, every))
    interval = percentiles(sign * draws, level)
    return Difference(value, interval["low"], interval["high"])


def _pair(best: Candidate, other: Candidate, metric: Metric, level: float, resamples: int) -> Pair:
    sign = 1 if metric.greater_is_better else -1
    scores = [
        [run.scores["folds"][fold][metric.name] for fold in best.scores["folds"]]
        for run in (best, other)
    ]
    # A fold on which the metric isn't defined (None) can't be set against itself.
    known = [(a, b) for a, b in zip(*scores, strict=True) if a is not None and b is not None]
    by_fold = np.array([sign * (a - b) for a, b in known])
    if len(by_fold) < 2:
        nothing = Difference(math.nan, math.nan, math.nan)
        folds, p_value = nothing, math.nan
    else:
        folds, p_value = corrected_t_test(by_fold, _test_to_train(best), level)
    rows = paired_bootstrap(best, other, metric, level, resamples)
    return Pair(best.name, other.name, level, tuple(by_fold.tolist()), folds, p_value, rows)


def _metric(candidates: Sequence[Candidate], name: str | None) -> Metric:
    first = candidates[0]
    common = [
        metric
        for metric in first.metrics
        if all(metric.name in run.scores["oof"] for run in candidates)
    ]
    by_name = {metric.name: metric for metric in common}
    if name is not None and name not in by_name:
        raise FoldwiseError(
            f"--metric {name}: not among the metrics that all runs show: "
            f"{', '.join(by_name) or 'none'}"
        )
    if not common:
        raise FoldwiseError("the runs show no metric in common; name one in metrics: of both")
    return by_name.get(name or first.config.selection.metric, common[0])


def _unlike(first: Candidate, second: Candidate) -> str | None:
    if first.config.task != second.config.task:
        return f"their tasks are {first.config.task} and {second.config.task}"
    if first.data_sha256 != second.data_sha256:
        return "they were made from different tables"
    if set(first.scores["folds"]) != set(second.scores["folds"]):
        return (
            f"one scored folds {', '.join(first.scores['folds'])}, the other "
            f"{', '.join(second.scores['folds'])}"
        )
    keys = ["repeat", "row", "fold"]
    rows = [run.out_of_fold.select(keys) for run in (first, second)]
    if rows[0].height != rows[1].height:
        return f"one scored {rows[0].height} rows, the other {rows[1].height}"
    if not rows[0].select("repeat", "row").equals(rows[1].select("repeat", "row")):
        alike = np.isin(rows[0]["row"].to_numpy(), rows[1]["row"].to_numpy()).sum()
        return f"they scored different rows ({alike} of {rows[0].height} are the same)"
    moved = int((rows[0]["fold"] != rows[1]["fold"]).sum())
    if moved:
        return f"{moved} of {rows[0].height} rows lie in another fold"
    changed = first.out_of_fold["target"] != second.out_of_fold["target"]
    if changed.any():
        return f"{int(changed.sum())} of {rows[0].height} rows have another target"
    return None


def _test_to_train(run: Candidate) -> float:
    """Return rows scored over rows trained on (the epoch's included), the mean over folds."""
    rows = run.assignment
    return float(
        np.mean(
            [
                len(rows.scored(fold)) / (len(rows.training(fold)) + len(rows.inner(fold)))
                for fold in map(int, run.scores["folds"])
            ]
        )
    )


def _scored(run: Candidate, metric: Metric, rows: np.ndarray) -> float:
    target, prediction, probabilities = run.arrays
    return evaluate(metric, target[rows], prediction[rows], probabilities[rows])
