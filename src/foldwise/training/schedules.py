"""How the learning rate moves: a factor for each step, on top of each group's own rate.

In: the number of steps of the whole run. Out: a torch scheduler, stepped after every optimizer
step. The built-in ones but `plateau` are plain functions of the step, so a resumed run lands on the
same rate; `plateau` counts evaluations too, and its counts stand in the checkpoint.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from foldwise.config.grammar import BUILTIN
from foldwise.config.training import DEFAULT_WARMUP, SCHEDULE_ARGUMENTS
from foldwise.config.training import Schedule as ScheduleConfig
from foldwise.errors import FoldwiseError
from foldwise.parts.registry import build_part
from foldwise.parts.usercode import UserCode

Factor = Callable[[float], float]

# Share of the steps after warm-up (0 to 1) -> factor.
CURVES: dict[str, Factor] = {
    "constant": lambda share: 1.0,
    "linear": lambda share: 1.0 - share,
    "cosine": lambda share: 0.5 * (1.0 + math.cos(math.pi * share)),
}


def build_schedule(
    optimizer: Optimizer, config: ScheduleConfig, steps: int, code: UserCode
) -> LRScheduler:
    """Build the schedule that the config names.

    Args:
        optimizer: its groups' rates are the schedule's peaks.
        config: name, warm-up and arguments.
        steps: optimizer steps of the whole training.
        code: the user's files.

    Raises:
        FoldwiseError: no such schedule, or one of torch that is steered by a score
            (ReduceLROnPlateau).
    """
    if config.name in BUILTIN["schedule"]:
        warmup = DEFAULT_WARMUP if config.warmup is None else config.warmup
        arguments = SCHEDULE_ARGUMENTS.get(config.name, {}) | config.arguments
        if config.name == "plateau":
            rising, patience = round(warmup * steps), int(arguments["patience"])
            return Plateau(optimizer, rising, arguments["factor"], patience)
        return LambdaLR(optimizer, factor(config.name, warmup, steps, arguments))
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
            "follows from the number of the step alone, or the built-in plateau"
        )
    return schedule


def factor(
    name: str, warmup: float, steps: int, arguments: Mapping[str, float] | None = None
) -> Factor:
    """Return the factor of each step (0-based) for a built-in schedule.

    `one_cycle` (Smith and Topin 2018) rises from 1/25 and falls to 1/10,000, both along a cosine;
    the others rise linearly from near 0. The first step already learns: a rate of 0 wastes a batch.
    `polynomial` falls as (1 - share) ** power; `wsd` (warm-up, stable, decay: Hu et al. 2024) stays
    at the peak and falls linearly over the last `decay` of the steps.
    """
    rising = round(warmup * steps)
    chosen = arguments or SCHEDULE_ARGUMENTS.get(name, {})
    curves = dict(CURVES)
    start = rising  # the step at which the rate begins to fall
    if name == "polynomial":
        curves[name] = lambda share: (1.0 - share) ** chosen["power"]
    elif name == "wsd":
        start = max(rising, steps - round(chosen["decay"] * steps))
        curves[name] = CURVES["linear"]

    def one_cycle(step: float) -> float:
        if step < rising:
            share = (step + 1) / (rising + 1)
            return 1.0 + (1 / 25 - 1.0) * CURVES["cosine"](share)
        share = (step - rising) / max(1, steps - rising)
        return 1e-4 + (1.0 - 1e-4) * CURVES["cosine"](min(1.0, share))

    def plain(step: float) -> float:
        if step < rising:
            return (step + 1) / (rising + 1)
        return curves[name](min(1.0, max(0.0, step - start) / max(1, steps - start)))

    return one_cycle if name == "one_cycle" else plain


class Plateau(LRScheduler):
    """Lower the rate where the selection metric no longer improves.

    Rises as the other schedules do and stays at the peak; from then on every `patience` evaluations
    in a row without a new best multiply the rate by `factor`. What is a new best is the loop's own
    judgement, the one that picks the weights to keep.

    Args:
        optimizer: its groups' rates are the peaks.
        rising: steps of warm-up; evaluations within them don't count.
        factor: on the rate, each time.
        patience: evaluations without a new best before that.
    """

    def __init__(self, optimizer: Optimizer, rising: int, factor: float, patience: int) -> None:
        self.rising = rising
        self.factor = factor
        self.patience = patience
        self.stale = 0
        self.reductions = 0
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        """Return the rate of each group for the coming step."""
        share = min(1.0, (self.last_epoch + 1) / (self.rising + 1))
        return [rate * share * self.factor**self.reductions for rate in self.base_lrs]

    def evaluated(self, improved: bool) -> None:
        """Count an evaluation and lower the rate where it is due."""
        if self.last_epoch <= self.rising:
            return  # no step at the peak yet
        self.stale = 0 if improved else self.stale + 1
        if self.stale == self.patience:
            self.stale = 0
            self.reductions += 1
            self._last_lr = self.get_lr()
            for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
                group["lr"] = rate
