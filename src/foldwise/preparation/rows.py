"""From the table to the run's rows: read once, cleaned and sampled, dealt to holdout and folds.

In: a resolved config and its task. Out: a `CleanTable`, then `SplitRows`. Nothing is fitted,
encoded or written. Where the run folder holds an assignment of rows to folds already, that one is
read and kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError
from foldwise.parts.registry import build_part
from foldwise.parts.usercode import UserCode
from foldwise.preparation.build import holds
from foldwise.run.folder import RunFolder
from foldwise.run.readers import read_parquet
from foldwise.split.assignment import SCHEMA, Assignment, read_assignment
from foldwise.split.folds import Labelled, assign_folds
from foldwise.table.duplicates import join_groups
from foldwise.table.groups import Grouped, group_texts
from foldwise.table.reading import Table, apply_missing, draw_sample, read_table
from foldwise.tasks.task import Task, merge_labels


@dataclass(frozen=True)
class CleanTable:
    """A table without the rows that missing values or sampling drop.

    Attributes:
        read: the table as read.
        kept: the rows that are left of it, ascending by `row`.
        sha256: of the table's bytes.
        counts: rows read, dropped, filled.
        notes: what was odd about the file.
    """

    read: pl.DataFrame
    kept: pl.DataFrame
    sha256: str
    counts: dict[str, Any]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class SplitRows:
    """The rows of a run, and what each does.

    Attributes:
        frame: the rows that train or score, ascending by `row`; merged labels are merged.
        holdout: the rows kept out of all folds, or None.
        assignment: what each row does in each fold.
        merged: labels of the table that are called "other" now.
        counts: the table's, and duplicates and the like.
        grouped: the near-duplicates that were looked for, to be kept once all is known to be good.
    """

    frame: pl.DataFrame
    holdout: pl.DataFrame | None
    assignment: Assignment
    merged: list[str]
    counts: dict[str, Any]
    grouped: tuple[Grouped, ...] = ()


def read_rows(
    config: Config, task: Task, *, online: bool = False, stores: Path | None = None
) -> CleanTable:
    """Read the table, or the task's own rows, handle missing values and draw the sample.

    Args:
        config: resolved; `data` and `folds` are read.
        task: says what a cell of the target is.
        online: ask the store that `data.path` may name.
        stores: where the text of a big table may lie, as for `read_table`.

    Raises:
        FoldwiseError: anything wrong with the table or the columns.
    """
    table, sha256, read, notes = _read(config, task, online, stores)
    kept, counts = apply_missing(table, config.data)
    kept = draw_sample(kept, config.data.sample, config.data.target, config.folds.seed)
    counts = {"rows_read": read, **counts, "rows_after_sampling": kept.height}
    return CleanTable(table, kept, sha256, counts, notes)


def split_rows(
    table: CleanTable,
    config: Config,
    code: UserCode,
    run: RunFolder,
    task: Task,
    *,
    online: bool = False,
    stores: Path | None = None,
) -> SplitRows:
    """Deal rows to holdout and folds, or read how a run has dealt them, and merge rare labels.

    Args:
        table: of `read_rows`.
        config: resolved.
        code: the user's files.
        run: its folds.parquet is read if it is there.
        task: says by what to stratify.
        online: ask the store that `holdout.path` may name.
        stores: where the text of a big table for the holdout may lie, as for `read_table`, and
            groups of near-duplicates that were found before.

    Raises:
        FoldwiseError: anything wrong with the labels, the folds or the holdout's table.
    """
    kept, counts, notes = table.kept, table.counts, table.notes
    grouped: list[Grouped] = []
    if run.folds.exists():
        assignment = read_assignment(read_parquet(run.folds, SCHEMA))
    else:
        grouped.append(_grouped(kept, config, stores))
        group = _joined(grouped[0].group, kept, config)
        assignment, kept = _split(table.read, kept, group, config, task, code)
    kept = kept.filter(np.isin(kept["row"].to_numpy(), assignment.kept()))
    rare = table.kept.height - kept.height
    kept = _merge_labels(kept, assignment, config)
    merged = _merged_labels(table.kept, kept, config)
    held = np.isin(kept["row"].to_numpy(), assignment.holdout())
    frame = kept.filter(~held)
    holdout = kept.filter(held) if held.any() else None
    if config.holdout is not None and config.holdout.path is not None:
        beside = _holdout_table(config.holdout.path, config, task, online, stores)
        holdout, _ = apply_missing(beside.frame, config.data)
        holdout = merge_labels(holdout, config.data.target, merged)
        both = [rows.select("row", *config.data.text) for rows in (frame, holdout)]
        grouped.append(_grouped(pl.concat(both), config, stores))
        of_frame, of_holdout = np.split(grouped[-1].group, [frame.height])
        twins = int(np.isin(of_frame, of_holdout).sum())
        notes += beside.notes
        counts = {**counts, "training_rows_with_a_near_duplicate_in_the_holdout": twins}
    told = {"rows_of_rare_classes_dropped": rare, "merged_classes": merged, "notes": list(notes)}
    counts = counts | assignment.report | {key: value for key, value in told.items() if value}
    return SplitRows(frame, holdout, assignment, merged, counts, tuple(grouped))


def _read(
    config: Config, task: Task, online: bool, stores: Path | None
) -> tuple[pl.DataFrame, str, int, tuple[str, ...]]:
    if config.data.path is None:
        frame = task.rows()
        if "row" not in frame.columns:
            frame = frame.with_row_index("row").cast({"row": pl.Int64})
        digest = str(frame.hash_rows(seed=0).sum())
        return frame, f"rows of task {config.task}: {digest}", frame.height, ()
    extra = _extra_columns(config)
    table = read_table(config.data, extra, holds=holds(task), online=online, stores=stores)
    return table.frame, table.sha256, table.source_rows, table.notes


def columns_of(config: Config) -> list[str]:
    """List the columns that a config names: those with a role, then those that folds go by."""
    data = config.data
    target = [] if data.target is None else [data.target]
    return [*data.text, *data.categorical, *data.numeric, *target, *_extra_columns(config)]


def _extra_columns(config: Config) -> list[str]:
    folds = config.folds
    wanted = [name for name in (folds.group, folds.time, folds.column) if name is not None]
    data = config.data
    roles = {*data.text, *data.categorical, *data.numeric, data.target}
    return [name for name in dict.fromkeys(wanted) if name not in roles]


def _split(
    table: pl.DataFrame,
    kept: pl.DataFrame,
    group: np.ndarray,
    config: Config,
    task: Task,
    code: UserCode,
) -> tuple[Assignment, pl.DataFrame]:
    columns = [name for name in (config.folds.time, config.folds.column) if name is not None]
    label = task.stratify_key(kept)
    strategy = config.folds.strategy
    splitter = None
    if "." in strategy.name:
        seed = config.folds.seed
        offered: dict[str, Any] = {"n_splits": config.folds.n}
        if strategy.arguments.get("shuffle"):
            offered["random_state"] = seed
        splitter = build_part(
            "splitter", strategy.name, strategy.arguments, code, "folds.strategy", **offered
        )
        if not callable(getattr(splitter, "split", None)):
            raise FoldwiseError(f"folds.strategy {strategy.name} has no split(X, y, groups)")
    target = None if holds(task) == "label" else kept[str(config.data.target)].to_numpy()
    rows = Labelled(kept["row"].to_numpy(), label, group, target)
    dropped = np.setdiff1d(table["row"].to_numpy(), rows.row).tolist()
    assignment, merged = assign_folds(rows, config, kept.select("row", *columns), splitter, dropped)
    if merged is not None and rows.one_class_each and config.data.target is not None:
        kept = kept.with_columns(pl.Series(config.data.target, merged.astype(str)))
    return assignment, kept


def row_groups(rows: pl.DataFrame, config: Config) -> np.ndarray:
    """Number the rows that must stay together: duplicate texts, and equal values of folds.group.

    Args:
        rows: of the run's table, or of another; the latter may lack the column of folds.group.
        config: `data.text` and `folds` are read.

    Returns:
        (rows,) int64; rows of equal number are one observation.
    """
    return _joined(_grouped(rows, config, None).group, rows, config)


def _grouped(rows: pl.DataFrame, config: Config, stores: Path | None) -> Grouped:
    if not config.data.text:
        return Grouped(np.arange(rows.height))
    texts, folds = rows.select(config.data.text), config.folds
    return group_texts(texts, folds.duplicates, folds.similarity, stores)


def _joined(group: np.ndarray, rows: pl.DataFrame, config: Config) -> np.ndarray:
    by = config.folds.group
    return join_groups(group, rows[by]) if by is not None and by in rows.columns else group


def _merge_labels(kept: pl.DataFrame, assignment: Assignment, config: Config) -> pl.DataFrame:
    # A run that is continued reads its folds; which labels were merged follows from them again.
    target = config.data.target
    if config.data.rare_classes != "merge" or target is None or "classes" in assignment.report:
        return kept
    if config.folds.strategy.name in ("column", "time"):  # folds.py leaves rare classes there
        return kept
    groups = pl.Series("group", assignment.groups(kept["row"].to_numpy()))
    scored = np.isin(kept["row"].to_numpy(), assignment.holdout(), invert=True)
    rare = (
        kept.select(pl.col(target).alias("label"), groups)
        .filter(pl.Series(scored))
        .group_by("label")
        .agg(pl.col("group").n_unique())
        .filter(pl.col("group") < config.folds.n)["label"]
    )
    return merge_labels(kept, target, rare.to_list())


def _merged_labels(before: pl.DataFrame, after: pl.DataFrame, config: Config) -> list[str]:
    # Which labels of the table are called "other" now.
    target = config.data.target
    if config.data.rare_classes != "merge" or target is None:
        return []
    label = pl.col(target).cast(pl.String)
    names = after.select("row", called=label).join(before.select("row", label=label), on="row")
    return sorted(names.filter(pl.col("called") != pl.col("label"))["label"].unique())


def _holdout_table(
    path: str, config: Config, task: Task, online: bool, stores: Path | None
) -> Table:
    data = config.data.model_copy(update={"path": path, "sample": None})
    beside = group_column(config)
    return read_table(data, holds=holds(task), beside=beside, online=online, stores=stores)


def group_column(config: Config) -> list[str]:
    """Return the column of folds.group, to be read where another table has it: it may lack it."""
    return [] if config.folds.group is None else [config.folds.group]
