"""What members on frozen vectors share: vectors on one scale, and the columns beside the text."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from foldwise.members.features import Features
from foldwise.members.member import EMBEDDING, MIDDLE, array_of, vectors_by_column

_SHARES = {EMBEDDING: 1.0, MIDDLE: 0.5}
_ROUNDING = 1e-6  # of float32 sums


def scales_of(rows: pl.DataFrame) -> tuple[NDArray[np.float32], NDArray[np.float32], float]:
    """Return what linear models and networks take off the vectors of training rows, and divide by.

    Each unit has a deviation of one then, and of the middle of a half: where topics are told apart
    it is in the way, and where opinions are, half of it is as good (docs/experiments.md).

    Returns:
        Means and scales, float32 (width,), and the length that a row's vector has on average.
    """
    means, scales, squares = [], [], 0.0
    for column, vectors in vectors_by_column(rows).items():
        deviation, share = vectors.std(axis=0), _SHARES[column]
        # What differs by rounding alone is a constant.
        told = deviation > _ROUNDING * np.abs(vectors).max(axis=0)
        means.append(vectors.mean(axis=0))
        scales.append(np.where(told, deviation, 1.0) / share)
        squares += share**2 * vectors.shape[1]
    if not means:
        return np.empty(0, dtype=np.float32), np.empty(0, dtype=np.float32), 0.0
    return np.concatenate(means), np.concatenate(scales).astype(np.float32), squares**0.5


class OnVectors:
    """A member on scaled vectors, categories and numbers: what it keeps of them."""

    reads_embedding = True

    def __init__(self, features: Features) -> None:
        self.features = features
        self.mean = np.empty(0, dtype=np.float32)
        self.scale = np.empty(0, dtype=np.float32)

    def categories_known(self) -> dict[str, list[str | None]]:
        """Return the values that have a feature of their own, by column."""
        return self.features.categories_known()

    def state(self) -> dict[str, Any]:
        """Return scales and categories; the backbone's weights lie beside the members."""
        return {"mean": self.mean, "scale": self.scale, "features": self.features.state()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what `state` returned."""
        self.mean = array_of(state, "mean", (None,))
        self.scale = array_of(state, "scale", self.mean.shape)
        self.features.load_state(state["features"])

    @property
    def width(self) -> int:
        """Features in all, the vectors' units first."""
        return len(self.mean) + self.features.width
