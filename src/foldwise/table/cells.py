"""What a cell means: a column as its file has it in; strings, numbers and blanks out."""

from __future__ import annotations

from typing import Literal

import polars as pl

Decimal = Literal[".", ","]
_GROUPED = r"^[+-]?\d{1,3}(\.\d{3})+(,|$)"  # 1.234.567,8
_FRACTION = r",(\d{1,2}|\d{4,})\s*$"  # three digits behind a comma may be thousands


def strings(column: pl.Series) -> pl.Series:
    """Return a column's cells as strings, null for blank ones."""
    if column.dtype.is_float():
        column = column.fill_nan(None)  # pandas writes a missing value as NaN
    column = column.cast(pl.String)
    return column.set(~column.str.contains(r"\S"), None)


def parse_numbers(column: pl.Series, decimal: Decimal = ".") -> tuple[pl.Series, pl.Series]:
    """Return a column's cells as Float64, and which of the filled ones aren't finite numbers.

    Args:
        column: strings, or numbers.
        decimal: what stands before a number's fraction in strings; with a comma, dots may stand
            between thousands, and a dot anywhere else is none of a number's.
    """
    cells = strings(column)
    values = column if column.dtype.is_numeric() else cells.str.strip_chars()
    if decimal == "," and not column.dtype.is_numeric():
        values = _with_point(values)
    values = values.cast(pl.Float64, strict=False)
    bad = cells.is_not_null() & ~values.is_finite().fill_null(False)
    return values.set(cells.is_null(), None).alias(column.name), bad


def has_decimal_commas(column: pl.Series) -> bool:
    """Say whether all filled cells are numbers, and some of them surely have a decimal comma."""
    cells = strings(column)
    sure = bool(cells.str.contains(_FRACTION).any())
    return sure and not parse_numbers(cells, ",")[1].any()


def with_points(frame: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """Write numbers that have a decimal comma with a point, as those who look at a table read them.

    Args:
        frame: strings, null for blank ones.

    Returns:
        The frame, and the columns that surely have decimal commas; none where another column has
        decimal points.
    """
    # All columns at once: of five thousand, one by one, it takes seconds.
    likely = [
        cells.name for cells in frame.select(pl.all().str.contains(_FRACTION).any()) if cells.item()
    ]
    sure = [name for name in likely if has_decimal_commas(frame[name])]
    if not sure or any(map(_has_decimal_points, frame)):
        return frame, []
    signed = [cells for cells in frame if cells.str.contains("[.,]").any()]
    numbers = [cells for cells in signed if not parse_numbers(cells, ",")[1].any()]
    return frame.with_columns(_with_point(cells.str.strip_chars()) for cells in numbers), sure


def _has_decimal_points(cells: pl.Series) -> bool:
    # 1.234 may be a thousand and more, 1.5 can't.
    return not parse_numbers(cells)[1].any() and bool(parse_numbers(cells, ",")[1].any())


def _with_point(cells: pl.Series) -> pl.Series:
    ungrouped = cells.str.replace_all(".", "", literal=True)
    grouped, dotted = cells.str.contains(_GROUPED), cells.str.contains(".", literal=True)
    plain = ungrouped.set(dotted & ~grouped, None)
    return plain.str.replace(",", ".", literal=True)
