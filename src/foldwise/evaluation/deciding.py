"""What `predict` does with labels beyond naming them: abstain, weigh costs, give sets or intervals.

In: predictions of rows whose truth is known, and what was asked for. Out: what adds columns to
labelled rows, and in words what is promised of it. The rows are the out-of-fold ones; of the
distilled model, which says other things than the answer that taught it, the holdout's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from foldwise.decisions.asked import Asked
from foldwise.decisions.conformal import Known, label_sets, number_intervals
from foldwise.decisions.costs import Costs, read_costs
from foldwise.errors import FoldwiseError
from foldwise.evaluation.diagnostics import Flags, coverage
from foldwise.evaluation.sets import known_rows
from foldwise.preparation.build import holds
from foldwise.run.folder import FoldFolder, RunFolder
from foldwise.run.readers import read_parquet
from foldwise.run.seal import check
from foldwise.split.assignment import SCHEMA, read_assignment
from foldwise.tasks.predictions import read_predictions, values_of

Floats = NDArray[np.float64]
ONE = 0  # the number of an answer that isn't a fold's
OUT_OF_FOLD, ON_HOLDOUT = "out of fold", "on the holdout"
_SEPARATORS = (";", "|", "\t", "\n")


@dataclass(frozen=True)
class Deciding:
    """What adds columns to labelled rows.

    Attributes:
        asked: for what.
        task: of the run.
        classes: of the run; none where numbers are predicted.
        costs: as they were read.
        known: the rows whose truth is known, for sets and intervals.
        kept: of such rows, the share that isn't abstained from, and how many of it are right.
        paid: what the cheapest decision cost a row of these in the mean, and what the label would.
        where: says which rows these are.
    """

    asked: Asked
    task: Any
    classes: tuple[str, ...]
    costs: Costs | None
    known: Known | None
    kept: tuple[float, float] | None
    paid: tuple[float, float | None] | None
    where: str = OUT_OF_FOLD

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
        """Add what was asked for: decision and expected_cost, set and set_size, low and high.

        Where there are probabilities, `confidence` too; a prediction of less than is asked is null.

        Args:
            labelled: the rows with prediction and prob_*, or a predicted number.
            folds: by fold, what each says of the same rows, (n, k); under `ONE` the only model.
        """
        labelled = with_sureness(labelled, self.task)
        if self.asked.abstain is not None:
            sure = pl.col("confidence") >= self.asked.abstain
            labelled = labelled.with_columns(pl.when(sure).then("prediction").alias("prediction"))
        return self._with_sets(self._with_costs(labelled), folds)

    def _with_costs(self, labelled: pl.DataFrame) -> pl.DataFrame:
        if self.costs is None:
            return labelled
        chosen, expected = self.costs.cheapest(values_of(labelled))
        names = np.array(self.costs.decisions, dtype=object)
        return labelled.with_columns(
            pl.Series("decision", names[chosen].tolist(), pl.String),
            pl.Series("expected_cost", expected),
        )

    def _with_sets(self, labelled: pl.DataFrame, folds: Mapping[int, Floats]) -> pl.DataFrame:
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
                f"their prediction; {self.where} {share:.1%} have, and {right}"
            )
        if self.paid is not None:
            decided, labels = self.paid
            beside = "" if labels is None else f", against {labels:.4g} of taking each label"
            lines.append(f"{self.where} the cheapest decisions cost {decided:.4g} a row{beside}")
        if self.asked.sets is not None:
            what = "set" if self.classes else "interval"
            each = " of each class" if self.asked.by_class else ""
            lines.append(
                f"{self.asked.sets:.0%} of new rows{each} shall have their truth in their {what}, "
                "as long as they are like those of training"
            )
        return lines


def read_deciding(
    asked: Asked,
    task: Any,
    run: RunFolder,
    folds: Sequence[int],
    member: str | None,
    distilled: FoldFolder | None = None,
) -> Deciding:
    """Prepare what was asked for of a finished run.

    Args:
        asked: for what.
        task: of the run.
        run: its folder.
        folds: that vote; none where one model stands for all.
        member: that labels alone; None for the answer.
        distilled: the folder of the distilled model, if it labels.

    Raises:
        FoldwiseError: as `deciding` does, and of a run that isn't finished or is damaged, or of a
            distilled model that no row has measured.
    """
    if not run.finished:
        raise FoldwiseError(
            f"{run.path}: isn't finished, and --abstain, --costs and --sets follow from the "
            "out-of-fold predictions of all folds; finish it by: foldwise train"
        )
    check(run.path, "begun", only=[run.folds.name])
    if distilled is not None:
        table = _of_distilled(distilled, task)
        return deciding(asked, task, table, np.arange(table.height), ON_HOLDOUT)
    path = run.out_of_fold if member is None else run.member(member).out_of_fold
    check(run.path, "finished", only=[str(path.relative_to(run.path))])
    table = read_predictions(path, task)
    if folds:  # where fewer vote, their rows alone are answered as new ones are
        table = table.filter(pl.col("fold").is_in(list(folds)))
    assignment = read_assignment(read_parquet(run.folds, SCHEMA))
    return deciding(asked, task, table, assignment.groups(table["row"].to_numpy()))


def _of_distilled(one: FoldFolder, task: Any) -> pl.DataFrame:
    if not one.holdout.exists():
        raise FoldwiseError(
            f"{one.path}: --abstain, --costs and --sets follow from rows that the model has not "
            "trained on, and the run has no holdout; leave out --model distilled, or train the run "
            "with a holdout"
        )
    check(one.path, "measured")
    table = read_predictions(one.holdout, task)
    if holds(task) == "label":  # a holdout of its own file may have a label that no fold has
        table = table.filter(pl.col("target").is_in(task.classes))
    return table.with_columns(fold=pl.lit(ONE))


def deciding(
    asked: Asked,
    task: Any,
    table: pl.DataFrame,
    group: NDArray[np.int64],
    where: str = OUT_OF_FOLD,
) -> Deciding:
    """Prepare what was asked for.

    Args:
        asked: for what.
        task: of the run.
        table: predictions by who labels, of rows that it hasn't trained on.
        group: of near-duplicates, of each of these rows.
        where: says which rows these are.

    Raises:
        FoldwiseError: the task has nothing of the kind, costs can't be read, or the rows are too
            few for the level.
    """
    kind = holds(task)
    _check_task(asked, task, kind)
    classes = () if kind == "number" else tuple(str(name) for name in task.classes)
    kept, paid, costs, known = None, None, None, None
    if asked.abstain is not None:
        kept = _kept(asked.abstain, table, task)
    if asked.costs is not None:
        costs = read_costs(asked.costs, classes)
        paid = _paid(costs, table, task)
    if asked.sets is not None:
        known = known_rows(table, task, group)
        groups = len(np.unique(group))
        if (1 - asked.sets) * (groups + 1) < 1:
            raise FoldwiseError(
                f"--sets {asked.sets}: {groups} rows {where} (near-duplicates count once) "
                f"can't tell more than a level of {groups / (groups + 1):.3g}"
            )
    return Deciding(asked, task, classes, costs, known, kept, paid, where)


def sureness(labelled: pl.DataFrame, task: Any) -> Floats:
    """Return how sure each row's prediction is, (n,); of a set its most doubtful label."""
    told = labelled.with_columns(target=pl.col("prediction"))
    _, prediction, probabilities = task.to_arrays(told)
    if holds(task) != "labels":
        sure: Floats = probabilities[np.arange(len(prediction)), prediction]
        return sure
    doubtful: Floats = np.where(prediction == 1, probabilities, 1 - probabilities).min(axis=1)
    return doubtful


def with_sureness(labelled: pl.DataFrame, task: Any) -> pl.DataFrame:
    """Add how sure each row's prediction is, behind it: once, and where there are probabilities."""
    there = "confidence" in labelled.columns
    if there or holds(task) == "number" or not any(n.startswith("prob_") for n in labelled.columns):
        return labelled
    sure = pl.Series("confidence", sureness(labelled, task), dtype=pl.Float64)
    return labelled.insert_column(labelled.columns.index("prediction") + 1, sure)


def confidence_and_right(table: pl.DataFrame, task: Any) -> tuple[Floats, Flags]:
    """Return of each row how sure its prediction is, and whether all of it is right, (n,)."""
    target, prediction, _ = task.to_arrays(table)
    right = target == prediction
    return sureness(table, task), right if right.ndim == 1 else right.all(axis=1)


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
    if asked.by_class and kind == "number":
        raise FoldwiseError("--by-class: the run predicts numbers, which have no classes")


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
