"""The best single category: what the training rows with the same value say."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.model_selection import KFold

from foldwise.members.member import Columns, Floats, shares
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
        self.means: Floats = np.zeros((1, n_outputs))

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
            random = KFold(min(3, rows.height), shuffle=True, random_state=self.seed)
            folds = list(random.split(target))
            self.column = max(categorical, key=lambda name: self._worth(rows[name], target, folds))
        self.values, self.means = self._means(rows[self.column], target)

    def predict(self, rows: pl.DataFrame) -> Floats:
        """Return float64 (n, n_outputs); a new value gets what all training rows say."""
        return _picked(self.values, self.means, rows[self.column])

    def state(self) -> dict[str, Any]:
        """Return the column, its values, and their means (values + 1, n_outputs)."""
        return {"column": self.column, "values": self.values, "means": self.means}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what `state` returned."""
        self.column, self.values, self.means = state["column"], state["values"], state["means"]

    def _worth(self, values: pl.Series, target: NDArray[Any], folds: list[Any]) -> float:
        made = np.empty((len(values), self.n_outputs))
        for fit, out in folds:
            made[out] = _picked(*self._means(values[fit], target[fit]), values[out])
        if target.ndim == 1:
            return builtin_metric("f1_macro").compute(target, made.argmax(axis=1), made)
        return -float(np.square(made - target).sum())

    def _means(
        self, values: pl.Series, target: NDArray[Any]
    ) -> tuple[list[str | None], NDArray[np.float64]]:
        known = values.unique(maintain_order=True).to_list()  # null is a value like another
        place = {value: i for i, value in enumerate(known)}
        at = np.array([place[value] for value in values])
        sums = np.zeros((len(known) + 1, self.n_outputs))
        if target.ndim == 1:
            np.add.at(sums, (at, target), 1)
        else:
            np.add.at(sums, at, target)
        means = sums / np.append(np.bincount(at), 1)[:, None]
        means[-1] = shares(target, self.n_outputs)
        return known, means


def _picked(known: list[str | None], means: Floats, values: pl.Series) -> Floats:
    place = {value: i for i, value in enumerate(known)}
    picked: Floats = means[[place.get(value, len(known)) for value in values]]
    return picked
