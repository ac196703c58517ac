"""Where a training stands: from the loop to a checkpoint, and back."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from foldwise import checkpoints
from foldwise.runfolder import FoldFolder


@dataclass(frozen=True)
class Progress:
    """Where a training stands, after a whole number of steps.

    Attributes:
        step: optimizer steps done.
        epoch: the epoch under way, from 0.
        window: windows of it that are done.
        best: best validation score so far, None before the first.
        best_step: the step that had it.
        stale: evaluations since.
        loss_sum: summed loss of the rows since the last log line.
        loss_rows: their number.
        elapsed_s: seconds of training, over all the processes that took part.
    """

    step: int = 0
    epoch: int = 0
    window: int = 0
    best: float | None = None
    best_step: int | None = None
    stale: int = 0
    loss_sum: float = 0.0
    loss_rows: int = 0
    elapsed_s: float = 0.0


def capture(
    done: Progress, model: nn.Module, optimizer: Optimizer, schedule: LRScheduler, *, whole: bool
) -> checkpoints.Checkpoint:
    """Return a checkpoint of a training; `whole` ones carry the optimizer and can be resumed."""
    saved = optimizer.state_dict()
    tensors = {
        f"{index}.{name}": value
        for index, values in saved["state"].items()
        for name, value in values.items()
        if isinstance(value, torch.Tensor)
    }
    state = {
        "progress": asdict(done),
        "groups": [
            {key: value for key, value in group.items() if not isinstance(value, torch.Tensor)}
            for group in saved["param_groups"]
        ],
        "schedule": schedule.state_dict(),
    }
    return checkpoints.Checkpoint(done.step, model.state_dict(), tensors if whole else {}, state)


def resume(
    fold: FoldFolder,
    model: nn.Module,
    optimizer: Optimizer,
    schedule: LRScheduler,
) -> Progress:
    """Put model, optimizer and schedule where the fold's newest checkpoint has them.

    Returns:
        Where that training stood; the beginning if nothing was saved yet.
    """
    checkpoint = checkpoints.newest(fold)
    if checkpoint is None:
        return Progress()
    model.load_state_dict(checkpoint.model)
    values: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in checkpoint.optimizer.items():
        index, _, name = key.partition(".")
        values.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({"state": values, "param_groups": checkpoint.state["groups"]})
    schedule.load_state_dict(checkpoint.state["schedule"])
    return Progress(**checkpoint.state["progress"])
