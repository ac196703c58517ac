"""What moves the weights: an optimizer, its schedule, and the average beside them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

from torch.amp import GradScaler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from foldwise.training.averaging import WeightAverage
from foldwise.training.schedules import Plateau


@dataclass(frozen=True)
class Update:
    """What moves the weights.

    Attributes:
        optimizer: over the model's trainable parameters.
        schedule: stepped after every optimizer step; a Plateau hears of evaluations too.
        average: of the weights after each step, which is what is scored and kept.
        scaler: multiplies the loss, so that float16 doesn't round small gradients to zero; in other
            precisions it isn't enabled and does nothing.
    """

    optimizer: Optimizer
    schedule: LRScheduler
    average: WeightAverage
    scaler: GradScaler = field(default_factory=lambda: GradScaler("cpu", enabled=False))

    def step(self, number: int) -> None:
        """Move the weights by their gradients, which are dropped; steps count from 1."""
        self.scaler.step(self.optimizer)
        self.scaler.update()
        with _passing_over() if self.scaler.is_enabled() else nullcontext():
            self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update(number)

    def evaluated(self, improved: bool) -> None:
        """Tell a schedule that follows the scores of an evaluation."""
        if isinstance(self.schedule, Plateau):
            self.schedule.evaluated(improved)

    @property
    def passes_over(self) -> bool:
        """Whether gradients that aren't finite only mean that the loss was multiplied by too much.

        The step leaves the weights alone then, and the next ones try half of it.
        """
        return self.scaler.is_enabled() and self.scaler.get_scale() > 1.0

    @property
    def rate(self) -> float:
        """The highest learning rate of all groups, as it is now."""
        return float(max(group["lr"] for group in self.optimizer.param_groups))


@contextmanager
def _passing_over() -> Iterator[None]:
    # The schedule goes by steps, also where the optimizer has passed over the first ones.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*lr_scheduler.step.* before")
        yield
