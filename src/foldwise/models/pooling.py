"""From one vector a token to one vector a text.

In: hidden states (batch, length, hidden) and the mask of real tokens. Out: (batch, hidden), or
(batch, 2 * hidden) from mean and max together, or the mean and what queries find beside it. Padding
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


class MaxPooling(nn.Module):
    """Take the largest value of each feature over the real tokens."""

    def forward(self, hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
        """Pool (B, L, H) with mask (B, L) into (B, H); a text of padding alone gives zeros."""
        padding = (attention_mask == 0).unsqueeze(-1)  # (B, L, 1)
        largest = hidden_states.masked_fill(padding, float("-inf")).amax(dim=1)
        pooled: Tensor = largest.masked_fill(padding.all(dim=1), 0.0)
        return pooled


class MeanMaxPooling(nn.Module):
    """Average and largest value of each feature side by side (Howard and Ruder 2018)."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = MeanPooling()
        self.max = MaxPooling()

    def forward(self, hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
        """Pool (B, L, H) with mask (B, L) into (B, 2H)."""
        poolings = (self.mean, self.max)
        return torch.cat([pool(hidden_states, attention_mask) for pool in poolings], dim=1)


class AttentionPooling(nn.Module):
    """Average the real tokens by learned weights (Yang et al. 2016, equations 5 to 7).

    The weight of a token is the softmax over its text of `u . tanh(W h + b)`. The query `u` starts
    at zero, so that training starts from the mean.

    Args:
        hidden_size: width H of a token's vector.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.key = nn.Linear(hidden_size, hidden_size)
        self.query = nn.Linear(hidden_size, 1, bias=False)
        nn.init.zeros_(self.query.weight)

    def forward(self, hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
        """Pool (B, L, H) with mask (B, L) into (B, H)."""
        scores = self.query(torch.tanh(self.key(hidden_states)))
        weights = _shares(scores, attention_mask)  # (B, L, 1)
        pooled: Tensor = (hidden_states * weights.to(hidden_states.dtype)).sum(dim=1)
        return pooled


class QueryPooling(nn.Module):
    """Average all real tokens, and beside that what a few learned queries each look for.

    A query weighs the tokens by the softmax over their text of how well they match it, and takes
    the mean of what a linear layer of its own makes of them: attention with learned queries, as in
    Lee et al. 2019, "Set Transformer", section 3.2. One word can say what the mean of a hundred has
    drowned.

    Args:
        hidden_size: width H of a token's vector.
        queries: how many.
        units: that each gives, U.
    """

    def __init__(self, hidden_size: int, queries: int = 4, units: int = 64) -> None:
        super().__init__()
        self.shape = (queries, units)
        self.mean = MeanPooling()
        self.query = nn.Linear(hidden_size, queries)
        self.value = nn.Linear(hidden_size, queries * units)
        nn.init.normal_(self.query.weight, std=0.02)  # nearly the mean, and no two alike

    def forward(self, hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
        """Pool (B, L, H) with mask (B, L) into (B, H + queries * U)."""
        weights = _shares(self.query(hidden_states), attention_mask)  # (B, L, Q)
        # A linear layer of a mean is the mean of the layer: one call a query, not one a token.
        means = weights.to(hidden_states.dtype).transpose(1, 2) @ hidden_states  # (B, Q, H)
        layers = self.value.weight.view(*self.shape, -1)  # (Q, U, H)
        found = torch.einsum("bqh,quh->bqu", means, layers).flatten(1) + self.value.bias
        mean = self.mean(hidden_states, attention_mask)
        return torch.cat([mean, found.to(mean.dtype)], dim=1)


class LastPooling(nn.Module):
    """Take the vector of the last real token: the one that has read all others in a decoder."""

    def forward(self, hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
        """Pool (B, L, H) with mask (B, L) into (B, H)."""
        length = attention_mask.shape[1]
        last = length - 1 - attention_mask.to(torch.int64).flip(1).argmax(dim=1)  # (B,)
        return hidden_states[torch.arange(len(last), device=last.device), last]


def _shares(scores: Tensor, attention_mask: Tensor) -> Tensor:
    # The softmax over a text's real tokens, float32 (B, L, Q). The least number, not -inf: that of
    # a text of padding alone would be nan.
    scores = scores.float()
    padding = (attention_mask == 0).unsqueeze(-1)
    return scores.masked_fill(padding, torch.finfo(scores.dtype).min).softmax(dim=1)
