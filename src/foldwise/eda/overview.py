"""Every column at a glance: rows in; nulls, distinct values, examples and roles out."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl
import polars.selectors as cs

from foldwise.eda.rows import Rows
from foldwise.table.cells import with_points
from foldwise.table.roles import Guess, guess_role

EXAMPLES = 3
EXAMPLE_CHARS = 60
GUESS_ROWS = 50_000  # a guess needs no more


@dataclass(frozen=True)
class Column:
    """What a column holds, over all rows of the table.

    Attributes:
        name: the column's.
        role: what the config does with it; "" if it doesn't name it.
        guess: what it looks like.
        nulls: empty cells.
        unique: distinct values that aren't empty.
        examples: its most frequent values, or its first ones where none comes back; cut.
        comma: whether it was read as text and surely holds numbers with a decimal comma.
    """

    name: str
    role: str
    guess: Guess
    nulls: int
    unique: int
    examples: tuple[str, ...]
    comma: bool = False


def describe_columns(rows: Rows) -> list[Column]:
    """Describe every column of the table, in the table's order."""
    head = rows.frame.head(GUESS_ROWS)
    pointed, commas = with_points(head.select(cs.string()))
    head = head.with_columns(pointed)
    return [
        _column(rows.frame[name], role, head[name], comma=name in commas)
        for name, role in rows.roles.items()
    ]


def _column(cells: pl.Series, role: str, head: pl.Series, *, comma: bool) -> Column:
    known = cells.drop_nulls()
    unique = known.n_unique()
    shown = known.unique(maintain_order=True)
    if unique < len(known):
        counts = known.alias("value").value_counts()
        counts = counts.sort(["count", "value"], descending=[True, False])
        shown = counts["value"]
    return Column(
        name=cells.name,
        role=role,
        guess=guess_role(_as_written(head)),
        nulls=cells.null_count(),
        unique=unique,
        examples=tuple(map(_cut, _as_written(shown.head(EXAMPLES)))),
        comma=comma,
    )


def _as_written(cells: pl.Series) -> pl.Series:
    if not cells.dtype.is_float():
        return cells.cast(pl.String)
    return pl.Series(cells.name, [None if x is None else f"{x:.10g}" for x in cells], pl.String)


def _cut(value: str) -> str:
    line = " ".join(value.split())
    return line if len(line) <= EXAMPLE_CHARS else line[: EXAMPLE_CHARS - 1] + "\u2026"
