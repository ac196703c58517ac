"""Lines as bytes: a part of the output, and the parts joined in the memory of one.

In: frames of lines. Out: CSV, Parquet or JSONL. A CSV's parts are its bytes without the header, but
for the first, so joining them is copying; Parquet's are read and written stretch by stretch.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from foldwise.table.formulas import without_formulas


def write_part(path: Path, lines: pl.DataFrame, suffix: str, *, first: bool, raw: bool) -> None:
    """Write some lines.

    Args:
        path: the file.
        lines: of the output.
        suffix: of the output.
        first: whether they are the output's first.
        raw: leave cells of a CSV as they are that a spreadsheet takes for formulas.
    """
    if suffix == ".csv":
        (lines if raw else without_formulas(lines)).write_csv(path, include_header=first)
    elif suffix == ".jsonl":
        lines.write_ndjson(path)
    else:
        lines.write_parquet(path)


def join(parts: Sequence[Path], path: Path, suffix: str) -> None:
    """Write the parts into one file, in their order."""
    if suffix == ".parquet":
        pl.scan_parquet(list(parts), glob=False, hive_partitioning=False).sink_parquet(path)
        return
    with path.open("wb") as whole:
        for part in parts:
            with part.open("rb") as stream:
                shutil.copyfileobj(stream, whole, 1 << 20)
