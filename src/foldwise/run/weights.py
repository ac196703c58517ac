"""The weights of a model: which of them a checkpoint holds, how many learn, what they take.

In: any `nn.Module`. A checkpoint holds all its tensors, but of a submodule that has `saved_names`
(an adapted backbone) only those: the others never change and are loaded again from where they came.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from foldwise.config import schema
from foldwise.errors import FoldwiseError
from foldwise.parts.usercode import UserCode
from foldwise.training.optimizers import build_optimizer

_MIB = 2**20


def saved_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors that a checkpoint of a model holds, by name."""
    tensors = model.state_dict()
    for prefix, module in model.named_modules():
        names = getattr(module, "saved_names", None)
        if names is not None:
            above = f"{prefix}." if prefix else ""
            tensors = {
                name: tensor
                for name, tensor in tensors.items()
                if not name.startswith(above) or name.removeprefix(above) in names
            }
    return tensors


def load_weights(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Put a checkpoint's tensors into a model.

    Raises:
        FoldwiseError: they aren't the ones that a checkpoint of this model holds.
    """
    expected = saved_weights(model)
    if differing := sorted(expected.keys() ^ tensors.keys()):
        name = differing[0]
        raise FoldwiseError(
            f"the checkpoint doesn't fit the model: {len(differing)} tensors differ, such as "
            f"{name}, which only the {'model' if name in expected else 'checkpoint'} has"
        )
    model.load_state_dict(tensors, strict=False)  # what is strict stands above


@dataclass(frozen=True)
class Footprint:
    """What a model takes to train, besides activations.

    Attributes:
        parameters: all of them; those held in 4 bits count one each.
        trainable_parameters: those that learn.
        weights_bytes: of all parameters and buffers.
        training_bytes: of gradients and the optimizer's state.
        checkpoint_bytes: of the weights in a checkpoint.
    """

    parameters: int
    trainable_parameters: int
    weights_bytes: int
    training_bytes: int
    checkpoint_bytes: int

    def __str__(self) -> str:
        """Say it in one line."""
        percent = 100 * self.trainable_parameters / max(1, self.parameters)
        return (
            f"model: {_count(self.parameters)} parameters, {_count(self.trainable_parameters)} "
            f"train ({percent:.3g}%); weights {_mib(self.weights_bytes)}, gradients and optimizer "
            f"{_mib(self.training_bytes)}, activations on top; a checkpoint's weights "
            f"{_mib(self.checkpoint_bytes)}"
        )


def footprint(model: nn.Module, config: schema.Optimizer, code: UserCode) -> Footprint:
    """Count a model's parameters and the memory that training them takes.

    What an optimizer keeps for a parameter is measured on a small one: bytes of its state for each
    byte of weights after a step.

    Args:
        model: any.
        config: the optimizer's.
        code: the user's files.
    """
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    trainable_bytes = sum(map(_bytes, learning))
    device = learning[0].device if learning else torch.device("cpu")
    return Footprint(
        parameters=sum(map(_size, model.parameters())),
        trainable_parameters=sum(map(_size, learning)),
        weights_bytes=sum(map(_bytes, [*model.parameters(), *model.buffers()])),
        training_bytes=round(trainable_bytes * (1 + _state_share(config, code, device))),
        checkpoint_bytes=sum(tensor.nbytes for tensor in saved_weights(model).values()),
    )


def _state_share(config: schema.Optimizer, code: UserCode, device: torch.device) -> float:
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
