"""What learnt queries find among the tokens of texts.

A query is a direction in which states are compared; what it finds in a text is the mean of the
text's states, weighed by the softmax of how well they match it, through a small layer of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from foldwise.members.states import TokenStates

QUERIES, VALUES = 4, 32  # of a network, and units of what each query finds
_UNHEARD = 0.1  # of the tokens, in training
_FAR = 10.0  # standard deviations: what is farther counts as so far
_SAMPLE = 2000  # texts that say how large states are
_TEXTS = 64  # that are read at once where none is learnt from
_NEVER = -1e4  # how well what is no token matches


class Tokens:
    """The states of texts on the scale that queries are learnt in.

    Args:
        states: of the texts.
        mean: what is taken off them, float32 (H,).
        scale: what all units are then divided by, float32 (1,).
    """

    def __init__(
        self, states: TokenStates, mean: NDArray[np.float32], scale: NDArray[np.float32]
    ) -> None:
        self.states, self.mean, self.scale = states, torch.from_numpy(mean), torch.from_numpy(scale)

    def of(
        self,
        rows: NDArray[np.int64],
        random: torch.Generator | None,
        kind: torch.dtype = torch.float32,
    ) -> tuple[Tensor, Tensor]:
        """Return texts' states and which of them are heard.

        Args:
            rows: the texts, int64 (B,).
            random: leaves out a tenth of them, in training; None leaves out none.
            kind: to compute in.

        Returns:
            (B, L, H) and bool (B, L).
        """
        states, heard = self.states.padded(rows)
        if random is not None:
            heard &= torch.rand(heard.shape, generator=random) >= _UNHEARD
        return ((states.to(kind) - self.mean) / self.scale).clamp(-_FAR, _FAR), heard

    def alike(self, rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        """Yield places among rows, int64, a few at once whose texts are about as long."""
        order = np.argsort(self.states.lengths[rows], kind="stable")
        for start in range(0, len(order), _TEXTS):
            yield order[start : start + _TEXTS]


def found_in(learnt: Sequence[Tensor], states: Tensor, heard: Tensor) -> Tensor:
    """Return what the queries of several networks find in texts.

    Args:
        learnt: of all networks' queries, one network's behind the other's: queries (Q, H), and
            weights (Q, H, VALUES) and biases (Q, 1, VALUES) of what they find.
        states: (B, L, H), as `Tokens.of` returns them.
        heard: bool (B, L).

    Returns:
        (networks, B, QUERIES x VALUES).
    """
    queries, weights, biases = learnt
    match = (states @ queries.T).masked_fill(~heard[:, :, None], _NEVER)  # (B, L, all queries)
    means = match.softmax(dim=1).transpose(1, 2) @ states  # (B, all queries, H)
    found = functional.gelu(torch.baddbmm(biases, means.transpose(0, 1), weights))
    split = found.view(-1, QUERIES, len(states), VALUES)
    return split.transpose(1, 2).flatten(2)


def scale_of(tokens: TokenStates) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the mean of training texts' states, (H,), and one deviation for all units, (1,)."""
    sample = np.unique(np.linspace(0, len(tokens) - 1, _SAMPLE).astype(np.int64))
    sums, squares, count = np.zeros(tokens.width), np.zeros(tokens.width), 0
    for some in np.array_split(sample, -(-len(sample) // _TEXTS)):
        states, real = tokens.padded(some)
        read = states[real].double().numpy()
        sums, squares, count = sums + read.sum(0), squares + (read**2).sum(0), count + len(read)
    count = max(1, count)  # no text has a token
    mean = sums / count
    deviation = np.sqrt(max(0.0, float((squares / count - mean**2).mean())))
    return mean.astype(np.float32), np.array([deviation or 1.0], dtype=np.float32)
