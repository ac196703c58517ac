"""A linear model on frozen embeddings: what the backbone knows before it is fine-tuned.

The mean of the backbone's last and middle hidden states over a text's tokens (Reimers and Gurevych
2019), the categories and numbers beside it, and logistic or ridge regression. The backbone passes
over the table once for the whole run; a fold costs seconds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from foldwise.members.features import Features
from foldwise.members.member import Columns, Floats, Holds, vectors_of
from foldwise.members.regression import LinearModel
from foldwise.members.vectors import OnVectors, scales_of


class Embedding(OnVectors):
    """Logistic or ridge regression on frozen mean embeddings, categories and numbers."""

    def __init__(
        self, holds: Holds, n_outputs: int, columns: Columns, seed: int, balanced: bool = True
    ) -> None:
        super().__init__(Features(columns, words=False))
        self.model = LinearModel(holds, n_outputs, seed=seed, balanced=balanced)

    def fit(self, rows: pl.DataFrame, target: NDArray[Any], inner: NDArray[np.bool_]) -> None:
        """Fit scales and weights; there is no epoch to pick, so inner rows train too."""
        self.mean, scale, length = scales_of(rows)
        # A row's vector has length one after this, so that one penalty fits every width.
        self.scale = (scale * length).astype(np.float32)
        vectors = vectors_of(rows)
        self.model.fit(self._matrix(vectors, self.features.fit(rows)), target)

    def predict(self, rows: pl.DataFrame) -> Floats:
        """Return probabilities or numbers, float64 (n, n_outputs)."""
        matrix = self._matrix(vectors_of(rows), self.features.transform(rows))
        return self.model.predict(matrix)

    def state(self) -> dict[str, Any]:
        """Return scales, categories and weights."""
        return {**super().state(), "model": self.model.state()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what `state` returned."""
        super().load_state(state)
        self.model.load_state(state["model"], self.width)

    def _matrix(self, vectors: NDArray[np.float32], beside: sparse.csr_matrix) -> Any:
        scaled = ((vectors - self.mean) / self.scale).astype(np.float64)
        return sparse.csr_matrix(sparse.hstack([scaled, beside])) if beside.shape[1] else scaled
