"""From a config to the task and the model that it describes; from a run folder to its config."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path

import torch

from foldwise.config.grammar import BUILTIN
from foldwise.config.load import load_stored
from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError
from foldwise.models.copies import build_copies
from foldwise.parts.registry import build_part, find_part
from foldwise.parts.usercode import UserCode
from foldwise.run.contents import Classes, Contents, Fitted
from foldwise.run.folder import DISTILLED, FoldFolder, RunFolder
from foldwise.run.readers import read_json
from foldwise.run.seal import check
from foldwise.table.reading import Holds
from foldwise.tasks.task import Task


def open_run(run: RunFolder, *, trust_code: bool) -> tuple[Config, UserCode]:
    """Load a run folder's config and, if trusted, its code, once its seal vouches for them.

    Raises:
        FoldwiseError: not a run folder, a file of its record isn't as it was sealed, or it holds
            code and `trust_code` is off.
    """
    run.check_is_run()
    check(run.path, "begun")
    config = load_stored(run.config)
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
    config: Config,
    code: UserCode,
    run: RunFolder | None = None,
    stores: Path | None = None,
    *,
    online: bool = False,
) -> Task:
    """Build the task that the config names.

    Args:
        config: the whole config.
        code: the user's files.
        run: a run whose checkpoints will replace the weights; None to load pretrained ones.
        stores: folder of token stores, or None.
        online: ask the hub for what the run needs and this machine lacks.

    Raises:
        FoldwiseError: it isn't there, or lacks a method that the workflow calls.
    """
    part = find_part("task", config.task, code, "task")
    methods = [name for name, _ in inspect.getmembers(Task, inspect.isfunction) if name[0] != "_"]
    lacking = [name for name in methods if not callable(getattr(part, name, None))]
    if lacking:
        raise FoldwiseError(
            f"task: {config.task} has no {', '.join(lacking)}; a subclass of "
            "foldwise.tasks.multiclass.Multiclass needs only rows (or data.path), dataset, collate "
            "and build_model"
        )
    task: Task = build_part(
        *("task", config.task, {}, code, "task"),
        **{"config": config, "code": code, "run": run, "stores": stores, "online": online},
    )
    return task


def load_target(task: Task, config: Config, run: RunFolder, fold: FoldFolder | None = None) -> None:
    """Give a task the classes of a run, and what a fold has fitted.

    Args:
        task: of the run.
        config: the run's; what the files of a built-in task hold is known.
        run: its classes.json is read.
        fold: its encoders.json is read; None where nothing fitted is needed.

    Raises:
        FoldwiseError: a file is absent, damaged, or not of this task.
    """
    ours = config.task in BUILTIN["task"]
    target = read_json(run.classes, Classes if ours else Contents)
    rows = {} if fold is None else read_json(fold.encoders, Fitted if ours else Contents)
    try:
        task.load_state({"target": target, "rows": rows})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        files = run.classes if fold is None else f"{run.classes} or {fold.encoders}"
        raise FoldwiseError(
            f"{files}: not of task {config.task} ({type(error).__name__}: {error}); put it back "
            "from a copy of the run"
        ) from None


def build_model(config: Config, classes: Sequence[str]) -> torch.nn.Module:
    """Build the model that a config describes, with pretrained weights and a fresh head.

    Args:
        config: the whole config.
        classes: the labels, in the order of the logits.
    """
    task = build_task(config, UserCode(config.code))
    task.load_state({"target": {"classes": list(classes)}, "rows": {}})
    return build_copies(task.build_model, config.training.seeds)


def build_fold_model(task: Task, config: Config, folder: FoldFolder) -> torch.nn.Module:
    """Build the untrained model of a fold: `training.seeds` copies of the task's.

    A distilled one is always one network: it is made to be small.

    Args:
        task: with what the fold has fitted.
        config: the run's.
        folder: the fold's, or that of one model for all folds.
    """
    seeds = 1 if folder.path.name == DISTILLED else config.training.seeds
    return build_copies(task.build_model, seeds)


def holds(task: Task) -> Holds:
    """Say what a cell of a task's target column is; one label unless the task says otherwise."""
    return getattr(task, "holds", "label")
