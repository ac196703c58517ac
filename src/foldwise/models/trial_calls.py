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
    name = type(head).__name__
    try:
        with torch.no_grad():
            logits = head(torch.zeros(2, width))
    except Exception as error:
        raise FoldwiseError(
            f"model.head: {name} fails on (2, {width}): {type(error).__name__}: {error}"
        ) from error
    shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if shape != (2, n_outputs):
        raise FoldwiseError(
            f"model.head: {name} must return (batch, {n_outputs}) of (batch, {width}); it returned "
            f"{shape} for a batch of 2"
        )


def pooled_width(pooling: nn.Module, hidden_size: int, where: str = "model.pooling") -> int:
    """Read a pooling's output width from a trial call on two texts of three tokens.

    Args:
        pooling: (B, L, H), (B, L) -> (B, D).
        hidden_size: H.
        where: the config key that names it, for the messages.

    Raises:
        FoldwiseError: the call fails, or its result isn't (B, D).
    """
    states, mask = torch.zeros(2, 3, hidden_size), torch.ones(2, 3, dtype=torch.int64)
    try:
        with torch.no_grad():
            pooled = pooling(states, mask)
    except Exception as error:
        raise FoldwiseError(
            f"{where}: {type(pooling).__name__} fails on hidden states (2, 3, {hidden_size}) "
            f"and a mask (2, 3): {type(error).__name__}: {error}"
        ) from error
    if not isinstance(pooled, Tensor) or pooled.ndim != 2 or len(pooled) != 2:
        shape = tuple(pooled.shape) if isinstance(pooled, Tensor) else type(pooled).__name__
        raise FoldwiseError(
            f"{where}: {type(pooling).__name__} must return (batch, width) of (batch, "
            f"length, {hidden_size}); it returned {shape} for a batch of 2"
        )
    return int(pooled.shape[1])


def fused_width(fusion: nn.Module, hidden_size: int, tabular_size: int) -> int:
    """Read a fusion's output width from a trial call on two rows.

    Raises:
        FoldwiseError: the call fails, or its result isn't (B, E).
    """
    name = type(fusion).__name__
    given = f"(2, {hidden_size}) and (2, {tabular_size})"
    try:
        with torch.no_grad():
            fused = fusion(torch.zeros(2, hidden_size), torch.zeros(2, tabular_size))
    except Exception as error:
        raise FoldwiseError(
            f"model.fusion: {name} fails on pooled texts and columns {given}: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not isinstance(fused, Tensor) or fused.ndim != 2 or len(fused) != 2:
        shape = tuple(fused.shape) if isinstance(fused, Tensor) else type(fused).__name__
        raise FoldwiseError(
            f"model.fusion: {name} must return (batch, width) of (batch, {hidden_size}) and "
            f"(batch, {tabular_size}); it returned {shape} for a batch of 2"
        )
    return int(fused.shape[1])
