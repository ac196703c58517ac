"""From the config to rows, folds and a task: everything that comes before the first fold.

In: a config. Out: a `Prepared`. Nothing is written before `encode_rows`, so that bad input leaves
nothing behind; where the run folder holds an assignment of rows to folds already, that one is read
and kept.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from foldwise.config.grammar import BUILTIN
from foldwise.config.load import load_config
from foldwise.config.schema import LABEL_OTHER, Config
from foldwise.errors import FoldwiseError
from foldwise.hardware.device import resolve_device, resolve_precision
from foldwise.losses.classes import weight_rule
from foldwise.parts.registry import build_part, find_part
from foldwise.parts.usercode import UserCode
from foldwise.run.folder import RunFolder
from foldwise.split.folds import Assignment, Labelled, assign_folds, read_assignment
from foldwise.table.duplicates import find_duplicates, join_groups
from foldwise.table.reading import Holds, apply_missing, draw_sample, read_table
from foldwise.tasks.task import Task
from foldwise.training.optimizers import build_optimizer
from foldwise.training.schedules import DEFAULT_WARMUP, build_schedule
from foldwise.training.tracking import check_trackers


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


def resolve(config: Config, like: Config | None = None) -> Config:
    """Replace whatever is `auto` by what it means on this machine.

    Args:
        config: as loaded.
        like: the resolved config of the run to be continued; its choices stand.

    Raises:
        FoldwiseError: the device isn't there, or no such loss.
    """
    training, model = config.training, config.model
    device: str = training.device
    if device == "auto":
        device = like.training.device if like else resolve_device(device)
    resolve_device(device)
    precision: str = training.precision
    if precision == "auto":
        precision = like.training.precision if like else resolve_precision(precision, device)
    size = training.batch_size
    if size is None and training.tokens_per_batch is None:
        size = 32
    dropout = model.attention_dropout
    if dropout is None:
        dropout = like.model.attention_dropout if like else (0.0 if device == "cpu" else None)
    attention: str = model.attention
    if attention == "auto" and like:
        attention = like.model.attention
    schedule = config.schedule
    if schedule.warmup is None and schedule.name in BUILTIN["schedule"]:
        schedule = schedule.model_copy(update={"warmup": DEFAULT_WARMUP})
    optimizer = config.optimizer
    if optimizer.lr == "auto" and like:
        found = {"lr": like.optimizer.lr, "head_lr": like.optimizer.head_lr}
        optimizer = optimizer.model_copy(update=found)
    loss = config.loss
    if loss.class_weights == "auto":
        rule = weight_rule(loss, UserCode(config.code))
        loss = loss.model_copy(update={"class_weights": rule})
    placed = {"device": device, "precision": precision, "batch_size": size}
    return config.model_copy(
        update={
            "training": training.model_copy(update=placed),
            "model": model.model_copy(
                update={"attention_dropout": dropout, "attention": attention}
            ),
            "optimizer": optimizer,
            "schedule": schedule,
            "loss": loss,
        }
    )


def open_run(run: RunFolder, *, trust_code: bool) -> tuple[Config, UserCode]:
    """Load a run folder's config and, if trusted, its code.

    Raises:
        FoldwiseError: not a run folder, or it holds code and `trust_code` is off.
    """
    run.check_is_run()
    config = load_config(run.config)
    if config.code and not trust_code:
        names = ", ".join(Path(path).name for path in config.code)
        raise FoldwiseError(
            f"{run.path} holds Python files of its own ({names}) that would be run; read them, "
            "then give --trust-code"
        )
    placed = {
        "run": config.run.model_copy(update={"dir": str(run.path.parent), "name": run.path.name})
    }
    return config.model_copy(update=placed), UserCode(config.code)


def build_task(
    config: Config, code: UserCode, run: RunFolder | None = None, stores: Path | None = None
) -> Task:
    """Build the task that the config names.

    Args:
        config: the whole config.
        code: the user's files.
        run: a run whose checkpoints will replace the weights; None to load pretrained ones.
        stores: folder of token stores, or None.

    Raises:
        FoldwiseError: it isn't there, or lacks a method that the workflow calls.
    """
    part = find_part("task", config.task, code, "task")
    methods = [name for name, _ in inspect.getmembers(Task, inspect.isfunction) if name[0] != "_"]
    lacking = [name for name in methods if not callable(getattr(part, name, None))]
    if lacking:
        raise FoldwiseError(
            f"task: {config.task} has no {', '.join(lacking)}; a subclass of "
            "foldwise.tasks.task.Multiclass needs only rows (or data.path), dataset, collate and "
            "build_model"
        )
    task: Task = build_part(
        "task", config.task, {}, code, "task", config=config, code=code, run=run, stores=stores
    )
    return task


def build_model(config: Config, classes: Sequence[str]) -> torch.nn.Module:
    """Build the model that a config describes, with pretrained weights and a fresh head.

    Args:
        config: the whole config.
        classes: the labels, in the order of the logits.
    """
    task = build_task(config, UserCode(config.code))
    task.load_state({"target": {"classes": list(classes)}, "rows": {}})
    return task.build_model()


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
    config = _with_attention(config, task)
    table, sha256, read = _read(config, task)
    kept, counts = apply_missing(table, config.data)
    kept = draw_sample(kept, config.data.sample, config.data.target, config.folds.seed)
    counts = {"rows_read": read, **counts, "rows_after_sampling": kept.height}
    sampled = kept
    if run.folds.exists():
        assignment = read_assignment(pl.read_parquet(run.folds))
    else:
        assignment, kept = _split(table, kept, config, task, code)
    kept = kept.filter(np.isin(kept["row"].to_numpy(), assignment.kept()))
    kept = _merge_labels(kept, assignment, config)
    held = np.isin(kept["row"].to_numpy(), assignment.holdout())
    frame = kept.filter(~held)
    holdout = kept.filter(held) if held.any() else None
    if config.holdout is not None and config.holdout.path is not None:
        merged = _merged_labels(sampled, frame, config)
        holdout, twins = _read_holdout(config.holdout.path, config, frame, merged, task)
        counts["training_rows_with_a_near_duplicate_in_the_holdout"] = twins
    task.fit_target(frame)
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
        counts | assignment.report,
    )


def holds(task: Task) -> Holds:
    """Say what a cell of a task's target column is; one label unless the task says otherwise."""
    return getattr(task, "holds", "label")


