"""From the config to rows, folds and a task: everything that comes before the first fold.

In: a config. Out: a `Prepared`. Nothing is written before `encode_rows`, so that bad input leaves
nothing behind; where the run folder holds an assignment of rows to folds already, that one is read
and kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl

from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError
from foldwise.parts.registry import build_part
from foldwise.parts.usercode import UserCode
from foldwise.preparation.build import holds
from foldwise.preparation.choose import choose_epochs, choose_rate, choose_selection
from foldwise.run.folder import RunFolder
from foldwise.split.assignment import Assignment, read_assignment
from foldwise.split.folds import Labelled, assign_folds
from foldwise.table.duplicates import find_duplicates, join_groups
from foldwise.table.reading import apply_missing, draw_sample, read_table
from foldwise.tasks.task import Task, merge_labels


@dataclass(frozen=True)
class Prepared:
    """All that the folds of a run share.

    Attributes:
        config: resolved: nothing is left `auto`.
        run: where the run lies.
        code: the user's files.
        task: knows the target; its fold-dependent state is set by each fold.
        frame: the rows that train or score, ascending by `row`; merged labels are merged.
        dataset: the same rows, encoded; None before `encode_rows`.
        assignment: what each row does in each fold.
        holdout: the rows kept out of all folds, or None.
        data_sha256: of the table's bytes.
        counts: rows read, dropped, filled, duplicates and the like, for the log.
        online: ask the hub and tell trackers; a run that is only looked at does neither.
    """

    config: Config
    run: RunFolder
    code: UserCode
    task: Task
    frame: pl.DataFrame
    dataset: Any
    assignment: Assignment
    holdout: pl.DataFrame | None
    data_sha256: str
    counts: dict[str, Any] = field(default_factory=dict)
    online: bool = False

    def positions(self, rows: np.ndarray) -> np.ndarray:
        """Return where rows (by number in the table) stand in frame and dataset."""
        return np.searchsorted(self.frame["row"].to_numpy(), rows)

    def part(self, rows: np.ndarray) -> pl.DataFrame:
        """Return the frame's lines of some rows."""
        return self.frame[self.positions(rows)]

    @property
    def folds(self) -> list[int]:
        """The folds that the run consists of."""
        run = self.config.folds.run
        return list(range(1, self.assignment.n_folds + 1)) if run == "all" else sorted(run)


def prepare(config: Config, code: UserCode, run: RunFolder, task: Task) -> Prepared:
    """Read the rows, split them and fit the target; `encode_rows` comes after.

    Args:
        config: resolved.
        code: the user's files.
        run: the run; its folds.parquet is read if it is there.
        task: built by `build_task`.

    Raises:
        FoldwiseError: anything wrong with the table, the columns, the labels or the folds.
    """
    config = choose_rate(_with_attention(config, task), task)
    table, sha256, read, notes = _read(config, task)
    kept, counts = apply_missing(table, config.data)
    kept = draw_sample(kept, config.data.sample, config.data.target, config.folds.seed)
    counts = {"rows_read": read, **counts, "rows_after_sampling": kept.height}
    config = choose_selection(config, kept.height)
    sampled = kept
    if run.folds.exists():
        assignment = read_assignment(pl.read_parquet(run.folds))
    else:
        assignment, kept = _split(table, kept, config, task, code)
    kept = kept.filter(np.isin(kept["row"].to_numpy(), assignment.kept()))
    kept = _merge_labels(kept, assignment, config)
    merged = _merged_labels(sampled, kept, config)
    held = np.isin(kept["row"].to_numpy(), assignment.holdout())
    frame = kept.filter(~held)
    holdout = kept.filter(held) if held.any() else None
    if config.holdout is not None and config.holdout.path is not None:
        holdout, twins, more = _read_holdout(config.holdout.path, config, frame, merged, task)
        notes += more
        counts["training_rows_with_a_near_duplicate_in_the_holdout"] = twins
    task.fit_target(frame)
    if merged:
        task.merged = merged  # type: ignore[attr-defined]
    if holdout is not None and hasattr(task, "check_labels"):
        task.check_labels(holdout)
    _check(config, code, task, assignment)
    return Prepared(
        config,
        run,
        code,
        task,
        frame,
        None,
        assignment,
        holdout,
        sha256,
        counts | assignment.report | ({"notes": list(notes)} if notes else {}),
    )


