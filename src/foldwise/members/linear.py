"""A linear model on words, categories and numbers: what a table gives without a language model."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from foldwise.members.features import Features
from foldwise.members.member import Columns, Floats, Holds
from foldwise.members.regression import LinearModel


class Linear:
    """Logistic or ridge regression on TF-IDF of words and word pairs, categories and numbers."""

    def __init__(
        self, holds: Holds, n_outputs: int, columns: Columns, seed: int, balanced: bool = True
    ) -> None:
        self.features = Features(columns)
        self.model = LinearModel(holds, n_outputs, seed=seed, balanced=balanced)

    def fit(self, rows: pl.DataFrame, target: NDArray[Any], inner: NDArray[np.bool_]) -> None:
        """Fit features and weights; there is no epoch to pick, so inner rows train too."""
        self.model.fit(self.features.fit(rows), target)

    def predict(self, rows: pl.DataFrame) -> Floats:
        """Return probabilities or numbers, float64 (n, n_outputs)."""
        return self.model.predict(self.features.transform(rows))

    def categories_known(self) -> dict[str, list[str | None]]:
        """Return the values that have a feature of their own, by column."""
        return self.features.categories_known()

    def state(self) -> dict[str, Any]:
        """Return features and weights."""
        return {"features": self.features.state(), "model": self.model.state()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back features and weights."""
        self.features.load_state(state["features"])
        self.model.load_state(state["model"], self.features.width)
