"""Averages of the weights over the steps, scored and kept in place of the last weights.

In: the model after each step. Out: the same model with the average in it, for as long as it is
evaluated or saved. How much the newest weights count is a function of the step alone, so nothing
but the average itself has to be saved: as the model's weights, with the ones that training goes on
from beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from foldwise.config.training import Average as AverageConfig
from foldwise.training.shards import held

# Optimizer step, from 1 -> share of the newest weights in the average; 0: not begun.
Share = Callable[[int], float]


def newest_share(config: AverageConfig | None, steps: int) -> Share | None:
    """Return how much the weights after each step count in the average; None for no average.

    `ema` divides by what the weights of all steps so far sum to, as Adam does (Kingma and Ba 2015,
    section 3): the average of t steps is sum of (1 - d) d^(t - i) w_i over (1 - d^t), and the
    initial weights are no part of it. `swa` is the plain mean over the last share of the steps
    (Izmailov et al. 2018, of every step rather than of every epoch).

    Args:
        config: `training.average`.
        steps: optimizer steps of the whole training.
    """
    if config is None:
        return None
    if config.ema is not None:
        decay = config.ema
        return lambda step: (1.0 - decay) / (1.0 - decay**step)
    assert config.swa is not None
    before = steps - max(1, round(config.swa * steps))
    return lambda step: 1.0 / (step - before) if step > before else 0.0


class WeightAverage:
    """A running average of a model's trainable parameters and floating-point buffers.

    Frozen parameters are their own average and take no memory; whole numbers (the batches that a
    batch norm has counted) stay as they are. The average has the precision of the weights.

    Args:
        model: on its device; `update` reads it after each step.
        share: weight of the newest weights at each step; None: no average, and every method does
            nothing.
    """

    def __init__(self, model: nn.Module, share: Share | None) -> None:
        self.share = share
        self.current: dict[str, Tensor] = {}
        if share is not None:
            parameters = ((n, p) for n, p in model.named_parameters() if p.requires_grad)
            kept = model.state_dict().keys()  # what isn't saved (a table of angles) is no weight
            buffers = ((n, b) for n, b in model.named_buffers() if b.is_floating_point())
            self.current = {**dict(parameters), **{n: b for n, b in buffers if n in kept}}
        self.average: dict[str, Tensor] = {}
        self.raw: dict[str, Tensor] = {}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take the weights after a step, counted from 1, into the average."""
        newest = 0.0 if self.share is None else self.share(step)
        if newest == 0.0:
            return
        if not self.average:
            self.average = {name: tensor.detach().clone() for name, tensor in self.current.items()}
        else:
            old = [held(tensor) for tensor in self.average.values()]
            # By name, as a checkpoint has its own order.
            new = [held(self.current[name]) for name in self.average]
            torch._foreach_lerp_(old, new, newest)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the average into the model for a while; before it has begun, leave it as it is.

        Inside, `raw` holds the weights that training goes on from.
        """
        self._exchange()
        self.raw, self.average = self.average, {name: self.current[name] for name in self.average}
        try:
            yield
        finally:
            self.average, self.raw = self.raw, {}
            self._exchange()

    def resume(self, raw: dict[str, Tensor]) -> None:
        """Take the average from the model, as a checkpoint has it, and put `raw` in its place.

        Args:
            raw: what `raw` held when the checkpoint was made; empty if the average hadn't begun.
        """
        self.average = {name: self.current[name].detach().clone() for name in raw}
        with torch.no_grad():
            for name, tensor in raw.items():
                self.current[name].copy_(tensor)

    @torch.no_grad()
    def _exchange(self) -> None:
        # In place, one tensor at a time: layers in parts are gathered from where they lie.
        for name, tensor in self.average.items():
            newest, average = held(self.current[name]), held(tensor)
            kept = newest.clone()
            newest.copy_(average)
            average.copy_(kept)
