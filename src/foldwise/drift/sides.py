"""The two tables that are set against each other: training rows and new rows, each group once.

Rows of a group of near-duplicates are one observation, so of each group one row, drawn, stands for
all. Groups with rows in both tables are left out of what is compared: they haven't changed, and a
new row that the run was trained on a twin of is answered more surely than any out-of-fold row.
Tables of more than MOST rows are drawn from, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError
from foldwise.parts.usercode import UserCode
from foldwise.preparation.rows import read_rows, split_rows
from foldwise.run.contents import Manifest
from foldwise.run.folder import RunFolder
from foldwise.run.readers import read_json
from foldwise.table.chunks import NewRows
from foldwise.table.duplicates import find_duplicates
from foldwise.table.reading import ROW, apply_missing
from foldwise.tasks.task import Task

_ROLES = ("text", "categorical", "numeric")
MOST = 20_000  # rows of a table that are compared: a share has a standard error of 0.4 points then


@dataclass(frozen=True)
class Sides:
    """The rows that are compared.

    Attributes:
        training: one row a group, of those that the run's folds train on; None where the table
            isn't at hand.
        new: one row a group of the new table.
        why: why there are no training rows.
        rows: rows of the new table.
        drawn: new rows that were looked at: all, or MOST of them.
        training_rows: rows that the run's folds train on.
        training_drawn: how many of them were looked at.
        twins: drawn new rows that are near-duplicates of a drawn training row.
        copies: drawn new rows that are near-duplicates of another new row, twins aside.
        unreadable: new rows left out because a cell can't be read.
        dropped: rows that data.missing drops, and rows read: of the training table, and the new
            one; the former (0, 0) where the table isn't at hand.
    """

    training: pl.DataFrame | None
    new: pl.DataFrame
    why: str
    rows: int
    drawn: int
    training_rows: int
    training_drawn: int
    twins: int
    copies: int
    unreadable: int
    dropped: tuple[tuple[int, int], tuple[int, int]]


@dataclass(frozen=True)
class Training:
    """The rows that a run's folds train on.

    Attributes:
        frame: the rows; None where the table isn't at hand.
        why: why it isn't.
        dropped: rows that data.missing dropped for empty columns, and rows read.
    """

    frame: pl.DataFrame | None
    why: str = ""
    dropped: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class New:
    """The new rows that are looked at.

    Attributes:
        frame: all of the table, or MOST of them, with `row` and the run's columns, as read.
        rows: of the table.
        unreadable: how many were left out because a cell can't be read.
    """

    frame: pl.DataFrame
    rows: int
    unreadable: int = 0


def read_new(table: NewRows, seed: int) -> New:
    """Read a table of any size chunk by chunk, and draw MOST of its rows.

    Args:
        table: opened.
        seed: of the draw.
    """
    wanted = np.ones(table.count, dtype=bool)
    if table.count > MOST:
        chosen = np.random.default_rng([seed, 4]).choice(table.count, MOST, replace=False)
        wanted[:] = False
        wanted[chosen] = True
    parts, unreadable = list[pl.DataFrame](), 0
    for chunk in table.chunks():
        taken = chunk.rows.filter(wanted[chunk.rows[ROW].to_numpy()])
        kept = taken.filter(~pl.col(ROW).is_in(list(chunk.problems)))
        unreadable += taken.height - kept.height
        parts.append(kept)
    return New(pl.concat(parts), table.count, unreadable)


def training_rows(
    config: Config, code: UserCode, run: RunFolder, task: Task, *, online: bool = False
) -> Training:
    """Read the rows that a run's folds train on; none where the table is gone or has changed."""
    try:
        table = read_rows(config, task, online=online, stores=run.texts)
        if table.sha256 != read_json(run.manifest, Manifest)["data_sha256"]:
            return Training(None, f"{config.data.path} has changed since the run was made from it")
        rows = split_rows(table, config, code, run, task, online=online).frame
    except FoldwiseError as error:
        return Training(None, str(error))
    dropped = [table.counts.get(f"dropped:{role}", 0) for role in _ROLES]
    return Training(rows, "", (sum(dropped), table.counts["rows_read"]))


def set_against(training: Training, new: New, config: Config) -> Sides:
    """Draw the rows to compare, one a group of near-duplicates.

    Args:
        training: of `training_rows`.
        new: of `read_new`.
        config: the run's: what it drops for empty cells is dropped of the new rows, too, and its
            rule says what near-duplicates are.
    """
    random = np.random.default_rng([config.folds.seed, 2])
    drawn, looked_at = _kept(new.frame, config), new.frame.height
    before = drawn.head(0) if training.frame is None else _drawn(training.frame, random)
    group = _groups(before, drawn, config)
    old, fresh = group[: before.height], group[before.height :]
    twin = np.isin(fresh, old)
    of_old = _one_each(old, np.isin(old, fresh), random)
    of_new = _one_each(fresh, twin, random)
    return Sides(
        None if training.frame is None else before[of_old],
        drawn[of_new],
        training.why,
        new.rows,
        looked_at,
        0 if training.frame is None else training.frame.height,
        before.height,
        int(twin.sum()),
        int((~twin).sum()) - len(of_new),
        new.unreadable,
        (training.dropped, (looked_at - drawn.height, looked_at)),
    )


def _kept(rows: pl.DataFrame, config: Config) -> pl.DataFrame:
    try:
        return apply_missing(rows, config.data, need_target=False)[0]
    except FoldwiseError:  # every row is dropped, which is a finding
        return rows.clear()


def _drawn(frame: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    if frame.height <= MOST:
        return frame
    return frame[np.sort(random.choice(frame.height, MOST, replace=False))]


def _groups(before: pl.DataFrame, new: pl.DataFrame, config: Config) -> np.ndarray:
    text, how = config.data.text, config.folds.duplicates
    if not text or how == "ignore":
        return np.arange(before.height + new.height)
    texts = pl.concat([before.select(text), new.select(text)])
    return find_duplicates(texts, how, config.folds.similarity).group


def _one_each(group: np.ndarray, left_out: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return the positions, ascending, of one row of each group that isn't left out."""
    order = random.permutation(len(group))
    order = order[~left_out[order]]
    return np.sort(order[np.unique(group[order], return_index=True)[1]])
