"""Boosted trees on the columns as they are, and on compressed words and embeddings.

Gradient boosting by LightGBM (Ke et al. 2017): categories as categories, numbers with their gaps,
the words' TF-IDF compressed to 32 directions (truncated SVD) and the frozen embeddings to 30
(principal components), as trees take many sparse columns badly. Rounds stop when the inner rows
no longer gain. The model is kept in LightGBM's own text form.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import lightgbm
import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.decomposition import PCA, TruncatedSVD
from threadpoolctl import threadpool_limits

from foldwise.members.features import Features, numbers_of
from foldwise.members.member import EMBEDDING, Columns, Floats, Holds, shares, vectors_of

ROUNDS, PATIENCE = 400, 20
_WORDS, _DIRECTIONS = 32, 30
_MOST_CATEGORIES = 255
_SETTINGS = {
    "learning_rate": 0.08,
    "num_leaves": 15,
    "min_data_in_leaf": 10,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 1.0,
    "cat_smooth": 10.0,
    "num_threads": 1,  # sums in another order would be other trees
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}


class Boosting:
    """LightGBM on categories, numbers, compressed words and embeddings."""

    reads_embedding = True

    def __init__(self, holds: Holds, n_outputs: int, columns: Columns, seed: int) -> None:
        self.holds, self.n_outputs, self.columns, self.seed = holds, n_outputs, columns, seed
        words = Columns(columns.text, (), (), columns.fill)
        self.words = Features(words)
        self.categories: dict[str, list[str | None]] = {}
        self.projections: dict[str, NDArray[np.float32]] = {}
        self.models: dict[int, lightgbm.Booster] = {}
        self.classes = np.empty(0, dtype=np.int64)
        self.base: Floats = np.zeros(n_outputs)

    def fit(self, rows: pl.DataFrame, target: NDArray[Any], inner: NDArray[np.bool_]) -> None:
        """Grow trees on the training rows until the inner ones no longer gain."""
        self.base = shares(target, self.n_outputs)
        with threadpool_limits(limits=1):
            self._fit_features(rows)
            matrix = self._matrix(rows)
        self.models = {}
        if not matrix.shape[1]:
            return
        stops = inner if inner.any() and not inner.all() else self._drawn(rows.height)
        if self.holds == "label":
            self.classes = np.unique(target[~stops])
            if len(self.classes) > 1:
                ids = np.searchsorted(self.classes, target)
                known = np.isin(target, self.classes)
                self.models[0] = self._grow(matrix[known], ids[known], stops[known])
            return
        for k in range(target.shape[1]):
            if np.ptp(target[~stops, k]) > 0:
                centre = self.base[k] if self.holds == "number" else 0.0
                self.models[k] = self._grow(matrix, target[:, k] - centre, stops)

    def predict(self, rows: pl.DataFrame) -> Floats:
        """Return probabilities or numbers, float64 (n, n_outputs)."""
        made: Floats = np.tile(self.base, (rows.height, 1))
        if not self.models or not rows.height:  # LightGBM refuses to predict none
            return made
        with threadpool_limits(limits=1):
            matrix = self._matrix(rows)
        for k, model in self.models.items():
            found = np.asarray(model.predict(matrix, num_threads=1))
            if self.holds == "label":
                made[:] = 0.0
                binary = np.stack([1 - found, found], axis=1) if found.ndim == 1 else found
                made[:, self.classes] = binary
            else:
                made[:, k] = found + (self.base[k] if self.holds == "number" else 0.0)
        return made

    def state(self) -> dict[str, Any]:
        """Return trees as text, projections as arrays."""
        return {
            "words": self.words.state(),
            "categories": self.categories,
            "projections": self.projections,
            "models": {str(k): model.model_to_string() for k, model in self.models.items()},
            "classes": self.classes,
            "base": self.base,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what `state` returned."""
        self.words.load_state(state["words"])
        self.categories, self.projections = state["categories"], state["projections"]
        self.models = {int(k): _booster(text) for k, text in state["models"].items()}
        self.classes, self.base = state["classes"], state["base"]

    def _fit_features(self, rows: pl.DataFrame) -> None:
        self.projections = {}
        self.categories = {
            column: [
                value
                for value, n in Counter(rows[column].to_list()).most_common(_MOST_CATEGORIES)
                if n >= 2
            ]
            for column in self.columns.categorical
        }
        self.words.fit(rows)
        width = min(_WORDS, self.words.width - 1, rows.height - 1)
        if width > 0:
            found = TruncatedSVD(width, random_state=self.seed).fit(self.words.transform(rows))
            self.projections["words"] = found.components_.astype(np.float32)
        if EMBEDDING in rows.columns:
            vectors = vectors_of(rows)
            width = min(_DIRECTIONS, vectors.shape[1], rows.height - 1)
            if width > 0:
                pca = PCA(width, random_state=self.seed, svd_solver="full").fit(vectors)
                self.projections["embedding"] = pca.components_.astype(np.float32)

    def _matrix(self, rows: pl.DataFrame) -> Floats:
        parts: list[NDArray[Any]] = []
        for column, values in self.categories.items():
            slots = {value: slot for slot, value in enumerate(values)}
            parts.append(np.array([slots.get(cell, np.nan) for cell in rows[column]])[:, None])
        if self.columns.numeric:
            parts.append(numbers_of(rows, self.columns.numeric))
        if "words" in self.projections:
            parts.append(self.words.transform(rows) @ self.projections["words"].T)
        if "embedding" in self.projections:
            parts.append(vectors_of(rows) @ self.projections["embedding"].T)
        matrix: Floats = (
            np.hstack(parts).astype(np.float64) if parts else np.empty((rows.height, 0))
        )
        return matrix

    def _grow(
        self, matrix: Floats, target: NDArray[Any], stops: NDArray[np.bool_]
    ) -> lightgbm.Booster:
        objective = {"label": "multiclass", "labels": "binary", "number": "regression"}[self.holds]
        settings: dict[str, Any] = {**_SETTINGS, "objective": objective, "seed": self.seed}
        if self.holds == "label":
            if len(self.classes) == 2:
                settings["objective"] = "binary"
            else:
                settings["num_class"] = len(self.classes)
        categorical = list(range(len(self.categories)))
        grown = lightgbm.Dataset(
            matrix[~stops], target[~stops], categorical_feature=categorical or "auto"
        )
        watched = lightgbm.Dataset(matrix[stops], target[stops], reference=grown)
        model = lightgbm.train(
            settings,
            grown,
            ROUNDS,
            valid_sets=[watched],
            callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)],
        )
        return _booster(model.model_to_string(num_iteration=model.best_iteration))

    def _drawn(self, n: int) -> NDArray[np.bool_]:
        # Runs without inner rows (selection.rows last or fold) draw a tenth of the training rows.
        drawn = np.zeros(n, dtype=bool)
        drawn[np.random.default_rng(self.seed).permutation(n)[: max(1, n // 10)]] = True
        return drawn


def _booster(text: str) -> lightgbm.Booster:
    # From its text at once: what is read back predicts the same.
    return lightgbm.Booster(model_str=text)
