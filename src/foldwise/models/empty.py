"""Backbones without memory, for a process that another one sends the weights to.

In: a block in which a model is built. Out: parameters on torch's meta device, which have shape and
type alone; buffers (angles, positions) are made as ever, as much of them stands in no checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

_asked: list[None] = []  # one entry a block that is open


@contextmanager
def sent_backbones() -> Iterator[None]:
    """Have backbones in the block built without their weights, which are sent afterwards."""
    _asked.append(None)
    try:
        yield
    finally:
        _asked.pop()


def is_sent() -> bool:
    """Say whether a backbone that is built now gets its weights from another process."""
    return bool(_asked)


@contextmanager
def without_memory() -> Iterator[None]:
    """Take the memory of each parameter as soon as a module in the block has it."""
    # Not `torch.device("meta")`, which would leave buffers without their values too.
    hook = register_module_parameter_registration_hook(_emptied)  # type: ignore[arg-type]
    try:
        yield
    finally:
        hook.remove()


def needs_values(model: nn.Module) -> bool:
    """Say whether something beside the parameters was made of a parameter's values."""
    beside = [*model.buffers(), *(kept for part in model.modules() for kept in vars(part).values())]
    return any(isinstance(tensor, Tensor) and tensor.is_meta for tensor in beside)


def _emptied(module: nn.Module, name: str, new: nn.Parameter | None) -> nn.Parameter | None:
    # What torch is to register in its place; None: itself, as of a weight that two modules share.
    if new is None or new.is_meta:
        return None
    return nn.Parameter(new.detach().to("meta"), requires_grad=new.requires_grad)
