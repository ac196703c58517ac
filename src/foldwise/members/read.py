"""What members are given of some rows: their columns, and what the frozen backbone says of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from foldwise.members.member import Floats, Member, TokenReader, with_vectors
from foldwise.members.states import TokenStates


@dataclass(frozen=True)
class Vectors:
    """What the frozen backbone says of texts.

    Attributes:
        means: of a text's tokens, float32 (n, 1, H), or (n, 2, H) of the last and the middle.
        tokens: the middle's states of each token; None where they aren't kept.
    """

    means: NDArray[np.float32]
    tokens: TokenStates | None

    def take(self, rows: NDArray[np.int64]) -> Vectors:
        """Return those of some texts."""
        return Vectors(self.means[rows], None if self.tokens is None else self.tokens.take(rows))


@dataclass(frozen=True)
class Read:
    """Rows as members read them.

    Attributes:
        rows: (n,), with the columns of means where there are any.
        tokens: of their texts; None where they aren't kept.
    """

    rows: pl.DataFrame
    tokens: TokenStates | None = None

    def fit(self, member: Member, target: NDArray[Any], inner: NDArray[np.bool_]) -> None:
        """Fit a member on the rows, as `Member.fit` says."""
        if reads_tokens(member):
            cast(TokenReader, member).fit(self.rows, target, inner, self.tokens)
        else:
            member.fit(self.rows, target, inner)

    def predict(self, member: Member) -> Floats:
        """Return what a member predicts of the rows, float64 (n, n_outputs)."""
        if reads_tokens(member):
            return cast(TokenReader, member).predict(self.rows, self.tokens)
        return member.predict(self.rows)


def read_with(rows: pl.DataFrame, vectors: Vectors) -> Read:
    """Return rows with their vectors."""
    return Read(with_vectors(rows, vectors.means), vectors.tokens)


def reads_tokens(member: object) -> bool:
    """Say whether a member, or its class, is given the states of a text's tokens too."""
    return bool(getattr(member, "reads_tokens", False))
