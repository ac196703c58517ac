"""What a member is: rows and targets in, predictions out, and a state that files can hold.

The fine-tuned model is one member of a run, and the others stand beside it on the same folds: a
constant, a lookup, a linear model on words, one on frozen embeddings, boosted trees, yours. Each
is fitted on a fold's training rows alone and predicts whatever rows it is given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]
# One class a row, any number of labels a row, or a number a row.
Holds = Literal["label", "labels", "number"]
# Column of the rows that holds the frozen backbone's vectors, a float32 array (width,) each.
EMBEDDING = "foldwise.embedding"


@dataclass(frozen=True)
class Columns:
    """The columns that members read.

    Attributes:
        text: text columns; null is an empty text.
        categorical: category columns; null is a category.
        numeric: number columns.
        fill: what null numbers become: mean or median of the training rows, or zero.
    """

    text: tuple[str, ...]
    categorical: tuple[str, ...]
    numeric: tuple[str, ...]
    fill: str = "mean"


class Member(Protocol):
    """One model of a fold.

    A constructor receives of `holds` (label, labels or number), `n_outputs` (classes, labels, or
    1), `columns` (a `Columns`) and `seed` what it names. A class with `reads_embedding = True`
    finds the column `EMBEDDING` in its rows, where the run has a text.
    """

    def fit(self, rows: pl.DataFrame, target: NDArray[Any], inner: NDArray[np.bool_]) -> None:
        """Fit on a fold's training rows.

        Args:
            rows: (n,), the run's columns, and `EMBEDDING` where it is asked for.
            target: class ids, int64 (n,); or 0 and 1 for each label, float64 (n, labels); or
                numbers, float64 (n, 1).
            inner: bool (n,), the rows that may decide when to stop; they may train as well.
        """

    def predict(self, rows: pl.DataFrame) -> Floats:
        """Return probabilities of classes or labels, or numbers: float64 (n, n_outputs)."""

    def state(self) -> dict[str, Any]:
        """Return what was fitted: JSON values and numpy arrays, in dicts."""

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what `state` returned."""


def shares(target: NDArray[Any], n_outputs: int) -> Floats:
    """Return each class's share of the rows, or each label's or number's mean: (n_outputs,)."""
    if target.ndim == 1:
        counts: Floats = np.bincount(target, minlength=n_outputs) / len(target)
        return counts
    means: Floats = target.mean(axis=0)
    return means


def vectors_of(rows: pl.DataFrame) -> NDArray[np.float32]:
    """Return the rows' frozen embeddings, float32 (n, width)."""
    vectors: NDArray[np.float32] = rows[EMBEDDING].to_numpy()
    return vectors
