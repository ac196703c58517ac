"""Boosted trees on the columns as they are, and on compressed words and embeddings.

Gradient boosting by LightGBM (Ke et al. 2017): categories as categories, numbers with their gaps,
the words' TF-IDF compressed to 32 directions (truncated SVD) and each of the frozen embeddings to
30 (principal components), as trees take many sparse columns badly. Rounds stop when the inner rows
no longer gain. The trees are kept as arrays of our own.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import lightgbm
import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import expit, softmax
from sklearn.utils.extmath import randomized_svd
from threadpoolctl import threadpool_limits

from foldwise.members.features import Features, numbers_of
from foldwise.members.member import (
    EMBEDDING,
    MIDDLE,
    Columns,
    Floats,
    Holds,
    array_of,
    magnitude,
    shares,
    vectors_by_column,
    words_of,
)
from foldwise.members.trees import MOST_CATEGORIES, Trees

ROUNDS, PATIENCE = 400, 20
_LEAF = 10  # rows
_WORDS, _DIRECTIONS = 32, 30
_PROJECTED = {EMBEDDING: "embedding", MIDDLE: "middle"}
_SETTINGS = {
    "learning_rate": 0.08,
    "num_leaves": 15,
    "min_data_in_leaf": _LEAF,
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
        self.words = Features(Columns(columns.text, (), (), columns.fill))
        self.categories: dict[str, list[str | None]] = {}
        self.projections: dict[str, NDArray[np.float32]] = {}
        self.models: dict[int, Trees] = {}
        self.classes = np.empty(0, dtype=np.int64)  # those that the trees tell apart
        self.base: Floats = np.zeros(n_outputs)
        self.sizes: Floats = np.ones(n_outputs)  # of numbers, what the trees' leaves are in

    def fit(self, rows: pl.DataFrame, target: NDArray[Any], inner: NDArray[np.bool_]) -> None:
        """Grow trees on the training rows until the inner ones no longer gain."""
        self.base = shares(target, self.n_outputs)
        self.models, self.classes = {}, np.empty(0, dtype=np.int64)
        with threadpool_limits(limits=1):
            matrix = self._fit_features(rows)
        stops = self._stops(target, inner)
        if not matrix.shape[1] or not stops.any() or (~stops).sum() < 2 * _LEAF:
            return
        if self.holds == "label":
            classes = np.unique(target[~stops])
            known = np.isin(target, classes)
            if len(classes) > 1 and stops[known].any():
                self.classes = classes
                ids = np.searchsorted(classes, target[known])
                self.models[0] = self._grow(matrix[known], ids, stops[known])
            return
        # LightGBM keeps targets as float32: around their mean and of a size near one.
        numbers = self.holds == "number"
        centred = target - self.base if numbers else target
        self.sizes = magnitude(centred) if numbers else self.sizes
        for k in range(target.shape[1]):
            if np.ptp(target[~stops, k]) > 0:
                self.models[k] = self._grow(matrix, centred[:, k] / self.sizes[k], stops)

    def predict(self, rows: pl.DataFrame) -> Floats:
        """Return probabilities or numbers, float64 (n, n_outputs)."""
        made: Floats = np.tile(self.base, (rows.height, 1))
        if not self.models:
            return made
        with threadpool_limits(limits=1):
            matrix = self._matrix(rows)
        for k, model in self.models.items():
            scores = model.scores(matrix)
            if self.holds == "label":
                if scores.shape[1] == 1:
                    scores = np.hstack([np.zeros_like(scores), scores])
                # Classes that only inner rows have keep their share.
                share = self.base[self.classes].sum()
                made[:, self.classes] = softmax(scores, axis=1) * share
            elif self.holds == "labels":
                made[:, k] = expit(scores[:, 0])
            else:
                made[:, k] = scores[:, 0] * self.sizes[k] + self.base[k]
        return made

    def categories_known(self) -> dict[str, list[str | None]]:
        """Return the values that are told apart, by column."""
        return self.categories

    def state(self) -> dict[str, Any]:
        """Return trees and projections as arrays."""
        return {
            "words": self.words.state(),
            "categories": self.categories,
            "projections": self.projections,
            "models": {str(k): model.state() for k, model in self.models.items()},
            "classes": self.classes,
            "base": self.base,
            "sizes": self.sizes,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what `state` returned."""
        self.words.load_state(state["words"])
        if list(state["categories"]) != list(self.columns.categorical):
            raise ValueError("categories of other columns")
        self.categories = {
            column: words_of(values, null=True) for column, values in state["categories"].items()
        }
        if max(map(len, self.categories.values()), default=0) > MOST_CATEGORIES:
            raise ValueError(f"more than {MOST_CATEGORIES} categories")
        widths = {"words": self.words.width, **dict.fromkeys(_PROJECTED.values())}
        self.projections = {
            name: array_of(state["projections"], name, (None, widths[name]))
            for name in state["projections"]
        }
        self.classes = array_of(state, "classes", (None,), "i")
        if not np.isin(self.classes, np.arange(self.n_outputs)).all():
            raise ValueError("trees of other classes")
        self.base = array_of(state, "base", (self.n_outputs,))
        self.sizes = array_of(state, "sizes", (self.n_outputs,))
        width = len(self.categories) + len(self.columns.numeric)
        width += sum(len(directions) for directions in self.projections.values())
        classes = len(self.classes)
        outputs = classes if self.holds == "label" and classes > 2 else 1
        models = {int(k): held for k, held in state["models"].items()}
        if not set(models) <= set(range(1 if self.holds == "label" else self.n_outputs)):
            raise ValueError("trees of other outputs")
        self.models = {k: Trees.from_state(held, width, outputs) for k, held in models.items()}

    def _fit_features(self, rows: pl.DataFrame) -> Floats:
        self.projections = {}
        self.categories = {
            column: [
                value
                for value, n in Counter(_texts(rows, column)).most_common(MOST_CATEGORIES)
                if n >= 2
            ]
            for column in self.columns.categorical
        }
        words = self.words.fit(rows)
        width = min(_WORDS, self.words.width - 1, rows.height - 1)
        if width > 0:
            self.projections["words"] = self._directions(words, width)
        for column, vectors in vectors_by_column(rows).items():
            width = min(_DIRECTIONS, vectors.shape[1], rows.height - 1)
            if width > 0:
                centred = vectors - vectors.mean(axis=0)
                self.projections[_PROJECTED[column]] = self._directions(centred, width)
        return self._matrix(rows, words)

    def _directions(self, matrix: Any, width: int) -> NDArray[np.float32]:
        _, _, directions = randomized_svd(matrix, width, n_iter=5, random_state=self.seed)
        found: NDArray[np.float32] = directions.astype(np.float32)
        return found

    def _matrix(self, rows: pl.DataFrame, words: sparse.csr_matrix | None = None) -> Floats:
        parts: list[NDArray[Any]] = [np.empty((rows.height, 0))]
        for column, values in self.categories.items():
            slots = {value: slot for slot, value in enumerate(values)}
            cells = [slots.get(cell, np.nan) for cell in _texts(rows, column)]
            parts.append(np.array(cells, dtype=np.float64)[:, None])
        if self.columns.numeric:
            parts.append(numbers_of(rows, self.columns.numeric))
        if "words" in self.projections:
            words = self.words.transform(rows) if words is None else words
            parts.append(words @ self.projections["words"].T.astype(np.float64))
        for column, vectors in vectors_by_column(rows).items():
            if (name := _PROJECTED[column]) in self.projections:
                parts.append(vectors @ self.projections[name].T)
        matrix: Floats = np.hstack(parts).astype(np.float64)
        return matrix

    def _grow(self, matrix: Floats, target: NDArray[Any], stops: NDArray[np.bool_]) -> Trees:
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
        return Trees.from_text(model.model_to_string(num_iteration=model.best_iteration))

    def _stops(self, target: NDArray[Any], inner: NDArray[np.bool_]) -> NDArray[np.bool_]:
        # Runs without inner rows (selection.rows last or fold) draw a tenth of the training rows,
        # and so do those whose inner rows have no class that the others have.
        useful = inner.any() and not inner.all()
        if useful and self.holds == "label":
            useful = bool(np.isin(target[inner], target[~inner]).any())
        if useful:
            return inner
        drawn = np.zeros(len(target), dtype=bool)
        order = np.random.default_rng(self.seed).permutation(len(target))
        drawn[order[: max(1, len(target) // 10)]] = True
        return drawn


def _texts(rows: pl.DataFrame, column: str) -> list[str | None]:
    texts: list[str | None] = rows[column].cast(pl.String).to_list()
    return texts
