"""The target as arrays: rows in, class ids, label indicators or numbers out.

The three shapes that a target can have; whatever relates a column to the target takes one of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from foldwise.eda.rows import Rows
from foldwise.evaluation.lookup import Floats, Ids


@dataclass(frozen=True)
class Answers:
    """The target of some rows.

    Attributes:
        names: the classes or labels, the most frequent first, in their order if they have one;
            empty for numbers.
        ids: (n,) class of each row, or None.
        values: (n, labels) of 0 and 1, or (n, 1) numbers, or None where there are ids.
        ordered: whether the classes have an order.
    """

    names: tuple[str, ...]
    ids: Ids | None
    values: Floats | None
    ordered: bool = False

    def __len__(self) -> int:
        given = self.ids if self.ids is not None else self.values
        return 0 if given is None else len(given)

    @property
    def is_number(self) -> bool:
        """Whether the target is a number."""
        return self.ids is None and not self.names

    def of(self, positions: np.ndarray) -> Answers:
        """Return the target of some of the rows."""
        return Answers(
            self.names,
            None if self.ids is None else self.ids[positions],
            None if self.values is None else self.values[positions],
            self.ordered,
        )

    def sizes(self) -> Ids:
        """Return the rows of each class or label: (names,)."""
        if self.ids is not None:
            counts: Ids = np.bincount(self.ids, minlength=len(self.names))
            return counts
        assert self.values is not None
        return np.asarray(self.values.sum(axis=0), dtype=np.int64)


def read_answers(rows: Rows) -> Answers:
    """Return the target of the rows that a run would use."""
    cells = rows.used[rows.target]
    if rows.holds == "number":
        return Answers((), None, cells.to_numpy().reshape(-1, 1).astype(np.float64))
    if rows.holds == "labels":
        return _label_sets(cells, rows.config.data.separator or ";")
    counts = cells.value_counts().sort(["count", rows.target], descending=[True, False])
    names: list[str] = counts[rows.target].to_list()
    ordered = rows.config.task == "ordinal"
    if ordered:
        names = _in_order(names, rows.config.data.order)
    place = {name: i for i, name in enumerate(names)}
    ids = np.array([place[cell] for cell in cells], dtype=np.int64)
    return Answers(tuple(names), ids, None, ordered)


def _in_order(names: list[str], order: list[str] | None) -> list[str]:
    if order is not None:
        # Labels that data.order doesn't know stop a run; here they come last.
        return [*(n for n in order if n in names), *sorted(n for n in names if n not in order)]
    numbers = pl.Series(names).cast(pl.Float64, strict=False)
    if numbers.null_count():
        return sorted(names)
    return [name for _, name in sorted(zip(numbers.to_list(), names, strict=True))]


def _label_sets(cells: pl.Series, separator: str) -> Answers:
    sets = [[label for label in cell.split(separator) if label] for cell in cells]
    found = pl.Series([label for labels in sets for label in labels], dtype=pl.String)
    counts = found.alias("label").value_counts()
    names = counts.sort(["count", "label"], descending=[True, False])["label"].to_list()
    place = {name: i for i, name in enumerate(names)}
    values = np.zeros((len(sets), len(names)))
    for i, labels in enumerate(sets):
        values[i, [place[label] for label in labels]] = 1
    return Answers(tuple(names), None, values)
