"""Is one config better than another? Finished runs on the same folds in, a verdict out.

Two tests, since each sees what the other can't. The fold-wise one (a t-test corrected for training
sets that overlap) sees that models trained on other rows come out differently; with few folds it
has little power. The bootstrap over out-of-fold rows sees that other rows would be scored
differently, and nothing of training. A winner needs both to exclude zero.

Runs that differ in their seed alone are one config, with the mean of their scores; what lies
between them is the noise of training, and widens both tests (simultaneous.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from foldwise.config.load import diff_configs
from foldwise.errors import FoldwiseError
from foldwise.evaluation.bootstrap import drawn_rows, resamples_of
from foldwise.evaluation.candidates import Candidate
from foldwise.evaluation.simultaneous import (
    FEWEST_FOLDS,
    Difference,
    SeedNoise,
    fold_differences,
    row_differences,
    seed_noise,
)
from foldwise.evaluation.words import metric_name
from foldwise.metrics.metric import Metric, evaluate

UNDECIDED = "verdict: no clear difference"


@dataclass(frozen=True)
class Contender:
    """A config, by the runs that were made of it with different seeds.

    Attributes:
        runs: one or more, in the order given.
    """

    runs: tuple[Candidate, ...]

    @property
    def name(self) -> str:
        """The names of its runs."""
        return ", ".join(run.name for run in self.runs)


@dataclass(frozen=True)
class Pair:
    """The best config against one other.

    Attributes:
        best: name of the config with the best out-of-fold score.
        other: name of the other.
        by_fold: the differences of the folds' scores, in the order of the folds.
        folds: their mean, with the corrected t-test's interval.
        p_value: of that test, two-sided, allowing for all pairs; nan where there is none.
        rows: the difference of the pooled scores, with the paired bootstrap's interval.
    """

    best: str
    other: str
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
        contenders: the configs, best mean score first; the runs, where there is only one config.
        pairs: the best against each other, in their order.
        noise: of training, between seeds; None where no config was run with two.
        seeds_only: whether all runs are of one config.
    """

    metric: Metric
    ranked: tuple[Candidate, ...]
    contenders: tuple[Contender, ...]
    pairs: tuple[Pair, ...]
    noise: SeedNoise | None
    seeds_only: bool

    @property
    def verdict(self) -> str:
        """Say whether the best is clearly better than the runner-up, in one line."""
        if self.seeds_only or not self.pairs[0].clear:
            return UNDECIDED
        return f"verdict: {self.pairs[0].best} better than {self.pairs[0].other}"

    def as_json(self) -> dict[str, Any]:
        """Return the ranking, the tests and the verdict as JSON values."""
        name = self.metric.name
        return {
            "metric": name,
            "runs": [
                {
                    "name": run.name,
                    "path": str(run.run.path),
                    **{key: (run.scores[key] or {}).get(name) for key in ("oof", "holdout")},
                    **{key: run.scores[key].get(name) for key in ("mean", "std")},
                    "cost": asdict(run.cost),
                }
                for run in self.ranked
            ],
            "pairs": [
                {**asdict(pair), "by_fold": list(pair.by_fold), "clear": pair.clear}
                for pair in self.pairs
            ],
            "notes": self.notes,
            "verdict": self.verdict,
        }

    @property
    def told(self) -> str:
        """Say which config is ahead, by how much, how surely, and what to do next."""
        if self.seeds_only:
            return (
                "All runs are of one config with different seeds: there is nothing to choose "
                "between. Next: add a run of another config."
            )
        first, name = self.pairs[0], metric_name(self.metric.name)
        by = f"{first.folds.told} fold by fold, {first.rows.told} over all rows"
        if first.clear:
            return (
                f"{first.best} is better than {first.other}: ahead on {name} by {by}; both "
                f"intervals exclude zero. Next: take {first.best}, and look at its holdout once."
            )
        return (
            f"No clear difference: {first.best} has the best {name}, but its lead over "
            f"{first.other} can be chance ({by}). Next: more folds or folds.repeats, and a second "
            "run.seed of each; until then the cheaper one will do."
        )

    @property
    def notes(self) -> list[str]:
        """Say what the intervals hold for, and what they can't know."""
        told = []
        folds, k = len(self.pairs[0].by_fold), len(self.contenders)
        if folds < FEWEST_FOLDS:
            named = {0: "No fold", 1: "One fold", 2: "Two folds"}[folds]
            told.append(
                f"{named} can't decide: the spread between folds is not to be told from so few. "
                "Give folds.n: 5, or 3 and folds.repeats: 2, and train again."
            )
        if k > 2:
            told.append(
                f"The intervals of a column hold for all {k * (k - 1) // 2} pairs of {k} together "
                "with 95%, so for the best too, which these scores picked."
            )
        if self.noise is None:
            told.append(
                "Seed noise is unknown: no config was run with two seeds. Train each again with "
                "another run.seed and run.name, and compare all of them."
            )
            return told
        runs = "run" if self.noise.degrees == 1 else "runs"
        moved = (
            f"another run.seed moves {self.metric.name} by {math.sqrt(self.noise.rows):.3f} "
            f"(standard deviation, from {self.noise.degrees} more {runs} than configs)"
        )
        told.append(
            f"The runs differ in run.seed alone, so what lies between them is chance: {moved}."
            if self.seeds_only
            else f"Seed noise is in both intervals: {moved}."
        )
        return told


