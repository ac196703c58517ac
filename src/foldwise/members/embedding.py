"""A linear model on frozen embeddings: what the backbone knows before it is fine-tuned.

The mean of the backbone's last hidden states over a text's tokens (Reimers and Gurevych 2019), the
categories and numbers beside it, and logistic or ridge regression. The backbone passes over the
table once for the whole run; a fold costs seconds.
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


class Embedding:
    """Logistic or ridge regression on frozen mean embeddings, categories and numbers."""

    reads_embedding = True

    def __init__(self, holds: Holds, n_outputs: int, columns: Columns, seed: int) -> None:
        self.features = Features(columns, words=False)
        self.model = LinearModel(holds, n_outputs, strength=10.0, seed=seed)
        self.mean = np.empty(0, dtype=np.float32)
        self.scale = np.empty(0, dtype=np.float32)

    def fit(self, rows: pl.DataFrame, target: NDArray[Any], inner: NDArray[np.bool_]) -> None:
        """Fit scales and weights; there is no epoch to pick, so inner rows train too."""
        vectors = vectors_of(rows)
        self.mean = vectors.mean(axis=0)
        # A row's vector has length one after this, so that one penalty fits every width.
        deviation = vectors.std(axis=0)
        self.scale = (np.where(deviation > 0, deviation, 1.0) * np.sqrt(vectors.shape[1])).astype(
            np.float32
        )
        self.features.fit(rows)
        self.model.fit(self._matrix(rows, vectors), target)

    def predict(self, rows: pl.DataFrame) -> Floats:
        """Return probabilities or numbers, float64 (n, n_outputs)."""
        return self.model.predict(self._matrix(rows, vectors_of(rows)))

    def state(self) -> dict[str, Any]:
        """Return scales, categories and weights; the backbone's weights lie beside the members."""
        return {
            "mean": self.mean,
            "scale": self.scale,
            "features": self.features.state(),
            "model": self.model.state(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what `state` returned."""
        self.mean, self.scale = state["mean"], state["scale"]
        self.features.load_state(state["features"])
        self.model.load_state(state["model"])

    def _matrix(self, rows: pl.DataFrame, vectors: NDArray[np.float32]) -> Any:
        scaled = ((vectors - self.mean) / self.scale).astype(np.float64)
        if not self.features.width:
            return scaled
        return sparse.csr_matrix(sparse.hstack([scaled, self.features.transform(rows)]))
