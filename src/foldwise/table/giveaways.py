"""Columns that were filled in after the target was known: cells and target in, the reason out.

A column can tell the target without a value of its own for each class: the reason for a complaint
is there for complaints only, and `feedback` is 1 wherever the rating is above 2. Both follow from
the target: whoever knows it knows the column (or whether it is empty). What is known beforehand
hardly ever does.
"""

from __future__ import annotations

import polars as pl

_FOLLOWS = 0.95  # of the way from the column's commonest value to all rows
_ROWS = 5  # of a value of the target, to be counted
_COVERED = 0.8  # rows whose target has so many
_NEARLY_EMPTY = 0.05


def follows_from(cells: pl.Series, target: pl.Series, *, sets: bool = False) -> str | None:
    """Say how a column follows from the target; None if it doesn't.

    Args:
        cells: of the column, null where empty.
        target: of the same rows.
        sets: whether the target is a set of labels: what a row is, such as a film, often follows
            from so much, and is known beforehand.
    """
    known = target.is_not_null()
    cells, target = cells.cast(pl.String).filter(known), target.cast(pl.String).filter(known)
    empty = cells.is_null()
    if _told(empty.cast(pl.String), target):
        return f"whether it is empty follows from {target.name!r}: filled in once that is known?"
    if not sets and cells.n_unique() <= target.n_unique() and _told(cells.fill_null(""), target):
        return f"it follows from {target.name!r}: made of it?"
    return None


def nearly_empty(cells: pl.Series) -> str | None:
    """Say in how few rows a column is filled; None if they are enough to learn from."""
    filled = len(cells) - cells.null_count()
    few = 0 < filled < _NEARLY_EMPTY * len(cells)
    return f"filled in {filled:,} of {len(cells):,} rows" if few else None


def _told(values: pl.Series, target: pl.Series) -> bool:
    """Say whether the target tells a column's value in all rows but a few."""
    pairs = pl.DataFrame({"value": values, "target": target})
    sizes = pairs.group_by("target").len().filter(pl.col("len") >= _ROWS)
    often = pairs.join(sizes, on="target", how="semi")
    if often.height < _COVERED * pairs.height or sizes.height < 2:
        return False
    commonest = _largest(often.group_by("value").len())
    if commonest == often.height:
        return False
    counts = often.group_by("target", "value").len()
    right = int(counts.group_by("target").agg(pl.col("len").max())["len"].sum())
    return (right - commonest) / (often.height - commonest) >= _FOLLOWS


def _largest(counts: pl.DataFrame) -> int:
    return int(counts["len"].to_numpy().max())