def compare(
    candidates: Sequence[Candidate], metric: str | None = None, resamples: int | None = None
) -> Comparison:
    """Set the best config against each of the others.

    Args:
        candidates: two or more finished runs.
        metric: name; None for what the first run selected its epochs by, or else its first.
        resamples: draws of the bootstrap; None: as for `bootstrap_scores`.

    Raises:
        FoldwiseError: fewer than two runs, runs that can't be paired, or no such metric.
    """
    if len(candidates) < 2:
        raise FoldwiseError("compare needs two runs or more")
    for other in candidates[1:]:
        check_pairs(candidates[0], other)
    chosen = _metric(candidates, metric)
    sign = 1 if chosen.greater_is_better else -1

    def rank(run: Candidate) -> float:
        value = run.scores["oof"][chosen.name]["value"]
        return -math.inf if value is None else sign * value

    ranked = sorted(candidates, key=rank, reverse=True)
    by_fold = _by_fold(ranked, chosen, sign)
    configs = _contenders(candidates)
    seeds_only = len(configs) == 1
    noise = seed_noise(
        [np.array([by_fold[run.name] for run in config.runs]) for config in configs],
        [np.array([rank(run) for run in config.runs]) for config in configs],
    )
    if seeds_only:
        configs = [Contender((run,)) for run in ranked]
    configs.sort(key=lambda config: float(np.mean([*map(rank, config.runs)])), reverse=True)
    # Of one config's seeds nothing is asked but their spread, which mustn't be counted twice.
    pairs = _pairs(configs, by_fold, chosen, None if seeds_only else noise, resamples)
    return Comparison(chosen, tuple(ranked), tuple(configs), pairs, noise, seeds_only)


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


def bootstrap_scores(
    runs: Sequence[Candidate], metric: Metric, resamples: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Score runs on the same resamples of their out-of-fold rows (Efron and Tibshirani 1993).

    Whole groups of near-duplicates are drawn at a time.

    Args:
        runs: k runs with the same out-of-fold rows in the same order.
        metric: recomputed on every resample.
        resamples: number of draws; None: twice `resamples_of` the rows.

    Returns:
        Scores of all rows (k,) and of the draws (resamples, k), turned so that more is better.
    """
    sign = 1 if metric.greater_is_better else -1
    first = runs[0]
    groups = first.assignment.groups(first.out_of_fold["row"].to_numpy())
    resamples = resamples or 2 * resamples_of(len(groups))
    drawn = drawn_rows(groups, first.config.folds.seed, resamples)
    draws = [[_scored(run, metric, rows) for run in runs] for rows in drawn]
    values = [_scored(run, metric, np.arange(len(groups))) for run in runs]
    return sign * np.array(values), sign * np.array(draws)


def _contenders(candidates: Sequence[Candidate]) -> list[Contender]:
    """Put runs together whose configs differ in seed and name alone.

    A seed that is there already makes no new draw of the noise: such a run stands for itself.
    """
    found: list[list[Candidate]] = []
    ignored = ("run.name", "run.dir", "run.seed", "code")
    for run in candidates:
        for runs in found:
            seeds = {other.config.run.seed for other in runs}
            alike = run.origin == runs[0].origin and run.config.run.seed not in seeds
            if alike and not diff_configs(runs[0].config, run.config, ignore=ignored):
                runs.append(run)
                break
        else:
            found.append([run])
    return [Contender(tuple(runs)) for runs in found]


def _by_fold(runs: Sequence[Candidate], metric: Metric, sign: int) -> dict[str, np.ndarray]:
    # Each run's scores of the folds on which the metric is defined for all; more is better.
    names = list(runs[0].scores["folds"])
    table = [[run.scores["folds"][fold][metric.name] for fold in names] for run in runs]
    scores = sign * np.array(table, dtype=np.float64)
    kept = scores[:, np.isfinite(scores).all(axis=0)]
    return {run.name: kept[i] for i, run in enumerate(runs)}


def _pairs(
    configs: Sequence[Contender],
    scores: dict[str, np.ndarray],
    metric: Metric,
    noise: SeedNoise | None,
    resamples: int | None,
) -> tuple[Pair, ...]:
    by_fold = np.array([np.mean([scores[r.name] for r in c.runs], axis=0) for c in configs])
    seeds = [len(config.runs) for config in configs]
    best = configs[0]
    folds = fold_differences(by_fold, _test_to_train(best.runs[0]), seeds, noise)
    values, draws = bootstrap_scores(
        [run for config in configs for run in config.runs], metric, resamples
    )
    starts = np.cumsum([0, *seeds[:-1]])
    rows = row_differences(
        np.add.reduceat(values, starts) / seeds,
        np.add.reduceat(draws, starts, axis=1) / seeds,
        seeds,
        noise,
    )
    return tuple(
        Pair(best.name, other.name, tuple((by_fold[0] - theirs).tolist()), *by_folds, over_rows)
        for other, theirs, by_folds, over_rows in zip(
            configs[1:], by_fold[1:], folds, rows, strict=True
        )
    )


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
