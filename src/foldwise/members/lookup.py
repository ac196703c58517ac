"""The best single category: what the training rows with the same value say."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse
from sklearn.model_selection import KFold

from foldwise.members.member import Columns, Floats, array_of, magnitude, shares, words_of
from foldwise.metrics.metric import builtin_metric


class Lookup:
    """Class frequencies, or mean targets, by the category that predicts best.

    Attributes:
        column: the category it chose.
    """

    def __init__(self, n_outputs: int, columns: Columns, seed: int) -> None:
        self.n_outputs, self.columns, self.seed = n_outputs, columns, seed
        self.column = ""
        self.values: list[str | None] = []
        self.means = sparse.csr_matrix((0, n_outputs))
        self.base: Floats = np.zeros(n_outputs)  # what a new value gets

    def fit(self, rows: pl.DataFrame, target: NDArray[Any], inner: NDArray[np.bool_]) -> None:
        """Choose the column across three folds of the rows, then take each value's mean.

        Across folds, because inside its own rows a column with a value a row is always right. Best
        is the highest macro-F1 of classes, the least squared error of labels and numbers; among
        equals, the first in `categorical`.
        """
        categorical = self.columns.categorical
        if len(categorical) == 1 or rows.height < 2:
            self.column = categorical[0]
        else:
            scaled = target / magnitude(target) if target.ndim == 2 else target
            random = KFold(min(3, rows.height), shuffle=True, random_state=self.seed)
            folds = list(random.split(target))
            self.column = max(
                categorical, key=lambda name: self._worth(_cells(rows, name), scaled, folds)
            )
        self.values, self.means = self._means(_cells(rows, self.column), target)
        self.base = shares(target, self.n_outputs)

    def predict(self, rows: pl.DataFrame) -> Floats:
        """Return float64 (n, n_outputs); a new value gets what all training rows say."""
        return _picked(self.values, self.means, self.base, _cells(rows, self.column))

    def categories_known(self) -> dict[str, list[str | None]]:
        """Return the values of the column that it chose."""
        return {self.column: self.values}

    def state(self) -> dict[str, Any]:
        """Return the column, its values, and their means: a sparse (values, n_outputs)."""
        return {
            "column": self.column,
            "values": self.values,
            "means": self.means.data,
            "outputs": self.means.indices,
            "ends": self.means.indptr,
            "base": self.base,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what `state` returned."""
        if state["column"] not in self.columns.categorical:
            raise ValueError(f"no category column {state['column']!r}")
        self.column, self.values = state["column"], words_of(state["values"], null=True)
        self.base = array_of(state, "base", (self.n_outputs,))
        parts = (
            array_of(state, "means", (None,)),
            array_of(state, "outputs", (None,), "i"),
            array_of(state, "ends", (None,), "i"),
        )
        self.means = sparse.csr_matrix(parts, shape=(len(self.values), self.n_outputs))
        self.means.check_format(full_check=True)  # no index leads out of it

    def _worth(self, values: list[str | None], target: NDArray[Any], folds: list[Any]) -> float:
        cells = np.array(values, dtype=object)
        made = np.empty((len(values), self.n_outputs))
        for fit, out in folds:
            base = shares(target[fit], self.n_outputs)
            made[out] = _picked(*self._means(cells[fit], target[fit]), base, cells[out])
        if target.ndim == 1:
            return builtin_metric("f1_macro").compute(target, made.argmax(axis=1), made)
        return -float(np.square(made - target).sum())

    def _means(
        self, values: Iterable[str | None], target: NDArray[Any]
    ) -> tuple[list[str | None], sparse.csr_matrix]:
        known: dict[str | None, int] = {}  # null is a value like another
        at = np.array([known.setdefault(value, len(known)) for value in values])
        counts = np.bincount(at)
        shape = (len(known), self.n_outputs)
        # Sparse, as a column of many values has few rows each: values times classes are too many.
        if target.ndim == 1:
            sums = sparse.csr_matrix((np.ones(len(at)), (at, target)), shape=shape)
        else:
            rows = sparse.csr_matrix((np.ones(len(at)), (at, np.arange(len(at)))))
            sums = sparse.csr_matrix(rows @ target)
        # A quotient and not a product with the inverse, which would round once more.
        sums.data /= np.repeat(counts, np.diff(sums.indptr))
        return list(known), sums


def _picked(
    known: list[str | None],
    means: sparse.csr_matrix,
    base: Floats,
    values: Iterable[str | None],
) -> Floats:
    place = {value: i for i, value in enumerate(known)}
    at = np.array([place.get(value, -1) for value in values], dtype=np.int64)
    made: Floats = np.tile(base, (len(at), 1))
    made[at >= 0] = means[at[at >= 0]].toarray()
    return made


def _cells(rows: pl.DataFrame, column: str) -> list[str | None]:
    cells: list[str | None] = rows[column].cast(pl.String).to_list()
    return cells
