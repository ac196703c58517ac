"""From one vector a token to one vector a text.

In: hidden states (batch, length, hidden) and the mask of real tokens. Out: (batch, hidden). Padding
never takes part, on whichever side it is.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MeanPooling(nn.Module):
    """Average the vectors of the real tokens."""

    def forward(self, hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
        """Pool (B, L, H) with mask (B, L) into (B, H)."""
        mask = attention_mask.unsqueeze(-1).to(hidden_states.dtype)  # (B, L, 1)
        return (hidden_states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)


class ClsPooling(nn.Module):
    """Take the vector of the first real token, [CLS] in encoders that have one."""

    def forward(self, hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
        """Pool (B, L, H) with mask (B, L) into (B, H)."""
        first = attention_mask.to(torch.int64).argmax(dim=1)  # (B,) skips padding on the left
        return hidden_states[torch.arange(len(first), device=first.device), first]
