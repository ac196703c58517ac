"""What each row does in each fold: trains, picks the epoch, is scored, or is kept out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "row": pl.Int64,
    "repeat": pl.Int32,
    "fold": pl.Int32,
    "role": pl.String,
    "inner_of": pl.List(pl.Int32),
    "unused_in": pl.List(pl.Int32),
    "group": pl.Int64,
}


@dataclass(frozen=True)
class Assignment:
    """Which rows do what in each fold.

    Attributes:
        frame: one line a row and repeat, sorted by (repeat, row): `row`, `repeat` (1-based), `fold`
            (1-based over all repeats; null: never scored), `role` (cv, holdout, train_only,
            dropped), `inner_of` (folds whose epoch the row picks), `unused_in` (folds the row
            neither trains nor scores, such as the future of a time-ordered split), `group` (rows of
            equal number stay together; null for dropped rows).
        n_folds: folds in all, over the repeats.
        report: counts worth knowing (groups, disagreements, class sizes), for the log.
    """

    frame: pl.DataFrame
    n_folds: int
    report: dict[str, Any] = field(default_factory=dict)

    def scored(self, fold: int) -> np.ndarray:
        """Return the rows that score a fold, ascending, int64 (n,)."""
        return self._rows(pl.col("fold") == fold)

    def inner(self, fold: int) -> np.ndarray:
        """Return the training rows set aside to pick the fold's epoch, int64 (n,)."""
        return self._rows(pl.col("inner_of").list.contains(fold))

    def training(self, fold: int) -> np.ndarray:
        """Return the rows whose labels train the fold's weights, int64 (n,)."""
        return self._rows(
            (pl.col("repeat") == self.repeat(fold))
            & pl.col("role").is_in(["cv", "train_only"])
            & (pl.col("fold").is_null() | (pl.col("fold") != fold))
            & ~pl.col("inner_of").list.contains(fold)
            & ~pl.col("unused_in").list.contains(fold)
        )

    def holdout(self) -> np.ndarray:
        """Return the rows kept out of all folds, int64 (n,)."""
        return self._rows((pl.col("role") == "holdout") & (pl.col("repeat") == 1))

    def cross_validated(self) -> np.ndarray:
        """Return the rows that take part in the cross-validation, int64 (n,)."""
        return self._rows(pl.col("role").is_in(["cv", "train_only"]) & (pl.col("repeat") == 1))

    def kept(self) -> np.ndarray:
        """Return the rows that aren't dropped, int64 (n,)."""
        return self._rows((pl.col("role") != "dropped") & (pl.col("repeat") == 1))

    def groups(self, rows: np.ndarray) -> np.ndarray:
        """Return the group of each of some kept rows, int64 (n,)."""
        first = self.frame.filter(pl.col("repeat") == 1)
        places = np.searchsorted(first["row"].to_numpy(), rows)
        return first["group"].to_numpy()[places].astype(np.int64)

    def repeat(self, fold: int) -> int:
        """Return the repeat (1-based) that a fold belongs to."""
        repeats = int(self.frame["repeat"].max())  # type: ignore[arg-type]
        return (fold - 1) // (self.n_folds // repeats) + 1

    def _rows(self, condition: pl.Expr) -> np.ndarray:
        return self.frame.filter(condition)["row"].to_numpy()


def read_assignment(frame: pl.DataFrame) -> Assignment:
    """Return the assignment that `folds.parquet` holds."""
    return Assignment(frame, int(frame["fold"].max()))  # type: ignore[arg-type]
