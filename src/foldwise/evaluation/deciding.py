"""What `predict` does with labels beyond naming them: abstain, weigh costs, give sets or intervals.

In: the run's out-of-fold predictions and what was asked for. Out: what adds columns to labelled
rows, and in words what cross-validation promises of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from foldwise.decisions.conformal import Known, label_sets, number_intervals
from foldwise.decisions.costs import Costs, read_costs
from foldwise.errors import FoldwiseError
from foldwise.evaluation.calibration import confidence_of
from foldwise.evaluation.diagnostics import Flags, coverage
from foldwise.evaluation.sets import known_rows
from foldwise.preparation.build import holds
from foldwise.tasks.predictions import values_of

Floats = NDArray[np.float64]
ONE = 0  # the number of an answer that isn't a fold's
_SEPARATORS = (";", "|", "\t", "\n")


@dataclass(frozen=True)
class Asked:
    """What was asked for.

    Attributes:
        abstain: leave the prediction out below this confidence.
        costs: a table of costs, by its path.
        sets: share of rows whose truth shall lie in their set or interval.
        by_class: hold that share in each class.
    """

    abstain: float | None = None
    costs: str | None = None
    sets: float | None = None
    by_class: bool = False

    @property
    def anything(self) -> bool:
        """Whether there is anything to do."""
        return (self.abstain, self.costs, self.sets) != (None, None, None)


@dataclass(frozen=True)
class Deciding:
    """What adds columns to labelled rows.

    Attributes:
        asked: for what.
        classes: of the run; none where numbers are predicted.
        costs: as they were read.
        known: the out-of-fold rows.
        kept: of these, the share that isn't abstained from, and how many of it are right.
        paid: what the cheapest decision cost a row of these in the mean, and what the label would.
    """

    asked: Asked
    classes: tuple[str, ...]
    costs: Costs | None
    known: Known | None
    kept: tuple[float, float] | None
    paid: tuple[float, float | None] | None

    def identity(self) -> dict[str, Any]:
        """Return JSON values that say which columns these are."""
        asked = self.asked
        matrix = None if self.costs is None else self.costs.matrix.tolist()
        names = None if self.costs is None else list(self.costs.decisions)
        return {
            "abstain": asked.abstain,
            "costs": [names, matrix],
            "sets": asked.sets,
            "by_class": asked.by_class,
        }

    def columns(self, labelled: pl.DataFrame, folds: Mapping[int, Floats]) -> pl.DataFrame:
        """Add what hangs on probabilities: decision and expected_cost, set and set_size, low, high.

        Args:
            labelled: the rows with prob_*, or a predicted number.
            folds: by fold, what each says of the same rows, (n, k); under `ONE` the only model.
        """
        if self.costs is not None:
            chosen, expected = self.costs.cheapest(values_of(labelled))
            names = np.array(self.costs.decisions, dtype=object)
            labelled = labelled.with_columns(
                pl.Series("decision", names[chosen].tolist(), pl.String),
                pl.Series("expected_cost", expected),
            )
        if self.known is None or self.asked.sets is None:
            return labelled
        known = self.known
        if ONE in folds:
            known = Known(known.values, known.target, np.full_like(known.fold, ONE), known.group)
        if not self.classes:
            numbers = {number: values[:, 0] for number, values in folds.items()}
            low, high = number_intervals(known, numbers, self.asked.sets)
            return labelled.with_columns(pl.Series("low", low), pl.Series("high", high))
        sets = label_sets(known, folds, self.asked.sets, by_class=self.asked.by_class)
        return labelled.with_columns(
            pl.Series("set", _joined(sets, self.classes), pl.String),
            pl.Series("set_size", sets.sum(axis=1), pl.Int64),
        )

    def abstained(self, labelled: pl.DataFrame) -> pl.DataFrame:
        """Leave out predictions below the asked confidence; labelled has it."""
        if self.asked.abstain is None:
            return labelled
        sure = pl.col("confidence") >= self.asked.abstain
        return labelled.with_columns(pl.when(sure).then("prediction").alias("prediction"))

    def told(self, rows: int, abstained: int) -> list[str]:
        """Say what was done to how many rows, and what cross-validation promises of it.

        Args:
            rows: that were labelled.
            abstained: of these, those without a prediction for want of confidence.
        """
        lines = []
        if self.kept is not None:
            share, accuracy = self.kept
            here = f"{(rows - abstained) / rows:.1%}" if rows else "none"
            right = "none are" if np.isnan(accuracy) else f"{accuracy:.1%} of them are right"
            lines.append(
                f"{here} of the rows have a confidence of {self.asked.abstain} or more and keep "
                f"their prediction; out of fold {share:.1%} have, and {right}"
            )
        if self.paid is not None:
            decided, labels = self.paid
            beside = "" if labels is None else f", against {labels:.4g} of taking each label"
            lines.append(f"out of fold the cheapest decisions cost {decided:.4g} a row{beside}")
        if self.asked.sets is not None:
            what = "set" if self.classes else "interval"
            each = " of each class" if self.asked.by_class else ""
            lines.append(
                f"{self.asked.sets:.0%} of new rows{each} shall have their truth in their {what}, "
                "as long as they are like those of training"
            )
        return lines


def deciding(
    asked: Asked, task: Any, out_of_fold: pl.DataFrame, group: NDArray[np.int64]
) -> Deciding:
    """Prepare what was asked for.

    Args:
        asked: for what.
        task: of the run.
        out_of_fold: predictions of who labels, as they were cross-validated.
        group: of near-duplicates, of each of these rows.

    Raises:
        FoldwiseError: the task has nothing of the kind, costs can't be read, or the rows are too
            few for the level.
    """
    kind = holds(task)
    _check_task(asked, task, kind)
    classes = () if kind == "number" else tuple(str(name) for name in task.classes)
    kept, paid, costs, known = None, None, None, None
    if asked.abstain is not None:
        kept = _kept(asked.abstain, out_of_fold, task)
    if asked.costs is not None:
        costs = read_costs(asked.costs, classes)
        paid = _paid(costs, out_of_fold, task)
    if asked.sets is not None:
        known = known_rows(out_of_fold, task, group)
        groups = len(np.unique(group))
        if (1 - asked.sets) * (groups + 1) < 1:
            raise FoldwiseError(
                f"--sets {asked.sets}: {groups} out-of-fold rows (near-duplicates count once) "
                f"can't tell more than a level of {groups / (groups + 1):.3g}"
            )
    return Deciding(asked, classes, costs, known, kept, paid)


def confidence_and_right(table: pl.DataFrame, task: Any) -> tuple[Floats, Flags]:
    """Return of each row how sure its prediction is, and whether it is right, (n,).

    Of a set of labels as sure as its most doubtful label, and right if all of it is.
    """
    target, prediction, probabilities = task.to_arrays(table)
    if holds(task) != "labels":
        return confidence_of(table, task, "class")
    named = prediction[:, : probabilities.shape[1]] == 1
    sure: Floats = np.where(named, probabilities, 1 - probabilities).min(axis=1)
    return sure, (target == prediction).all(axis=1)


def _check_task(asked: Asked, task: Any, kind: str) -> None:
    if kind != "number" and not hasattr(task, "from_probabilities"):
        raise FoldwiseError("--abstain, --costs and --sets need one of Foldwise's own targets")
    if kind == "number" and (asked.abstain is not None or asked.costs is not None):
        option = "--abstain" if asked.abstain is not None else "--costs"
        raise FoldwiseError(
            f"{option}: the run predicts numbers, which have no probability; --sets gives the "
            "interval of each"
        )
    if kind == "labels" and (asked.sets is not None or asked.costs is not None):
        option = "--sets" if asked.sets is not None else "--costs"
        raise FoldwiseError(
            f"{option}: is for one label a row; the run predicts any number of them. --abstain "
            "leaves out what isn't sure"
        )
    if asked.by_class and (asked.sets is None or kind == "number"):
        raise FoldwiseError("--by-class: only goes with --sets, where classes are predicted")


def _kept(threshold: float, table: pl.DataFrame, task: Any) -> tuple[float, float]:
    _, share, accuracy = coverage(*confidence_and_right(table, task), np.array([threshold]))[0]
    return share, accuracy


def _paid(costs: Costs, table: pl.DataFrame, task: Any) -> tuple[float, float | None]:
    target, prediction, probabilities = task.to_arrays(table)
    decided = float(costs.paid(costs.cheapest(probabilities)[0], target).mean())
    place = [costs.decisions.index(n) if n in costs.decisions else -1 for n in task.classes]
    taken = np.array(place)[prediction]
    return decided, None if (taken < 0).any() else float(costs.paid(taken, target).mean())


def _joined(sets: Flags, classes: tuple[str, ...]) -> list[str]:
    free = [s for s in _SEPARATORS if not any(s in name for name in classes)]
    separator, names = (free or _SEPARATORS)[0], np.array(classes, dtype=object)
    return [separator.join(names[row].tolist()) for row in sets]
