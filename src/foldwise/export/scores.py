"""What an exported model scores on rows that it has not trained on.

In: a source. Out: each such set of rows with its scores, their intervals, and those of each class:
a fold's own rows and the holdout's. They are computed from the tables that validation wrote; of
the one model that stands for all folds, from the rows that the export was checked on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from foldwise.config.members import MODEL
from foldwise.evaluation.bootstrap import intervals
from foldwise.export.source import Source
from foldwise.run.folder import ONES
from foldwise.run.readers import read_parquet
from foldwise.tasks.predictions import read_predictions


@dataclass(frozen=True)
class Scored:
    """Scores of a model on some rows.

    Attributes:
        what: says which rows: out of fold, or holdout.
        rows: how many.
        scores: {metric: {value, low, high}}.
        classes: label, precision, recall, f1 and support of each; none for numbers.
    """

    what: str
    rows: int
    scores: dict[str, dict[str, float]]
    classes: list[dict[str, Any]]


def scores_of(source: Source) -> list[Scored]:
    """Score the exported model, not the run's answer, on each set of rows it has not seen."""
    groups = read_parquet(source.run.folds, ["row", "group"]).unique("row").select("row", "group")
    return [_scored(source, what, table, groups) for what, table in _tables(source)]


def _tables(source: Source) -> Iterator[tuple[str, pl.DataFrame]]:
    task: Any = source.task
    folds = source.predictor.folds
    if source.predictor.model in ONES:
        if source.rows.target is not None:
            yield "holdout", source.rows.expected.with_columns(target=source.rows.target)
        return
    if len(folds) == 1:
        fold = source.run.fold(folds[0])
        out_of_fold, holdout = fold.predictions, fold.holdout
    else:
        member = source.run.member(MODEL)
        out_of_fold, holdout = member.out_of_fold, member.holdout
    if out_of_fold.exists():
        yield "out of fold", read_predictions(out_of_fold, task)
    if holdout.exists():
        yield "holdout", read_predictions(holdout, task)


def _scored(source: Source, what: str, table: pl.DataFrame, groups: pl.DataFrame) -> Scored:
    task = source.task
    arrays = task.to_arrays(table)
    found = table.select("row").join(groups, on="row", how="left", maintain_order="left")
    group = found["group"].fill_null(strategy="zero").to_numpy()
    if what == "holdout":
        group = np.arange(table.height)
    scores = intervals(task.metrics(), *arrays, groups=group, seed=source.config.folds.seed)
    return Scored(what, table.height, scores, task.per_class(*arrays[:2]))
