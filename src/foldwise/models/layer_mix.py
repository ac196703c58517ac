"""From the hidden states of several layers to those of one.

In: a backbone's hidden states, embeddings first. Out: a learned average of the last n. It stands
before pooling, so that every pooling works on it as on the last layer alone.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class LayerMix(nn.Module):
    """Average the last n layers by learned weights: `scale * sum(softmax(weights) * layers)`.

    Scalar mix of ELMo (Peters et al. 2018, equation 1); it starts as the plain average. Each layer
    is normalised over its width first, as the paper advises where scales differ: a backbone that
    normalises before its blocks hands out sums hundreds of times as large as its last layer.

    Args:
        n: how many layers, counted from the top.
    """

    def __init__(self, n: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(n))
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, hidden_states: tuple[Tensor, ...]) -> Tensor:
        """Mix layers of (B, L, H) each, bottom first, into (B, L, H)."""
        weights = self.scale * self.weights.softmax(dim=0)
        top = hidden_states[-len(weights) :]
        layers = (functional.layer_norm(layer, layer.shape[-1:]) for layer in top)
        mixed = torch.zeros_like(top[-1])
        for weight, layer in zip(weights, layers, strict=True):
            mixed = mixed + weight * layer
        return mixed