def encode_rows(prepared: Prepared) -> Prepared:
    """Add the encoded rows: the one step of preparing that writes, into the token store.

    The number of epochs is chosen here: where batches are filled by tokens it hangs on the lengths.

    Raises:
        FoldwiseError: batches are to be filled by tokens, but the rows have no lengths.
    """
    dataset, config = prepared.task.dataset(prepared.frame), prepared.config
    if config.training.tokens_per_batch is not None and getattr(dataset, "lengths", None) is None:
        raise FoldwiseError(
            f"training.tokens_per_batch: the rows of task {config.task} have no `lengths` to count "
            "tokens by; give batch_size, and set tokens_per_batch to null"
        )
    training = prepared.assignment.training
    rows = min(len(training(number)) for number in range(1, prepared.assignment.n_folds + 1))
    lengths = getattr(dataset, "lengths", None)
    tokens = 1.0 if lengths is None else float(lengths.mean())
    config, steps = choose_epochs(config, prepared.task, rows, tokens)
    counts = {**prepared.counts, "training": steps}
    return replace(prepared, config=config, dataset=dataset, counts=counts)


def _read(config: Config, task: Task) -> tuple[pl.DataFrame, str, int, tuple[str, ...]]:
    if config.data.path is None:
        frame = task.rows()
        if "row" not in frame.columns:
            frame = frame.with_row_index("row").cast({"row": pl.Int64})
        digest = str(frame.hash_rows(seed=0).sum())
        return frame, f"rows of task {config.task}: {digest}", frame.height, ()
    table = read_table(config.data, _extra_columns(config), holds=holds(task))
    return table.frame, table.sha256, table.source_rows, table.notes


def _with_attention(config: Config, task: Task) -> Config:
    # Which attention `auto` means hangs on the architecture, which only the task knows.
    chosen = getattr(task, "attention", None)
    model = config.model.model_copy(update={"attention": chosen or config.model.attention})
    return config.model_copy(update={"model": model})


def _extra_columns(config: Config) -> list[str]:
    folds = config.folds
    wanted = [name for name in (folds.group, folds.time, folds.column) if name is not None]
    data = config.data
    roles = {*data.text, *data.categorical, *data.numeric, data.target}
    return [name for name in dict.fromkeys(wanted) if name not in roles]


def _split(
    table: pl.DataFrame, kept: pl.DataFrame, config: Config, task: Task, code: UserCode
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
    rows = Labelled(kept["row"].to_numpy(), label, row_groups(kept, config), target)
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
    text = rows.select(config.data.text)
    if config.data.text and config.folds.duplicates != "ignore":
        group = find_duplicates(text, config.folds.duplicates, config.folds.similarity).group
    else:
        group = np.arange(rows.height)
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


def _read_holdout(
    path: str, config: Config, frame: pl.DataFrame, merged: list[str], task: Task
) -> tuple[pl.DataFrame, int, tuple[str, ...]]:
    data = config.data.model_copy(update={"path": path, "sample": None})
    table = read_table(data, holds=holds(task), beside=group_column(config))
    holdout, _ = apply_missing(table.frame, data)
    holdout = merge_labels(holdout, data.target, merged)
    if not data.text or config.folds.duplicates == "ignore":
        return holdout, 0, table.notes
    texts = pl.concat([frame.select(data.text), holdout.select(data.text)])
    group = find_duplicates(texts, config.folds.duplicates, config.folds.similarity).group
    twins = np.isin(group[: frame.height], group[frame.height :])
    return holdout, int(twins.sum()), table.notes


def group_column(config: Config) -> list[str]:
    """Return the column of folds.group, to be read where another table has it: it may lack it."""
    return [] if config.folds.group is None else [config.folds.group]


def _check(config: Config, code: UserCode, task: Task, assignment: Assignment) -> None:
    task.check()
    chosen = config.selection.metric
    named = [metric.name for metric in task.metrics()]
    if chosen != "loss" and "." in chosen and chosen not in named:
        raise FoldwiseError(
            f"selection.metric: {chosen!r} isn't among the metrics: {', '.join(named)}"
        )
    if config.folds.run != "all" and max(config.folds.run) > assignment.n_folds:
        raise FoldwiseError(
            f"folds.run names fold {max(config.folds.run)}, but there are {assignment.n_folds}"
        )
