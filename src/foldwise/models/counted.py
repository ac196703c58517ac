"""No model is built that is larger than the weights which are to fill it.

In: bytes and tensors of the weights' files, known before anything is built. While a model is built
inside the block, torch tells of each parameter and buffer; the first that is too many ends it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)

from foldwise.errors import FoldwiseError

# What a model may have beyond its file's: masks and positions are made, not stored.
_SPARE = {"tensors": 1_000, "weights": 1_000_000, "buffers": 100_000_000}


@contextmanager
def no_larger_than(size_bytes: int, tensors: int, what: str) -> Iterator[None]:
    """Refuse a model that files of this size can't fill, while it is built in the block.

    Args:
        size_bytes: of the files; a weight takes half a byte or more.
        tensors: that they hold.
        what: describes the model, for the message.

    Raises:
        FoldwiseError: it is too large.
    """
    count = dict.fromkeys(_SPARE, 0)
    most = {"tensors": 4 * tensors, "weights": 2 * size_bytes, "buffers": 2 * size_bytes}
    weights = f"its weights are {size_bytes:,} bytes in {tensors} tensors"

    def add(kind: str, tensor: torch.Tensor | None) -> None:
        if tensor is None:
            return
        count["tensors"] += 1
        count[kind] += tensor.numel()
        for key, spare in _SPARE.items():
            if count[key] > most[key] + spare:
                raise FoldwiseError(
                    f"{what} describes a model of more than {most[key] + spare:,} {key}, but "
                    f"{weights}"
                )

    hooks = (
        register_module_parameter_registration_hook(lambda _, name, new: add("weights", new)),
        register_module_buffer_registration_hook(lambda _, name, new: add("buffers", new)),
    )
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, RuntimeError) and "allocate memory" not in str(error):
            raise
        raise FoldwiseError(
            f"{what} describes a model that memory can't hold, but {weights}"
        ) from None
    finally:
        for hook in hooks:
            hook.remove()
