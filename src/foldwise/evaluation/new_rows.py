"""A run's answer to labelled rows that no fold has seen: scores, and what was promised of them.

In: the answer's table and the rows' groups. Out: an `Evaluation`: all that page and terminal show.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from foldwise.config.schema import Config
from foldwise.evaluation.answer import judged_by
from foldwise.evaluation.bootstrap import intervals
from foldwise.evaluation.estimate import groups_in, out_of_fold
from foldwise.evaluation.promise import Promise, Scored, promises
from foldwise.run.folder import RunFolder

_NAMED = 5  # labels that a line names before it stops


@dataclass(frozen=True)
class Evaluation:
    """What a run scores on new rows.

    Attributes:
        rows: how many there are.
        scores: {metric: {value, low, high}}.
        promises: of each metric, in the same order; none where the run has no estimate.
        judged: the metric that the verdict goes by.
        unpromised: why there are none.
        unknown: rows by label that the run doesn't know, the most frequent first.
        known: the judged metric over the other rows; None where all labels are known.
    """

    rows: int
    scores: dict[str, dict[str, float]]
    promises: list[Promise]
    judged: str
    unpromised: str
    unknown: dict[str, int]
    known: float | None

    @property
    def promise(self) -> Promise | None:
        """The one of the metric that the verdict goes by."""
        return next((each for each in self.promises if each.metric == self.judged), None)

    @property
    def told(self) -> str:
        """Say whether the promise was kept."""
        promise = self.promise
        return self.unpromised if promise is None else promise.told(self.rows)

    @property
    def notes(self) -> list[str]:
        """Say what else there is to know: other metrics that lie outside, labels nobody knows."""
        others = [each for each in self.promises if each.metric != self.judged and each.defined]
        told = [each.told(self.rows) for each in others if each.where != "inside"]
        if not self.unknown:
            return told
        names = list(self.unknown.items())
        shown = ", ".join(f"{name[:50]!r} ({rows:,})" for name, rows in names[:_NAMED])
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        rest = "" if self.known is None else f"; without them {self.judged} is {self.known:.3f}"
        rows = sum(self.unknown.values())
        return [*told, f"{rows:,} rows count as wrong: the run doesn't know {shown}{more}{rest}"]


def evaluate_rows(
    table: pl.DataFrame,
    groups: np.ndarray,
    run: RunFolder,
    config: Config,
    task: Any,
    *,
    member: str | None,
) -> Evaluation:
    """Score new rows, and set the scores against the run's estimate.

    Args:
        table: target, prediction and probabilities of the new rows.
        groups: (n,) rows of equal number are one observation.
        run: its estimate is read.
        config: the run's.
        task: with the run's classes.
        member: whose answer it is; None for the run's.
    """
    metrics, new = task.metrics(), _scored(table, groups, task)
    seed, judged = config.folds.seed, judged_by(config, metrics).name
    one_class = np.ndim(new.target) == 1 and len(task.classes) > 0
    classes = len(task.classes) if one_class else 0
    estimate = out_of_fold(run, task, member)
    found, why = [], ""
    if estimate is None:
        why = f"{run.path.name} isn't finished: there is no out-of-fold score to hold this against."
    else:
        groups_of = groups_in(run, estimate["row"].to_numpy())
        own = _scored(estimate, groups_of, task)
        found = promises(metrics, own, new, classes=classes, seed=seed)
    unknown = _unknown(table, task)
    known = None
    inside = new.target < classes if classes else np.ones(table.height, dtype=bool)
    if unknown and inside.any():
        kept = new.of(inside)
        known = float(judged_by(config, metrics).compute(*kept.arrays))
    scores = intervals(metrics, *new.arrays, groups=groups, seed=seed)
    return Evaluation(table.height, scores, found, judged, why, unknown, known)


def _scored(table: pl.DataFrame, groups: np.ndarray, task: Any) -> Scored:
    target, prediction, probabilities = task.to_arrays(table)
    return Scored(target, prediction, probabilities, groups)


def _unknown(table: pl.DataFrame, task: Any) -> dict[str, int]:
    if getattr(task, "holds", "label") != "label" or not len(task.classes):
        return {}
    labels = table["target"].cast(pl.String)
    odd = labels.filter(~labels.is_in(list(map(str, task.classes))))
    counts = odd.alias("label").value_counts().sort(["count", "label"], descending=[True, False])
    return dict(zip(counts["label"].to_list(), counts["count"].to_list(), strict=True))
