"""The out-of-fold predictions of a finished run, as they are held against new rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from foldwise.run.folder import RunFolder
from foldwise.run.readers import read_parquet
from foldwise.run.seal import check
from foldwise.split.assignment import SCHEMA, read_assignment
from foldwise.tasks.predictions import read_predictions


def out_of_fold(run: RunFolder, task: Any, member: str | None = None) -> pl.DataFrame | None:
    """Read the out-of-fold predictions of a run's answer, or of a member.

    Args:
        run: its oof.parquet is read, or the member's.
        task: of the run.
        member: a name; None for the answer.

    Returns:
        The table; None of a run that isn't finished.
    """
    if not run.finished:
        return None
    path = run.out_of_fold
    if member is not None and run.member(member).out_of_fold.exists():
        path = run.member(member).out_of_fold
    check(run.path, "finished", only=[str(path.relative_to(run.path))])
    return read_predictions(path, task)


def groups_in(run: RunFolder, rows: NDArray[Any]) -> NDArray[np.int64]:
    """Return the groups of near-duplicates that a run's rows were dealt by, int64 (n,)."""
    return read_assignment(read_parquet(run.folds, SCHEMA)).groups(rows)


def out_of_fold_once(run: RunFolder, task: Any, rows: pl.DataFrame | None) -> pl.DataFrame | None:
    """Read out-of-fold predictions so that each group of near-duplicates is there once.

    Args:
        run: finished, or there are none.
        task: of the run.
        rows: those to read, by their `row`; None: the first of each group.
    """
    table = out_of_fold(run, task)
    if table is None:
        return None
    table = table.filter(pl.col("repeat") == 1)
    if rows is not None:
        return table.filter(pl.col("row").is_in(rows["row"].to_list()))
    groups = pl.Series("group", groups_in(run, table["row"].to_numpy()))
    return table.with_columns(groups).unique("group", keep="first", maintain_order=True)
