"""Cells that a spreadsheet would run: a table in, the same with those cells marked as text out.

A label that begins with = + - @, a tab or a carriage return is a formula to Excel and its kind, and
a formula can send data away (OWASP, CSV injection). A leading apostrophe makes it text. A number
with a sign runs nothing, and stays one. Only files that a spreadsheet opens need this: Parquet
keeps its cells.
"""

from __future__ import annotations

import polars as pl
import polars.selectors as cs


def without_formulas(frame: pl.DataFrame) -> pl.DataFrame:
    """Put an apostrophe in front of text cells, and of column names, that a spreadsheet runs."""
    cells = cs.string()
    marked = cells.str.replace(r"^([=+\-@\t\r])", "'$1")
    kept = pl.when(cells.str.contains(_NUMBER)).then(cells).otherwise(marked)
    return frame.with_columns(kept).rename(
        {n: f"'{n}" for n in frame.columns if n.startswith(_SIGNS)}
    )


_NUMBER = r"^[+-][0-9.,]+([eE][+-]?[0-9]+)?$"
_SIGNS = ("=", "+", "-", "@", "\t", "\r")
