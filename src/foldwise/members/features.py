"""Columns to a sparse matrix: words, word pairs, categories, numbers; fitted on training rows.

What is fitted is plain: terms and their weights, the values of a category, means and scales. So it
can be written as JSON and arrays, and read back without unpickling anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer

from foldwise.members.member import Columns, Floats, array_of, magnitude, words_of

_MISSING = "missing"
_FAR = 1e6  # deviations from the mean: no training row is as far, and sums stay finite
_SLICE = 10_000  # cells at a time
_HALF = 0.5  # at full weight the sparse parts, pairs and ZIP codes, drown the words


class Features:
    """The map from columns to features, without those that would be empty.

    Args:
        columns: what is read.
        words: whether texts, and the words inside categories, count.
        most_values: of a category that have a feature of their own, the most frequent; None: all.
    """

    def __init__(
        self, columns: Columns, *, words: bool = True, most_values: int | None = None
    ) -> None:
        self.columns = columns
        self.words, self.most_values = words, most_values
        self.blocks: list[dict[str, Any]] = []

    def fit(self, rows: pl.DataFrame) -> sparse.csr_matrix:
        """Learn terms, categories and scales from the training rows, and return their features."""
        self.blocks = []
        found: list[Any] = []
        if self.words:
            for column in self.columns.text:
                found += self._ngrams(rows, column, shortest=1, longest=1, min_df=2, weight=1.0)
            # The number of pairs is bounded: time and memory grow with features times classes.
            for column in self.columns.text:
                found += self._ngrams(
                    rows, column, shortest=2, longest=2, min_df=5, weight=_HALF, most=20_000
                )
            # Categories of one word each (ZIP codes) have no words that their values don't have.
            for column in self.columns.categorical:
                if _vocabulary(_cells(rows, column, _MISSING), 2, 2, 2):
                    found += self._ngrams(
                        rows, column, _MISSING, shortest=1, longest=2, min_df=2, weight=1.0
                    )
        plain: list[dict[str, Any]] = []
        for column in self.columns.categorical:
            counts = Counter(_cells(rows, column, _MISSING))
            frequent = counts.most_common(self.most_values)
            values = sorted(value for value, n in frequent if n >= 2)
            rare = len(values) < len(counts)  # they share a feature, which new values have too
            plain.append({"kind": "category", "column": column, "values": values, "rare": rare})
        for column in self.columns.numeric:
            plain.append({"kind": "number", "column": column, **self._scale(rows[column])})
        self.blocks += plain
        found += [_transform(block, rows) for block in plain]
        return _joined(found, rows.height)

    @property
    def width(self) -> int:
        """Features in all."""
        return sum(map(_width, self.blocks))

    def transform(self, rows: pl.DataFrame) -> sparse.csr_matrix:
        """Return the rows' features, float64 (n, width)."""
        if not rows.height:  # scikit-learn refuses to transform none
            return sparse.csr_matrix((0, self.width))
        return _joined([_transform(block, rows) for block in self.blocks], rows.height)

    def categories_known(self) -> dict[str, list[str | None]]:
        """Return the values that have a feature of their own, by column."""
        blocks = [block for block in self.blocks if block["kind"] == "category"]
        return {block["column"]: block["values"] for block in blocks}

    def named(self) -> list[tuple[str, str, str]]:
        """Return each feature's column, kind (ngrams, category, number) and what it is of it."""
        return [(b["column"], b["kind"], value) for b in self.blocks for value in _values(b)]

    def places(self) -> list[tuple[str, str, slice]]:
        """Return each block's column and kind, and where its features stand."""
        ends = np.cumsum([_width(block) for block in self.blocks]).tolist()
        return [
            (block["column"], block["kind"], slice(end - _width(block), end))
            for block, end in zip(self.blocks, ends, strict=True)
        ]

    def state(self) -> dict[str, Any]:
        """Return what was fitted."""
        return {str(number): block for number, block in enumerate(self.blocks)}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what was fitted."""
        self.blocks = [self._checked(state[str(number)]) for number in range(len(state))]

    def _checked(self, block: dict[str, Any]) -> dict[str, Any]:
        kind, column, columns = block["kind"], block["column"], self.columns
        if kind == "ngrams" and column in (*columns.text, *columns.categorical):
            terms = words_of(block["terms"])
            array_of(block, "idf", (len(terms),))
            shortest, longest = block["range"]
            sound = 1 <= shortest <= longest <= 2 and block["missing"] in ("", _MISSING)
            sound = sound and len(terms) > 0 and block["weight"] in (1.0, _HALF)
        elif kind == "category" and column in columns.categorical:
            words_of(block["values"])
            sound = isinstance(block["rare"], bool)
        else:
            numbers = [block[name] for name in ("size", "fill", "mean", "scale")]
            sound = kind == "number" and column in columns.numeric
            sound = sound and all(isinstance(number, float) for number in numbers)
            sound = sound and block["size"] > 0 and block["scale"] > 0
        if not sound:
            raise ValueError(f"no features of {column!r} look like this")
        return block

    def _ngrams(
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
    ) -> list[sparse.csr_matrix]:
        if not _vocabulary(_cells(rows, column, missing), shortest, longest, min_df):
            return []  # scikit-learn refuses to fit none
        vectorizer = TfidfVectorizer(
            sublinear_tf=True, ngram_range=(shortest, longest), min_df=min_df, max_features=most
        )
        found = vectorizer.fit_transform(_cells(rows, column, missing))
        self.blocks.append(
            {
                "kind": "ngrams",
                "column": column,
                "missing": missing,
                "range": [shortest, longest],
                "weight": weight,
                "terms": vectorizer.get_feature_names_out().tolist(),
                "idf": vectorizer.idf_,
            }
        )
        return [found * weight]

    def _scale(self, column: pl.Series) -> dict[str, float]:
        values = _numbers(column)
        size = float(magnitude(values[~np.isnan(values)][:, None])[0])
        values = values / size
        known = values[~np.isnan(values)]
        fills = {"zero": 0.0, "median": float(np.median(known)) if len(known) else 0.0}
        fill = fills.get(self.columns.fill, float(known.mean()) if len(known) else 0.0)
        filled = np.where(np.isnan(values), fill, values)
        mean, scale = float(filled.mean()), float(filled.std())
        # What differs by rounding alone is a constant (the bound is scikit-learn's).
        epsilon = float(np.finfo(np.float64).eps)
        if scale**2 <= len(filled) * epsilon * scale**2 + (len(filled) * mean * epsilon) ** 2:
            scale = 1.0
        return {"size": size, "fill": fill, "mean": mean, "scale": scale}


def _joined(parts: list[Any], rows: int) -> sparse.csr_matrix:
    if not parts:
        return sparse.csr_matrix((rows, 0))
    joined = sparse.csr_matrix(sparse.hstack(parts))
    joined.sort_indices()  # sums in one order, whichever way the parts came about
    return joined


def _width(block: dict[str, Any]) -> int:
    if block["kind"] == "ngrams":
        return len(block["terms"])
    return len(block["values"]) + block["rare"] if block["kind"] == "category" else 1


def _values(block: dict[str, Any]) -> list[str]:
    if block["kind"] == "ngrams":
        return list(block["terms"])
    if block["kind"] == "number":
        return ["number"]
    return [*block["values"], *(["a rare value"] if block["rare"] else [])]


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
    with np.errstate(over="ignore"):
        values = _numbers(rows[column]) / block["size"]
        values = np.where(np.isnan(values), block["fill"], values)
        scaled = np.clip((values - block["mean"]) / block["scale"], -_FAR, _FAR)
    return sparse.csr_matrix(scaled[:, None])


def _cells(rows: pl.DataFrame, column: str, missing: str) -> Iterator[str]:
    # Some at a time: the texts of a big table lie on the disk, and as a list would be in memory.
    for part in rows.select(column).iter_slices(_SLICE):
        yield from part.to_series().cast(pl.String).fill_null(missing).to_list()


def _numbers(column: pl.Series) -> Floats:
    values: Floats = column.cast(pl.Float64).fill_null(np.nan).to_numpy()
    return np.where(np.isfinite(values), values, np.nan)


def _vocabulary(texts: Iterable[str], shortest: int, longest: int, min_df: int) -> bool:
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
