"""From the resolved config to what all folds share: everything that comes before the first fold.

In: a config and its task. Out: a `Prepared`, by steps that each happen once: `prepare` reads the
rows, splits them and fits the target, `encode_rows` encodes them. Nothing is written before that,
so that bad input leaves nothing behind.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl

from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError
from foldwise.parts.usercode import UserCode
from foldwise.preparation.choose import (
    choose_embedding,
    choose_epochs,
    choose_rate,
    choose_selection,
)
from foldwise.preparation.rows import read_rows, split_rows
from foldwise.run.folder import FoldFolder, RunFolder
from foldwise.split.assignment import Assignment
from foldwise.table.groups import Grouped
from foldwise.tasks.task import Task


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
        one: where the single fold lies that trains on the rows of all; None: in a run's folds.
        grouped: the near-duplicates that were looked for, which `encode_rows` keeps.
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
    one: FoldFolder | None = None
    grouped: tuple[Grouped, ...] = ()

    def fold(self, number: int) -> FoldFolder:
        """Return where a fold lies."""
        return self.run.fold(number) if self.one is None else self.one

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


def prepare(
    config: Config,
    code: UserCode,
    run: RunFolder,
    task: Task,
    *,
    online: bool = False,
    tried: bool = False,
) -> Prepared:
    """Read the rows, split them and fit the target; `encode_rows` comes after.

    Args:
        config: resolved.
        code: the user's files.
        run: the run; its folds.parquet is read if it is there.
        task: built by `build_task`.
        online: as in `Prepared`.
        tried: the parts are known to work, so that no model is built to see whether they do.

    Raises:
        FoldwiseError: anything wrong with the table, the columns, the labels or the folds.
    """
    config = choose_rate(_with_attention(config, task), task)
    stores = run.token_stores
    table = read_rows(config, task, online=online, stores=stores)
    config = choose_selection(config, table.kept.height)
    if not run.config.exists():  # one from before there was a choice goes on without
        config = choose_embedding(config, code, task, table.kept.height)
    rows = split_rows(table, config, code, run, task, online=online, stores=stores)
    task.fit_target(rows.frame)
    if rows.merged:
        task.merged = rows.merged  # type: ignore[attr-defined]
    if rows.holdout is not None and hasattr(task, "check_labels"):
        task.check_labels(rows.holdout)
    if not tried:
        _check(config, task, rows.assignment)
    return Prepared(
        config,
        run,
        code,
        task,
        rows.frame,
        None,
        rows.assignment,
        rows.holdout,
        table.sha256,
        rows.counts,
        online,
        grouped=rows.grouped,
    )


def encode_rows(prepared: Prepared) -> Prepared:
    """Add the encoded rows: the one step of preparing that writes, into the token store.

    The groups of near-duplicates are kept there too, for other runs over the same texts. The number
    of epochs is chosen here: where batches are filled by tokens it hangs on the lengths.

    Raises:
        FoldwiseError: batches are to be filled by tokens, but the rows have no lengths.
    """
    for found in prepared.grouped:
        found.keep()
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


def _with_attention(config: Config, task: Task) -> Config:
    # Which attention `auto` means hangs on the architecture, which only the task knows.
    chosen = getattr(task, "attention", None)
    model = config.model.model_copy(update={"attention": chosen or config.model.attention})
    return config.model_copy(update={"model": model})


def _check(config: Config, task: Task, assignment: Assignment) -> None:
    task.check()
    chosen = config.selection.metric
    named = [metric.name for metric in task.metrics()]
    if chosen != "loss" and chosen not in named:
        raise FoldwiseError(
            f"selection.metric: {chosen!r} isn't among the metrics: {', '.join(named)}"
        )
    if config.folds.run != "all" and max(config.folds.run) > assignment.n_folds:
        raise FoldwiseError(
            f"folds.run names fold {max(config.folds.run)}, but there are {assignment.n_folds}"
        )
