"""From a config to the task and the model that it describes; from a run folder to its config."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path

import torch

from foldwise.config.load import load_stored
from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError
from foldwise.parts.registry import build_part, find_part
from foldwise.parts.usercode import UserCode
from foldwise.run.folder import RunFolder
from foldwise.table.reading import Holds
from foldwise.tasks.task import Task


def open_run(run: RunFolder, *, trust_code: bool) -> tuple[Config, UserCode]:
    """Load a run folder's config and, if trusted, its code.

    Raises:
        FoldwiseError: not a run folder, or it holds code and `trust_code` is off.
    """
    run.check_is_run()
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


def build_model(config: Config, classes: Sequence[str]) -> torch.nn.Module:
    """Build the model that a config describes, with pretrained weights and a fresh head.

    Args:
        config: the whole config.
        classes: the labels, in the order of the logits.
    """
    task = build_task(config, UserCode(config.code))
    task.load_state({"target": {"classes": list(classes)}, "rows": {}})
    return task.build_model()


def holds(task: Task) -> Holds:
    """Say what a cell of a task's target column is; one label unless the task says otherwise."""
    return getattr(task, "holds", "label")
