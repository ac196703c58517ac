"""What moves the weights: an optimizer, its schedule, and the average beside them."""

from __future__ import annotations

from dataclasses import dataclass

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
    """

    optimizer: Optimizer
    schedule: LRScheduler
    average: WeightAverage

    def step(self, number: int) -> None:
        """Move the weights by their gradients, which are dropped; steps count from 1."""
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update(number)

    def evaluated(self, improved: bool) -> None:
        """Tell a schedule that follows the scores of an evaluation."""
        if isinstance(self.schedule, Plateau):
            self.schedule.evaluated(improved)

    @property
    def rate(self) -> float:
        """The highest learning rate of all groups, as it is now."""
        return float(max(group["lr"] for group in self.optimizer.param_groups))
