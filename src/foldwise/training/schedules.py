"""How the learning rate moves: a factor for each step, on top of each group's own rate.

In: the number of steps of the whole run. Out: a torch scheduler, stepped after every optimizer
step. The built-in ones are plain functions of the step, so a resumed run lands on the same rate.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from foldwise.config import schema
from foldwise.errors import FoldwiseError
from foldwise.parts import build_part
from foldwise.usercode import UserCode

DEFAULT_WARMUP = 0.1

Factor = Callable[[float], float]

# Share of the steps after warm-up (0 to 1) -> factor.
CURVES: dict[str, Factor] = {
    "constant": lambda share: 1.0,
    "linear": lambda share: 1.0 - share,
    "cosine": lambda share: 0.5 * (1.0 + math.cos(math.pi * share)),
}


def build_schedule(
    optimizer: Optimizer, config: schema.Schedule, steps: int, code: UserCode
) -> LRScheduler:
    """Build the schedule that the config names.

    Args:
        optimizer: its groups' rates are the schedule's peaks.
        config: name and warm-up.
        steps: optimizer steps of the whole training.
        code: the user's files.

    Raises:
        FoldwiseError: no such schedule, or one that is steered by a score (ReduceLROnPlateau).
    """
    if config.name in CURVES or config.name == "one_cycle":
        warmup = DEFAULT_WARMUP if config.warmup is None else config.warmup
        return LambdaLR(optimizer, factor(config.name, warmup, steps))
    schedule: LRScheduler = build_part(
        "schedule",
        config.name,
        config.arguments,
        code,
        "schedule",
        optimizer=optimizer,
        total_steps=steps,
        total_iters=steps,
        T_max=steps,
    )
    parameters = inspect.signature(schedule.step).parameters
    if needed := [name for name, p in parameters.items() if p.default is p.empty]:
        raise FoldwiseError(
            f"schedule: {config.name} needs {', '.join(needed)} at each step; choose one that "
            "follows from the number of the step alone"
        )
    return schedule


def factor(name: str, warmup: float, steps: int) -> Factor:
    """Return the factor of each step (0-based) for a built-in schedule.

    `one_cycle` (Smith and Topin 2018) rises from 1/25 and falls to 1/10,000, both along a cosine;
    the others rise linearly from near 0. The first step already learns: a rate of 0 wastes a batch.
    """
    rising = round(warmup * steps)

    def one_cycle(step: float) -> float:
        if step < rising:
            share = (step + 1) / (rising + 1)
            return 1.0 + (1 / 25 - 1.0) * CURVES["cosine"](share)
        share = (step - rising) / max(1, steps - rising)
        return 1e-4 + (1.0 - 1e-4) * CURVES["cosine"](min(1.0, share))

    def plain(step: float) -> float:
        if step < rising:
            return (step + 1) / (rising + 1)
        return CURVES[name](min(1.0, (step - rising) / max(1, steps - rising)))

    return one_cycle if name == "one_cycle" else plain
