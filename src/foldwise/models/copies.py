"""Several copies of a model that answer together, by the mean of what they say.

In: what builds one, and how many. Out: one module. Copies begin at the same pretrained weights and
differ in nothing but random numbers: what they draw to begin with (heads, adapters), and dropout.
Their mean is better than each (Lakshminarayanan et al. 2017). They are one module so that whatever
evaluates, saves or exports a model need not know; but the mean isn't what is trained, that would be
one wide network: who trains goes through `copies_of`, and each learns as if it were alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Copies(nn.Module):
    """Models of one kind, whose answer is the mean of their outputs.

    Args:
        copies: they take the same keyword arguments and return (B, n_outputs).
    """

    def __init__(self, copies: Sequence[nn.Module]) -> None:
        super().__init__()
        self.copies = nn.ModuleList(copies)

    def forward(self, **inputs: Tensor) -> Tensor:
        """Return the mean of the copies' outputs, float32 (B, n_outputs)."""
        return torch.stack([copy(**inputs).float() for copy in self.copies]).mean(dim=0)

    def layers(self) -> list[list[nn.Parameter]]:
        """Return the copies' parameters from the bottom up, a layer of all together."""
        finds: list[Any] = [getattr(copy, "layers", None) for copy in self.copies]
        each: list[list[list[nn.Parameter]]] = [find() if find else [] for find in finds]
        return [[p for layer in level for p in layer] for level in zip(*each, strict=True)]


def build_copies(build: Callable[[], nn.Module], seeds: int) -> nn.Module:
    """Build so many copies of a model; of one, the model itself.

    The random numbers come from torch's generator, one copy after another: the first is the model
    that would be built alone.

    Args:
        build: builds one.
        seeds: how many.
    """
    return build() if seeds == 1 else Copies([build() for _ in range(seeds)])


def copies_of(model: nn.Module) -> list[nn.Module]:
    """Return the copies that a model is made of; of any other, the model."""
    return list(model.copies) if isinstance(model, Copies) else [model]
