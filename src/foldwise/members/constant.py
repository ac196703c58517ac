"""The same prediction for every row: class frequencies, the labels' shares, a mean or a median."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from foldwise.members.member import Floats, array_of, shares


class Constant:
    """What the training rows say without looking at a column.

    Args:
        n_outputs: classes, labels, or 1.
        median: of numbers, the median instead of the mean.
    """

    def __init__(self, n_outputs: int, *, median: bool = False) -> None:
        self.n_outputs = n_outputs
        self.median = median
        self.value: Floats = np.zeros(n_outputs)

    def fit(self, rows: pl.DataFrame, target: NDArray[Any], inner: NDArray[np.bool_]) -> None:
        """Take frequencies, means or medians of the rows."""
        numbers = target.ndim == 2
        self.value = (
            np.median(target, axis=0) if numbers and self.median else shares(target, self.n_outputs)
        )

    def predict(self, rows: pl.DataFrame) -> Floats:
        """Return the same for every row, float64 (n, n_outputs)."""
        return np.tile(self.value, (rows.height, 1))

    def state(self) -> dict[str, Any]:
        """Return the prediction."""
        return {"value": self.value}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back the prediction."""
        self.value = array_of(state, "value", (self.n_outputs,))


class Median(Constant):
    """The median of the training rows' numbers."""

    def __init__(self, n_outputs: int) -> None:
        super().__init__(n_outputs, median=True)
