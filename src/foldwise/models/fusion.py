"""From a text's vector and the other columns to one vector a row.

In: pooled text (batch, width) and the columns' features (batch, features). Out: one vector a row
(batch, any width). `TokenFusion` is the other way: the columns become tokens that attend with the
text, before there is a pooled vector.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ConcatFusion(nn.Module):
    """Put the columns' features beside the text's vector."""

    def forward(self, pooled: Tensor, tabular: Tensor) -> Tensor:
        """Join (B, D) and (B, F) into (B, D + F)."""
        return torch.cat([pooled, tabular], dim=1)


class GatedFusion(nn.Module):
    """Let a gate weigh text against columns, each unit by itself: a Gated Multimodal Unit.

    h_t = tanh(W_t x_t), h_c = tanh(W_c x_c), z = sigmoid(W_z [x_t, x_c]) and the result is
    z * h_t + (1 - z) * h_c, as in equation 2 of Arevalo et al. 2017; the layers have biases here.

    Args:
        hidden_size: width D of the pooled text.
        tabular_size: width F of the columns' features.
        size: width E of the result; None: as wide as the text.
    """

    def __init__(self, hidden_size: int, tabular_size: int, size: int | None = None) -> None:
        super().__init__()
        size = size or hidden_size
        self.text = nn.Linear(hidden_size, size)
        self.columns = nn.Linear(tabular_size, size)
        self.gate = nn.Linear(hidden_size + tabular_size, size)

    def forward(self, pooled: Tensor, tabular: Tensor) -> Tensor:
        """Join (B, D) and (B, F) into (B, E)."""
        gate = torch.sigmoid(self.gate(torch.cat([pooled, tabular], dim=1)))
        return gate * torch.tanh(self.text(pooled)) + (1 - gate) * torch.tanh(self.columns(tabular))


class TokenFusion(nn.Module):
    """Put the columns' tokens in front of the text's, so that all attend to each other.

    In front, as the text template does, and behind the tokenizer's own first tokens: [CLS] stays
    first, every position is the same however much padding follows, and encoders with relative
    positions or sliding windows need no special case.

    Args:
        special: tokens that the tokenizer puts in front of a text ([CLS]).
    """

    def __init__(self, special: int) -> None:
        super().__init__()
        self.special = special

    def forward(self, embeds: Tensor, mask: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Join embedded text (C, L, H), its mask (C, L) and tokens (C, T, H).

        Returns:
            Embeddings (C, T + L, H), and the mask (C, T + L): the text must be padded on the right.
        """
        n = self.special
        joined = torch.cat([embeds[:, :n], tokens.to(embeds.dtype), embeds[:, n:]], dim=1)
        seen = mask.new_ones(tokens.shape[:2])
        return joined, torch.cat([mask[:, :n], seen, mask[:, n:]], dim=1)
