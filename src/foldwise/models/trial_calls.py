"""Trial calls: what a part of the model makes of two rows, and whether that is of the right shape.

In: a module and the widths that go in. Out: the width that comes out. A user's part that fails here
fails with a message that names its config key, before any weight is loaded.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from foldwise.errors import FoldwiseError


def check_head(head: nn.Module, width: int, n_outputs: int) -> None:
    """Try a head on two pooled texts.

    Raises:
        FoldwiseError: the call fails, or its result isn't (B, n_outputs).
    """
    given = f"(2, {width})"
    _width_out(head, [torch.zeros(2, width)], "model.head", given, f"(batch, {width})", n_outputs)


def pooled_width(pooling: nn.Module, hidden_size: int, where: str = "model.pooling") -> int:
    """Read a pooling's output width from a trial call on two texts of three tokens.

    Args:
        pooling: (B, L, H), (B, L) -> (B, D).
        hidden_size: H.
        where: the config key that names it, for the messages.

    Raises:
        FoldwiseError: the call fails, or its result isn't (B, D).
    """
    inputs = [torch.zeros(2, 3, hidden_size), torch.ones(2, 3, dtype=torch.int64)]
    given = f"hidden states (2, 3, {hidden_size}) and a mask (2, 3)"
    return _width_out(pooling, inputs, where, given, f"(batch, length, {hidden_size})")


def fused_width(fusion: nn.Module, hidden_size: int, tabular_size: int) -> int:
    """Read a fusion's output width from a trial call on two rows.

    Raises:
        FoldwiseError: the call fails, or its result isn't (B, E).
    """
    inputs = [torch.zeros(2, hidden_size), torch.zeros(2, tabular_size)]
    given = f"pooled texts and columns (2, {hidden_size}) and (2, {tabular_size})"
    taken = f"(batch, {hidden_size}) and (batch, {tabular_size})"
    return _width_out(fusion, inputs, "model.fusion", given, taken)


def _width_out(
    part: nn.Module,
    inputs: list[Tensor],
    where: str,
    given: str,
    taken: str,
    width: int | None = None,
) -> int:
    """Call a part on a batch of two and return the width of what comes out.

    Args:
        part: its result must be (B, width).
        inputs: the batch.
        where: the config key that names the part.
        given: the inputs in words, where the call fails.
        taken: the same for any batch, where the result isn't of that shape.
        width: that it must be; None for any.
    """
    name = type(part).__name__
    try:
        with torch.no_grad():
            out = part(*inputs)
    except Exception as error:
        raise FoldwiseError(
            f"{where}: {name} fails on {given}: {type(error).__name__}: {error}"
        ) from error
    two = isinstance(out, Tensor) and out.ndim == 2 and len(out) == 2
    if not two or (width is not None and out.shape[1] != width):
        shape = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise FoldwiseError(
            f"{where}: {name} must return (batch, {width or 'width'}) of {taken}; it returned "
            f"{shape} for a batch of 2"
        )
    return int(out.shape[1])
