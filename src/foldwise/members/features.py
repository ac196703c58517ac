"""Columns to a sparse matrix: words, word pairs, categories, numbers; fitted on training rows.

What is fitted is plain: terms and their weights, the values of a category, means and scales. So it
can be written as JSON and arrays, and read back without unpickling anything.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer

from foldwise.members.member import Columns, Floats

_MISSING = "missing"
_HALF = 0.5  # at full weight the sparse parts, pairs and ZIP codes, drown the words


class Features:
    """The map from columns to features, without those that would be empty.

    Args:
        columns: what is read.
        words: whether texts, and the words inside categories, count.
    """

    def __init__(self, columns: Columns, *, words: bool = True) -> None:
        self.columns = columns
        self.words = words
        self.blocks: list[dict[str, Any]] = []

    def fit(self, rows: pl.DataFrame) -> Features:
        """Learn terms, categories and scales from the training rows."""
        self.blocks = []
        if self.words:
            for column in self.columns.text:
                self._add_ngrams(rows, column, shortest=1, longest=1, min_df=2, weight=1.0)
            # The number of pairs is bounded: time and memory grow with features times classes.
            for column in self.columns.text:
                self._add_ngrams(
                    rows, column, shortest=2, longest=2, min_df=5, weight=_HALF, most=20_000
                )
            # Categories of one word each (ZIP codes) have no words that their values don't have.
            for column in self.columns.categorical:
                if _vocabulary(_cells(rows, column, _MISSING), 2, 2, 2):
                    self._add_ngrams(
                        rows, column, _MISSING, shortest=1, longest=2, min_df=2, weight=1.0
                    )
        for column in self.columns.categorical:
            counts = Counter(_cells(rows, column, _MISSING))
            values = sorted(value for value, n in counts.items() if n >= 2)
            rare = len(values) < len(counts)  # they share a feature, which new values have too
            self.blocks.append(
                {"kind": "category", "column": column, "values": values, "rare": rare}
            )
        for column in self.columns.numeric:
            self.blocks.append({"kind": "number", "column": column, **self._scale(rows[column])})
        self.blocks = [block for block in self.blocks if _width(block)]
        return self

    @property
    def width(self) -> int:
        """Features in all."""
        return sum(map(_width, self.blocks))

    def transform(self, rows: pl.DataFrame) -> sparse.csr_matrix:
        """Return the rows' features, float64 (n, width)."""
        if not rows.height or not self.blocks:  # scikit-learn refuses to transform none
            return sparse.csr_matrix((rows.height, self.width))
        return sparse.csr_matrix(sparse.hstack([_transform(block, rows) for block in self.blocks]))

    def state(self) -> dict[str, Any]:
        """Return what was fitted."""
        return {str(number): block for number, block in enumerate(self.blocks)}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what was fitted."""
        self.blocks = [state[str(number)] for number in range(len(state))]

    def _add_ngrams(
        self,
        rows: pl.DataFrame,
        column: str,
        missing: str = "",
        *,
        shortest: int,
        longest: int,
        min_df: int,
        weight: float,
        most: int | None = None,
    ) -> None:
        texts = _cells(rows, column, missing)
        if not _vocabulary(texts, shortest, longest, min_df):
            return  # scikit-learn refuses to fit none
        fitted = TfidfVectorizer(
            sublinear_tf=True, ngram_range=(shortest, longest), min_df=min_df, max_features=most
        ).fit(texts)
        terms = sorted(fitted.vocabulary_, key=fitted.vocabulary_.get)
        self.blocks.append(
            {
                "kind": "ngrams",
                "column": column,
                "missing": missing,
                "range": [shortest, longest],
                "weight": weight,
                "terms": terms,
                "idf": fitted.idf_,
            }
        )

    def _scale(self, column: pl.Series) -> dict[str, float]:
        values = _numbers(column)
        known = values[~np.isnan(values)]
        fills = {"zero": 0.0, "median": float(np.median(known)) if len(known) else 0.0}
        mean = float(known.mean()) if len(known) else 0.0
        fill = fills.get(self.columns.fill, mean)
        filled = np.where(np.isnan(values), fill, values)
        return {"fill": fill, "mean": float(filled.mean()), "scale": float(filled.std()) or 1.0}


def _width(block: dict[str, Any]) -> int:
    if block["kind"] == "ngrams":
        return len(block["terms"])
    return len(block["values"]) + block["rare"] if block["kind"] == "category" else 1


def _transform(block: dict[str, Any], rows: pl.DataFrame) -> Any:
    column = block["column"]
    if block["kind"] == "ngrams":
        vectorizer = TfidfVectorizer(
            sublinear_tf=True, ngram_range=tuple(block["range"]), vocabulary=block["terms"]
        )
        vectorizer.idf_ = block["idf"]
        return vectorizer.transform(_cells(rows, column, block["missing"])) * block["weight"]
    if block["kind"] == "category":
        slots = {value: slot for slot, value in enumerate(block["values"])}
        other = len(slots) if block["rare"] else -1
        found = np.array([slots.get(cell, other) for cell in _cells(rows, column, _MISSING)])
        at = np.flatnonzero(found >= 0)
        ones = np.full(len(at), _HALF)
        return sparse.csr_matrix((ones, (at, found[at])), shape=(rows.height, _width(block)))
    values = _numbers(rows[column])
    values = np.where(np.isnan(values), block["fill"], values)
    return sparse.csr_matrix(((values - block["mean"]) / block["scale"])[:, None])


def _cells(rows: pl.DataFrame, column: str, missing: str) -> list[str]:
    return rows[column].cast(pl.String).fill_null(missing).to_list()


def _numbers(column: pl.Series) -> Floats:
    values: Floats = column.cast(pl.Float64).fill_null(np.nan).to_numpy()
    return values


def _vocabulary(texts: list[str], shortest: int, longest: int, min_df: int) -> bool:
    """Say whether enough rows share an n-gram."""
    ngrams_of = TfidfVectorizer(ngram_range=(shortest, longest)).build_analyzer()
    rows_with: Counter[str] = Counter()
    for text in texts:
        ngrams = set(ngrams_of(text))
        rows_with.update(ngrams)
        if any(rows_with[ngram] >= min_df for ngram in ngrams):
            return True
    return False


def numbers_of(rows: pl.DataFrame, columns: tuple[str, ...]) -> NDArray[np.float64]:
    """Return number columns, nan where null: float64 (n, columns)."""
    return np.stack([_numbers(rows[name]) for name in columns], axis=1)
