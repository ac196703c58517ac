"""What a member is: rows and targets in, predictions out, and a state that files can hold.

The fine-tuned model is one member of a run, and the others stand beside it on the same folds: a
constant, a lookup, a linear model on words, one on frozen embeddings, boosted trees, yours. Each
is fitted on a fold's training rows alone and predicts whatever rows it is given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from foldwise.errors import FoldwiseError
from foldwise.members.states import TokenStates

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]
# One class a row, any number of labels a row, or a number a row.
Holds = Literal["label", "labels", "number"]
# Columns of the rows that hold the frozen backbone's vectors, a float32 array (hidden size,) each:
# the mean of a text's last hidden states, and that of those two thirds of the way up.
EMBEDDING, MIDDLE = "foldwise.embedding", "foldwise.embedding.middle"


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
    1), `columns` (a `Columns`), `seed` and `balanced` (whether each class weighs the same) what it
    names. A class with `reads_embedding = True` finds the column `EMBEDDING` in its rows, where the
    run has a text, and `MIDDLE` too unless the config says `model.embedding: last`. One with
    `reads_tokens = True` is a `TokenReader`.
    """

    def fit(self, rows: pl.DataFrame, target: NDArray[Any], inner: NDArray[np.bool_]) -> None:
        """Fit on a fold's training rows.

        Args:
            rows: (n,), the run's columns, and the vectors where they are asked for.
            target: class ids, int64 (n,); or 0 and 1 for each label, float64 (n, labels); or
                numbers, float64 (n, 1).
            inner: bool (n,), the rows that may decide when to stop; they may train as well.
        """

    def predict(self, rows: pl.DataFrame) -> Floats:
        """Return probabilities of classes or labels, or numbers: float64 (n, n_outputs)."""

    def state(self) -> dict[str, Any]:
        """Return what was fitted: JSON values and numpy arrays, in dicts."""

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what `state` returned, or as much of it as a file still held.

        Raises:
            KeyError, TypeError, ValueError: it is of another shape; `store.restore` names the file.
        """


class TokenReader(Protocol):
    """A member with `reads_tokens = True`: it is given what the backbone says of each token.

    Its class says `reads_embedding = True` too.
    """

    def fit(
        self,
        rows: pl.DataFrame,
        target: NDArray[Any],
        inner: NDArray[np.bool_],
        tokens: TokenStates | None,
    ) -> None:
        """Fit as `Member.fit` does.

        Args:
            rows: as there.
            target: as there.
            inner: as there.
            tokens: of the rows' texts, (n,); None unless the run has `model.embedding: tokens`.
        """

    def predict(self, rows: pl.DataFrame, tokens: TokenStates | None) -> Floats:
        """Return probabilities of classes or labels, or numbers: float64 (n, n_outputs)."""


@runtime_checkable
class KnowsCategories(Protocol):
    """A member, or a task, that can say which values of which columns it has learnt from."""

    def categories_known(self) -> dict[str, list[str | None]]:
        """Return them by column; without a column of which that can't be said."""


def shares(target: NDArray[Any], n_outputs: int) -> Floats:
    """Return each class's share of the rows, or each label's or number's mean: (n_outputs,)."""
    if target.ndim == 1:
        counts: Floats = np.bincount(target, minlength=n_outputs) / len(target)
        return counts
    means: Floats = target.mean(axis=0)
    return means


def with_vectors(rows: pl.DataFrame, vectors: NDArray[np.float32]) -> pl.DataFrame:
    """Return rows with the columns that members read vectors from.

    Args:
        rows: (n,).
        vectors: (n, 1, H), or (n, 2, H) with the middle.
    """
    kind = pl.Array(pl.Float32, vectors.shape[2])
    return rows.with_columns(
        pl.Series(name, vectors[:, number], dtype=kind)
        for number, name in enumerate((EMBEDDING, MIDDLE)[: vectors.shape[1]])
    )


def vectors_of(rows: pl.DataFrame) -> NDArray[np.float32]:
    """Return the rows' frozen embeddings side by side, float32 (n, H), or (n, 2 H)."""
    return np.hstack(list(vectors_by_column(rows).values()))


def vectors_by_column(rows: pl.DataFrame) -> dict[str, NDArray[np.float32]]:
    """Return the rows' frozen embeddings, float32 (n, H) each; none where there is no text.

    Raises:
        FoldwiseError: a vector holds NaN or infinity, so the backbone's weights or precision are
            at fault.
    """
    found = {name: rows[name].to_numpy() for name in (EMBEDDING, MIDDLE) if name in rows.columns}
    for vectors in found.values():
        if not np.isfinite(vectors).all():
            n = int((~np.isfinite(vectors).all(axis=1)).sum())
            raise FoldwiseError(
                f"the frozen backbone's vectors of {n} of {len(vectors)} rows aren't finite; "
                "set training.precision to float32, or choose another backbone"
            )
    return found


def magnitude(values: NDArray[Any]) -> Floats:
    """Return the power of two below each column's largest size, 1 where that is zero: (k,).

    Numbers divided by it lose no digit, and their squares don't overflow.
    """
    largest = np.abs(values).max(axis=0, initial=0.0)
    _, exponent = np.frexp(largest)
    sizes: Floats = np.where(largest > 0, np.ldexp(1.0, np.clip(exponent - 1, -1000, 1000)), 1.0)
    return sizes


def array_of(
    state: dict[str, Any], name: str, shape: tuple[int | None, ...], kind: str = "f"
) -> NDArray[Any]:
    """Take an array out of a state that a file held.

    Args:
        state: what `load_state` of a member received.
        name: its key.
        shape: its axes, None where any length will do.
        kind: of its dtype: f, i or u.

    Raises:
        ValueError: it is of another kind or shape, or not finite.
    """
    found = state[name]
    if (
        not isinstance(found, np.ndarray)
        or found.dtype.kind != kind
        or len(found.shape) != len(shape)
        or any(want not in (None, got) for want, got in zip(shape, found.shape, strict=True))
    ):
        raise ValueError(f"{name} isn't an array of its kind and shape")
    if not np.isfinite(found).all():
        raise ValueError(f"{name} holds numbers that aren't finite")
    return found


def outputs_of_state(state: dict[str, Any], n_outputs: int) -> Ids:
    """Take the outputs that weights are of out of a state, int64 (k,).

    Raises:
        ValueError: one is there twice, or isn't one of so many.
    """
    outputs: Ids = array_of(state, "outputs", (None,), "i")
    known = np.isin(outputs, np.arange(n_outputs)).all()
    if len(np.unique(outputs)) < len(outputs) or not known:
        raise ValueError(f"weights of other outputs than {n_outputs}")
    return outputs


def words_of(values: Any, *, null: bool = False) -> list[Any]:
    """Take a list of different texts out of a state; `null` may be one of them.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(values, list) or not all(
        isinstance(value, str) or (null and value is None) for value in values
    ):
        raise ValueError("a list of texts isn't one")
    if len(set(values)) < len(values):
        raise ValueError("a list of different texts has one twice")
    return values
