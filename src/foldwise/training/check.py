"""Whether the parts of a training work, before it starts."""

from __future__ import annotations

import torch

from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError
from foldwise.hardware.device import resolve_device
from foldwise.parts.usercode import UserCode
from foldwise.training.optimizers import build_optimizer
from foldwise.training.schedules import build_schedule
from foldwise.training.tracking import check_trackers


def check_training(config: Config, code: UserCode) -> None:
    """Try trackers, optimizer and schedule: what can't work shows before anything is written.

    Raises:
        FoldwiseError: one of them can't be built, or fails in a step with one weight.
    """
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
