"""What a run's report is drawn from."""

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


def source_of(prepared: Prepared) -> Source:
    """Return what the report of a run at hand is drawn from."""
    dataset = prepared.dataset
    lengths = getattr(dataset, "tokens", getattr(dataset, "lengths", None))
    return Source(
        prepared.run,
        prepared.config,
        prepared.task,
        prepared.assignment,
        prepared.frame,
        None if lengths is None else np.asarray(lengths),
        bounded=getattr(dataset, "bounded", 0),
    )
