"""What a model takes to train, besides activations: parameters, gradients, optimizer state.

In: any `nn.Module` and the optimizer's config. Out: a line to read before training starts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from foldwise.config.training import Optimizer as OptimizerConfig
from foldwise.models.copies import copies_of
from foldwise.parts.usercode import UserCode
from foldwise.run.weights import saved_weights
from foldwise.training.optimizers import build_optimizer
from foldwise.training.shards import held

_MIB = 2**20


@dataclass(frozen=True)
class Footprint:
    """What a model takes to train, besides activations.

    Attributes:
        parameters: all of them; those held in 4 bits count one each.
        trainable_parameters: those that learn.
        weights_bytes: of all parameters and buffers.
        training_bytes: of gradients and the optimizer's state.
        checkpoint_bytes: of the weights in a checkpoint.
        state_bytes: of the optimizer's state, which a checkpoint that can be gone on from has too.
        held_bytes: of weights and training together, what this process holds: all, or its part.
        copies: that the model is made of (`training.seeds`); the numbers are of all together.
    """

    parameters: int
    trainable_parameters: int
    weights_bytes: int
    training_bytes: int
    checkpoint_bytes: int
    state_bytes: int
    held_bytes: int
    copies: int = 1

    def __str__(self) -> str:
        """Say it in one line."""
        whole = self.weights_bytes + self.training_bytes
        part = f" (a part here: {_mib(self.held_bytes)})" if self.held_bytes < whole else ""
        copies = f"{self.copies} copies, together " if self.copies > 1 else ""
        percent = 100 * self.trainable_parameters / max(1, self.parameters)
        return (
            f"model: {copies}{_count(self.parameters)} parameters, "
            f"{_count(self.trainable_parameters)} train ({percent:.3g}%); "
            f"weights {_mib(self.weights_bytes)}, gradients and optimizer "
            f"{_mib(self.training_bytes)}{part}, activations on top; a checkpoint's weights "
            f"{_mib(self.checkpoint_bytes)}"
        )


def footprint(model: nn.Module, config: OptimizerConfig, code: UserCode) -> Footprint:
    """Count a model's parameters and the memory that training them takes.

    What an optimizer keeps for a parameter is measured on a small one: bytes of its state for each
    byte of weights after a step.

    Args:
        model: any.
        config: the optimizer's.
        code: the user's files.
    """
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    everything = [*model.parameters(), *model.buffers()]
    trainable_bytes = sum(map(_bytes, learning))
    device = learning[0].device if learning else torch.device("cpu")
    share = _state_share(config, code, device)
    state_bytes = round(trainable_bytes * share)
    trained_here = sum(_bytes(held(parameter)) for parameter in learning)
    return Footprint(
        parameters=sum(map(_size, model.parameters())),
        trainable_parameters=sum(map(_size, learning)),
        weights_bytes=sum(map(_bytes, everything)),
        training_bytes=trainable_bytes + state_bytes,
        checkpoint_bytes=sum(tensor.nbytes for tensor in saved_weights(model).values()),
        state_bytes=state_bytes,
        held_bytes=sum(_bytes(held(tensor)) for tensor in everything)
        + trained_here
        + round(trained_here * share),
        copies=len(copies_of(model)),
    )


def _state_share(config: OptimizerConfig, code: UserCode, device: torch.device) -> float:
    # Large enough for the optimizers that leave small tensors as they are (8-bit: below 4096).
    probe = nn.Module()
    probe.weight = nn.Parameter(torch.zeros(128, 128, device=device))
    optimizer = build_optimizer(probe, config, code)
    probe.weight.grad = torch.zeros_like(probe.weight)
    optimizer.step()
    return sum(map(_held, optimizer.state.values())) / probe.weight.nbytes


def _held(value: Any) -> int:
    if isinstance(value, dict):
        return sum(map(_held, value.values()))
    return value.nbytes if isinstance(value, Tensor) else 0


def _size(parameter: Tensor) -> int:
    state = getattr(parameter, "quant_state", None)  # two weights in a byte: its shape is another's
    return parameter.numel() if state is None else int(torch.Size(state.shape).numel())


def _bytes(tensor: Tensor) -> int:
    state: Any = getattr(tensor, "quant_state", None)
    scales = 0 if state is None else _held(state.as_dict(packed=True))
    return tensor.nbytes + scales


def _count(number: int) -> str:
    for unit, size in (("B", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return str(number)


def _mib(size: int) -> str:
    return f"{size / _MIB:,.0f} MiB" if size >= 10 * _MIB else f"{size / _MIB:.2g} MiB"
