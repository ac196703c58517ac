"""What a run's report is drawn from, and the scored rows that any report's sections show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from foldwise.config.schema import Config
from foldwise.preparation.prepare import Prepared
from foldwise.run.folder import RunFolder
from foldwise.split.assignment import Assignment


@dataclass(frozen=True)
class Source:
    """What a report is drawn from.

    Attributes:
        run: the finished run.
        config: as it ran.
        task: with the run's classes.
        assignment: rows and folds.
        frame: the cross-validation rows as they were used; None where the table isn't at hand.
        lengths: tokens of each row of `frame` before truncation; None where rows have none.
        why: why there is no frame.
        bounded: very long rows whose length is a lower bound.
    """

    run: RunFolder
    config: Config
    task: Any
    assignment: Assignment
    frame: pl.DataFrame | None
    lengths: np.ndarray | None
    why: str = ""
    bounded: int = 0

    def judged(self, table: pl.DataFrame) -> Judged:
        """Return the run's out-of-fold rows for the sections that show scored rows."""
        return Judged(
            self.config,
            self.task,
            table,
            self.task.to_arrays(table),
            self.assignment.groups(table["row"].to_numpy()),
            "out of fold",
            self.frame,
            self.lengths,
            self.bounded,
        )


@dataclass(frozen=True)
class Judged:
    """Rows with their targets and predictions: out of fold, or of a new table.

    Attributes:
        config: of the run.
        task: with the run's classes.
        table: row, target, prediction and, of classes, prob_*.
        arrays: the same as metrics take it.
        groups: (n,); rows of equal number are one observation.
        told: where these rows are scored, in words.
        frame: their columns, ascending by `row`; None where they aren't at hand.
        lengths: tokens of each row of `frame` before truncation; None where rows have none.
        bounded: very long rows whose length is a lower bound.
    """

    config: Config
    task: Any
    table: pl.DataFrame
    arrays: tuple[np.ndarray, np.ndarray, np.ndarray]
    groups: np.ndarray
    told: str
    frame: pl.DataFrame | None
    lengths: np.ndarray | None
    bounded: int = 0


def source_of(prepared: Prepared) -> Source:
    """Return what the report of a run at hand is drawn from."""
    lengths, bounded = lengths_of(prepared.dataset)
    return Source(
        prepared.run,
        prepared.config,
        prepared.task,
        prepared.assignment,
        prepared.frame,
        lengths,
        bounded=bounded,
    )


def lengths_of(dataset: Any) -> tuple[np.ndarray | None, int]:
    """Return rows' lengths in tokens before truncation, and how many are lower bounds."""
    lengths = getattr(dataset, "tokens", getattr(dataset, "lengths", None))
    return None if lengths is None else np.asarray(lengths), getattr(dataset, "bounded", 0)