def encode_rows(prepared: Prepared) -> Prepared:
    """Add the encoded rows: the one step of preparing that writes, into the token store."""
    return replace(prepared, dataset=prepared.task.dataset(prepared.frame))


def _read(config: Config, task: Task) -> tuple[pl.DataFrame, str, int]:
    if config.data.path is None:
        frame = task.rows()
        if "row" not in frame.columns:
            frame = frame.with_row_index("row").cast({"row": pl.Int64})
        digest = str(frame.hash_rows(seed=0).sum())
        return frame, f"rows of task {config.task}: {digest}", frame.height
    table = read_table(config.data, _extra_columns(config), holds=holds(task))
    return table.frame, table.sha256, table.source_rows


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
    rows = Labelled(kept["row"].to_numpy(), label, _groups(kept, config), target)
    dropped = np.setdiff1d(table["row"].to_numpy(), rows.row).tolist()
    assignment, merged = assign_folds(rows, config, kept.select("row", *columns), splitter, dropped)
    if merged is not None and rows.one_class_each and config.data.target is not None:
        kept = kept.with_columns(pl.Series(config.data.target, merged.astype(str)))
    return assignment, kept


def _groups(kept: pl.DataFrame, config: Config) -> np.ndarray:
    """Number the rows that must stay together: duplicate texts, and equal values of folds.group."""
    text = kept.select(config.data.text)
    if config.data.text and config.folds.duplicates != "ignore":
        group = find_duplicates(text, config.folds.duplicates, config.folds.similarity).group
    else:
        group = np.arange(kept.height)
    return group if config.folds.group is None else join_groups(group, kept[config.folds.group])


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
    return kept.with_columns(
        pl.when(pl.col(target).is_in(rare.to_list()))
        .then(pl.lit(LABEL_OTHER))
        .otherwise(target)
        .alias(target)
    )


def _merged_labels(before: pl.DataFrame, after: pl.DataFrame, config: Config) -> list[str]:
    # Which labels of the table are called "other" now.
    target = config.data.target
    if config.data.rare_classes != "merge" or target is None:
        return []
    return sorted(set(before[target].cast(pl.String)) - set(after[target].cast(pl.String)))


def _read_holdout(
    path: str, config: Config, frame: pl.DataFrame, merged: list[str], task: Task
) -> tuple[pl.DataFrame, int]:
    data = config.data.model_copy(update={"path": path, "sample": None})
    holdout, _ = apply_missing(read_table(data, holds=holds(task)).frame, data)
    if merged and data.target is not None:
        label = pl.col(data.target)
        other = pl.when(label.is_in(merged)).then(pl.lit(LABEL_OTHER)).otherwise(label)
        holdout = holdout.with_columns(other.alias(data.target))
    if not data.text or config.folds.duplicates == "ignore":
        return holdout, 0
    texts = pl.concat([frame.select(data.text), holdout.select(data.text)])
    group = find_duplicates(texts, config.folds.duplicates, config.folds.similarity).group
    twins = np.isin(group[: frame.height], group[frame.height :])
    return holdout, int(twins.sum())


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
    check_trackers(config, code)
    # Optimizer and schedule take a step with one weight: what can't work shows before training.
    if config.training.device == "cuda" and not torch.cuda.is_available():
        return  # trained on another machine, and only validated here
    device = resolve_device(config.training.device)
    layer = torch.nn.Linear(1, 1, device=device)
    optimizer = build_optimizer(layer, config.optimizer, code)
    schedule = build_schedule(optimizer, config.schedule, 10, code)
    layer(torch.ones(1, 1, device=device)).sum().backward()
    for what, name, part in (
        ("optimizer", config.optimizer.name, optimizer),
        ("schedule", config.schedule.name, schedule),
    ):
        try:
            part.step()
        except Exception as error:
            raise FoldwiseError(
                f"{what}: {name} can't be used: step() fails: {type(error).__name__}: {error}"
            ) from error
