"""Categories and numbers as tensors, by encoders fitted on the training rows of a fold.

In: category and number columns. Out: slots of embeddings and scaled numbers. Rows are read once for
all folds, as `Cells`: a category by a stable 64-bit hash of its text, a number as it is. A fold's
`Encoders` map the cells of a batch by binary search; they are plain values and lie in encoders.json
beside the fold's checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from hashlib import blake2b
from typing import Any, Literal

import numpy as np
import polars as pl
import torch
from scipy.special import ndtri
from torch import Tensor

from foldwise.encoding.text import MISSING

MISSING_SLOT, UNSEEN_SLOT, FIRST_SLOT = 0, 1, 2
MOST_QUANTILES = 1000
FARTHEST = 5.199  # of a normal variable beyond the training rows, as in scikit-learn


@dataclass(frozen=True)
class Category:
    """A column of categories: one of the table, or the first characters of one.

    Attributes:
        column: of the table.
        prefix: characters kept of each value; None for all.
    """

    column: str
    prefix: int | None = None

    @property
    def name(self) -> str:
        """What the column is called in encoders.json."""
        return self.column if self.prefix is None else f"{self.column}[:{self.prefix}]"


@dataclass(frozen=True)
class Cells:
    """The columns of many rows, with nothing fitted.

    Attributes:
        keys: hash of each category, uint64 (rows, categories); 0 where it is missing.
        numbers: float64 (rows, numbers), nan where missing.
    """

    keys: np.ndarray
    numbers: np.ndarray


def read_cells(
    frame: pl.DataFrame, categories: Sequence[Category], numbers: Sequence[str]
) -> Cells:
    """Read the cells of all rows; null and the word "missing" are missing."""
    keys = np.zeros((frame.height, len(categories)), dtype=np.uint64)
    for place, category in enumerate(categories):
        texts = _texts(frame, category)
        distinct = texts.drop_nulls().unique()
        known = pl.Series([_key(text) for text in distinct], dtype=pl.UInt64)
        found = texts.replace_strict(distinct, known, default=0, return_dtype=pl.UInt64)
        keys[:, place] = found.fill_null(0).to_numpy()
    columns = [frame[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in numbers]
    return Cells(keys, np.stack(columns, axis=1) if columns else np.zeros((frame.height, 0)))


@dataclass(frozen=True)
class CategoryEncoder:
    """Slots of one column: missing, unseen, the values with a slot of their own, hash buckets.

    Attributes:
        name: of the column.
        values: that have a slot of their own, the most frequent first.
        buckets: shared by all other values; 0: other values are unseen.
    """

    name: str
    values: list[str]
    buckets: int

    @property
    def size(self) -> int:
        """Number of slots."""
        return FIRST_SLOT + len(self.values) + self.buckets

    def slots(self, keys: np.ndarray) -> np.ndarray:
        """Map keys, uint64 (n,), to slots, int64 (n,)."""
        known, slot = self._sorted
        at = np.searchsorted(known, keys).clip(max=len(known) - 1)
        if self.buckets:
            other = FIRST_SLOT + len(self.values) + (keys % self.buckets).astype(np.int64)
        else:
            other = np.full(len(keys), UNSEEN_SLOT)
        slots: np.ndarray = np.where(known[at] == keys, slot[at], other)
        return slots

    @cached_property
    def _sorted(self) -> tuple[np.ndarray, np.ndarray]:
        keys = np.array([0, *map(_key, self.values)], dtype=np.uint64)
        slots = np.array([MISSING_SLOT, *range(FIRST_SLOT, FIRST_SLOT + len(self.values))])
        order = np.argsort(keys)
        return keys[order], slots[order].astype(np.int64)


@dataclass(frozen=True)
class NumberEncoder:
    """How one column's numbers are scaled, and what stands in for missing ones.

    Attributes:
        name: of the column.
        center: subtracted first; unused with quantiles.
        spread: divided by then.
        quantiles: evenly spaced ones, of the training rows; their ranks become a normal variable.
            Empty: center and spread scale.
        fill: what a missing number is, after scaling.
        edges: of the bins of a piecewise-linear embedding, after scaling, ascending; two at least,
            empty where the embedding has no bins.
    """

    name: str
    center: float
    spread: float
    quantiles: list[float]
    fill: float = 0.0
    edges: list[float] = field(default_factory=list)

    def scale(self, numbers: np.ndarray) -> np.ndarray:
        """Scale float64 (n,); nan stays nan."""
        if not self.quantiles:
            return (numbers - self.center) / self.spread
        ranks = np.linspace(0, 1, len(self.quantiles))
        at = np.array(self.quantiles)
        # From both sides, so that a value which fills many quantiles gets the middle of their ranks
        # (as in scikit-learn's QuantileTransformer).
        rising = np.interp(numbers, at, ranks)
        falling = 1 - np.interp(-numbers, -at[::-1], ranks)
        rank = (rising + falling) / 2
        rank = np.where(numbers <= at[0], 0.0, np.where(numbers >= at[-1], 1.0, rank))
        scaled: np.ndarray = np.clip(ndtri(rank), -FARTHEST, FARTHEST)
        return scaled


@dataclass(frozen=True)
class Encoders:
    """The fitted encoders of a fold, column by column.

    Attributes:
        categories: one a category column, derived ones last.
        numbers: one a number column.
    """

    categories: tuple[CategoryEncoder, ...]
    numbers: tuple[NumberEncoder, ...]

    def batch(self, keys: np.ndarray, numbers: np.ndarray) -> dict[str, Tensor]:
        """Encode the cells of a batch.

        Args:
            keys: uint64 (B, categories).
            numbers: float64 (B, numbers).

        Returns:
            categorical, int64 (B, categories), and numeric, float32 (B, numbers), nan where
            missing; without the key whose columns there are none of.
        """
        batch: dict[str, Tensor] = {}
        if self.categories:
            slots = [encoder.slots(keys[:, i]) for i, encoder in enumerate(self.categories)]
            batch["categorical"] = torch.from_numpy(np.stack(slots, axis=1))
        if self.numbers:
            scaled = [encoder.scale(numbers[:, i]) for i, encoder in enumerate(self.numbers)]
            batch["numeric"] = torch.from_numpy(np.stack(scaled, axis=1)).float()
        return batch

    def state(self) -> dict[str, Any]:
        """Return the encoders as JSON values."""
        return asdict(self)

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Encoders:
        """Take back what `state` returned."""
        return cls(
            tuple(CategoryEncoder(**values) for values in state["categories"]),
            tuple(NumberEncoder(**values) for values in state["numbers"]),
        )


def fit_category(
    frame: pl.DataFrame, category: Category, hash_above: int, buckets: int
) -> CategoryEncoder:
    """Give the values that occur their slots.

    Args:
        frame: the training rows.
        category: the column.
        hash_above: values that get a slot of their own at most, the most frequent.
        buckets: slots that the others share by their hash, where there are others.
    """
    counts = _texts(frame, category).drop_nulls().value_counts(name="rows")
    # Among equals the alphabet decides: slots don't depend on the order of the rows.
    values = counts.sort(["rows", counts.columns[0]], descending=[True, False])[:, 0].to_list()
    many = len(values) > hash_above
    return CategoryEncoder(category.name, values[:hash_above], buckets if many else 0)


def fit_number(
    frame: pl.DataFrame,
    name: str,
    *,
    scale: Literal["quantile", "standard"],
    fill: str,
    bins: int,
) -> NumberEncoder:
    """Fit scaling, stand-in and bins of a number column.

    Args:
        frame: the training rows.
        name: the column.
        scale: "quantile" (ranks as a normal variable) or "standard" (mean 0, deviation 1).
        fill: "mean", "median" or "zero", in the column's own units; anything else is the mean.
        bins: equally frequent bins of a piecewise-linear embedding; 0 for none.
    """
    numbers = frame[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
    known = numbers[~np.isnan(numbers)]
    if len(known) == 0:
        known = np.zeros(1)
    spread = float(known.std())
    quantiles: list[float] = []
    # A column of one value has no ranks to speak of: it becomes 0.
    if scale == "quantile" and known.min() < known.max():
        ranks = np.linspace(0, 1, min(MOST_QUANTILES, len(known)))
        # All of few values, as they are: interpolated, equal ones would differ in the last bit.
        few = len(ranks) == len(known)
        quantiles = (np.sort(known) if few else np.quantile(known, ranks)).tolist()
    encoder = NumberEncoder(name, float(known.mean()), spread if spread > 0 else 1.0, quantiles)
    stand_in = {"median": float(np.median(known)), "zero": 0.0}.get(fill, encoder.center)
    edges: list[float] = []
    if bins:
        scaled = encoder.scale(known)
        edges = np.unique(np.percentile(scaled, np.linspace(0, 100, bins + 1))).tolist()
        if len(edges) == 1:
            edges = [edges[0], edges[0] + 1]
    return NumberEncoder(
        name,
        encoder.center,
        encoder.spread,
        quantiles,
        fill=float(encoder.scale(np.array([stand_in]))[0]),
        edges=edges,
    )


def _texts(frame: pl.DataFrame, category: Category) -> pl.Series:
    texts = frame[category.column].cast(pl.String)
    texts = texts.set(texts == MISSING, None)
    return texts if category.prefix is None else texts.str.slice(0, category.prefix)


def _key(text: str) -> int:
    # Not Python's hash(): that differs from process to process. 0 is kept for missing.
    return int.from_bytes(blake2b(text.encode("utf-8"), digest_size=8).digest(), "little") or 1
