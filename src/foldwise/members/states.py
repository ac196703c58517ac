"""What a frozen backbone says of each token: the states of many texts, one behind the other.

In: a long array, perhaps of a mapped file, and where each text's part begins. Out: padded batches
of some texts. Half precision: their rounding is a thousandth of what tells one token from another.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_LARGEST = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class TokenStates:
    """Hidden states of the tokens of n texts.

    Attributes:
        states: float16 (tokens, H) of these texts and perhaps of others.
        starts: where each text's begin, int64 (n,).
        lengths: tokens of each, one at least, int64 (n,).
    """

    states: NDArray[np.float16]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]

    @classmethod
    def behind_each_other(
        cls, states: NDArray[np.float16], lengths: NDArray[np.int64]
    ) -> TokenStates:
        """Return texts whose states follow one another in an array."""
        return cls(states, np.cumsum(lengths) - lengths, lengths)

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def width(self) -> int:
        """Units of a state."""
        return int(self.states.shape[1])

    def take(self, rows: NDArray[np.int64]) -> TokenStates:
        """Return some of the texts; their states stay where they are."""
        return TokenStates(self.states, self.starts[rows], self.lengths[rows])

    def padded(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Return texts as a batch: float32 (B, L, H), and bool (B, L) that is True at tokens.

        Behind a text's last token stands that token again.
        """
        lengths = self.lengths[rows][:, None]
        places = np.arange(int(lengths.max(initial=1)))[None, :]
        chosen = self.starts[rows][:, None] + np.minimum(places, lengths - 1)
        # Torch widens halves much faster than numpy.
        return torch.from_numpy(self.states[chosen]).float(), torch.from_numpy(places < lengths)

    def put(self, rows: NDArray[np.int64], states: Tensor, text: Tensor) -> None:
        """Write what a backbone has said of some texts.

        Args:
            rows: which texts, int64 (B,).
            states: of their tokens, (tokens, H), texts in order.
            text: which of them each token is of, int64 (tokens,).
        """
        halves = states.float().clamp(-_LARGEST, _LARGEST).half().cpu().numpy()
        firsts = np.searchsorted(text.cpu().numpy(), np.arange(len(rows) + 1))
        for row, first, last in zip(rows, firsts[:-1], firsts[1:], strict=True):
            start = self.starts[row]
            self.states[start : start + self.lengths[row]] = halves[first:last]
