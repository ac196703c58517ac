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
        lengths: tokens of each, int64 (n,).
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

        Behind a text's last token stands that token again; a text without any is zeros.
        """
        lengths = self.lengths[rows][:, None]
        places = np.arange(max(1, int(lengths.max(initial=1))))[None, :]
        chosen = self.starts[rows][:, None] + np.minimum(places, np.maximum(lengths - 1, 0))
        states = np.zeros((*chosen.shape, self.width), dtype=np.float16)
        some = lengths[:, 0] > 0
        states[some] = self.states[chosen[some]]
        # Torch widens halves much faster than numpy.
        return torch.from_numpy(states).float(), torch.from_numpy(places < lengths)


def halves_by_text(states: Tensor, text: Tensor, n: int) -> list[NDArray[np.float16]]:
    """Cut what a backbone has said of a batch's tokens into texts, each float16 (tokens, H).

    Args:
        states: (tokens, H), texts in order.
        text: which text each token is of, int64 (tokens,), ascending.
        n: texts.
    """
    halves = states.float().clamp(-_LARGEST, _LARGEST).half().cpu().numpy()
    counts = torch.bincount(text.cpu(), minlength=n).numpy()
    return np.split(halves, np.cumsum(counts)[:-1])
