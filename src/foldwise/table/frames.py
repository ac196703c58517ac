"""Rows at hand: a polars or pandas frame, dicts or texts in, a polars frame of their cells out.

A cell means what it would mean in a Parquet file: the types stay the frame's own, and reading.py
decides what they say. Pandas is no dependency: its frames are taken where the caller has it, column
by column and without pyarrow. Rows to train on are written down once, named by their content, so
that everything which reads a run's table later finds it like any other.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol, TypeGuard

import numpy as np
import polars as pl

from foldwise.errors import FoldwiseError
from foldwise.run.files import write_parquet
from foldwise.run.folder import RunFolder


class PandasFrame(Protocol):
    """What is used of a pandas frame."""

    columns: Any
    index: Any
    iloc: Any


Rows = pl.DataFrame | PandasFrame | Sequence[Mapping[str, Any]] | Sequence[str]

_SLICE = 100_000  # rows hashed at a time
_SCALARS = (str, bool, int, float, Decimal, date, time)
_MISSING = ("NAType", "NaTType")  # of pandas: its own missing values


def is_pandas(rows: object) -> TypeGuard[PandasFrame]:
    """Say whether rows are a pandas frame, without importing pandas."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(rows, pandas.DataFrame)


def to_frame(rows: Rows, text: Sequence[str] = ()) -> tuple[pl.DataFrame, dict[str, str]]:
    """Return rows as a polars frame, in their order.

    Args:
        rows: a polars or pandas frame, a list of dicts, or a list of texts. A pandas frame's index
            is no column.
        text: the columns that a row consists of, for a list of texts: it must be one.

    Returns:
        The frame, and the columns that can't be taken, with why.

    Raises:
        FoldwiseError: they are something else, or there are none.
    """
    if isinstance(rows, pl.DataFrame):
        columns = {name: _of_polars(rows[name]) for name in rows.columns}
    elif is_pandas(rows):
        columns = _of_pandas(rows)
    elif isinstance(rows, list | tuple) and rows and all(isinstance(r, Mapping) for r in rows):
        names = dict.fromkeys(name for row in rows for name in row)
        columns = {str(n): _of_values(str(n), [row.get(n) for row in rows]) for n in names}
    elif isinstance(rows, list | tuple) and rows and all(isinstance(r, str | None) for r in rows):
        if len(text) != 1:
            raise FoldwiseError(
                f"a row is more than one text here: it has the columns {', '.join(map(repr, text))}"
                "; give a frame, or a list of dicts"
            )
        columns = {text[0]: pl.Series(text[0], rows, dtype=pl.String)}
    elif isinstance(rows, list | tuple) and not rows:
        raise FoldwiseError("there are no rows: the list is empty")
    else:
        held = f" that holds {type(rows[0]).__name__}" if isinstance(rows, list | tuple) else ""
        raise FoldwiseError(
            f"rows can be a polars or pandas frame, a list of dicts or a list of texts, not "
            f"{type(rows).__module__}.{type(rows).__qualname__}{held}"
        )
    taken = [column for column in columns.values() if isinstance(column, pl.Series)]
    unread = {name: why for name, why in columns.items() if isinstance(why, str)}
    frame = pl.DataFrame(taken)
    if unread and not taken:
        name, why = next(iter(unread.items()))
        raise FoldwiseError(f"no column of the frame can be taken: {name!r} {why}")
    if frame.height == 0:
        raise FoldwiseError("there are no rows: the frame is empty")
    return frame, unread


def to_pandas(frame: pl.DataFrame, like: PandasFrame) -> PandasFrame:
    """Return a frame as a pandas frame with the index of another."""
    made: PandasFrame = sys.modules["pandas"].DataFrame(
        {column.name: column.to_list() for column in frame}, index=like.index
    )
    return made


@contextmanager
def kept_table(rows: Rows, run: RunFolder, needed: Sequence[str]) -> Iterator[Path]:
    """Keep the rows of a run as a table on the disk, beside the runs.

    It is named by its content, so the same rows are the same table whatever wrote them. Errors in
    the block that name the file say `data` instead.

    Args:
        rows: as for `to_frame`.
        run: the run.
        needed: columns that must be there.

    Yields:
        The table's path.

    Raises:
        FoldwiseError: the rows or a needed column can't be taken, or the block refuses them: a
            table that is new, and that the run isn't made of, is gone again then.
    """
    frame, unread = to_frame(rows)
    for name in needed:
        if name in unread:
            raise FoldwiseError(f"data: column {name!r} {unread[name]}")
        if is_pandas(rows) and name not in frame.columns and name in rows.index.names:
            raise FoldwiseError(
                f"data: {name!r} is the frame's index, which is no column: give data.reset_index()"
            )
    if run.tables.is_symlink():
        raise FoldwiseError(f"{run.tables}: is a link; remove it, tables lie beside the runs")
    digest = content_sha256(frame)
    path = run.tables / f"{digest}.parquet"
    made = [p for p in (path, *path.parents) if not p.exists()]
    if made or not _holds(path, digest):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_parquet(path, frame.rechunk())
    try:
        yield path
    except FoldwiseError as error:
        if made and path.name not in _config_of(run):
            path.unlink(missing_ok=True)
            with suppress(OSError):  # another run's files lie there by now
                for folder in made[1:]:
                    folder.rmdir()
        raise FoldwiseError(str(error).replace(str(path), "data")) from error


def _holds(path: Path, digest: str) -> bool:
    # A table that is damaged, or came along with somebody's runs, is written anew.
    try:
        return content_sha256(pl.read_parquet(path, glob=False, hive_partitioning=False)) == digest
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError):
        return False


def _config_of(run: RunFolder) -> str:
    return run.config.read_text(encoding="utf-8") if run.config.exists() else ""


def content_sha256(frame: pl.DataFrame) -> str:
    """Hash names, types and cells, whatever the version of the library that would write them."""
    digest = hashlib.sha256()
    for column in frame:
        digest.update(json.dumps([column.name, str(column.dtype), len(column)]).encode())
        for part in column.to_frame().iter_slices(_SLICE):
            cells = part.to_series()
            if cells.dtype.is_nested():
                digest.update(repr(cells.to_list()).encode())
                continue
            cells = cells.cast(pl.String)
            digest.update(cells.str.len_bytes().fill_null(2**32 - 1).to_numpy().tobytes())
            digest.update("".join(cells.drop_nulls().to_list()).encode())
    return digest.hexdigest()


def _of_polars(column: pl.Series) -> pl.Series | str:
    if column.dtype == pl.Object:
        return _of_values(column.name, column.to_list())
    if column.dtype in (pl.Duration, pl.Binary):
        return f"holds {column.dtype}: convert it to strings"
    return column


def _of_pandas(rows: PandasFrame) -> dict[str, pl.Series | str]:
    columns: dict[str, pl.Series | str] = {}
    for position, label in enumerate(rows.columns):
        name, column = str(label), rows.iloc[:, position]
        if name in columns:
            columns[name] = "stands in the frame twice: rename one of them"
        elif isinstance(column.dtype, np.dtype) and column.dtype.kind in "biuf":
            values = column.to_numpy()
            columns[name] = pl.Series(name, values.astype("f8") if values.itemsize == 2 else values)
        else:  # text, categories, pandas' own and pyarrow's types: by their values
            columns[name] = _of_values(name, column.astype(object).tolist())
    return columns


def _of_values(name: str, values: Sequence[Any]) -> pl.Series | str:
    """Return Python values as a column, or why that can't be."""
    cells = [_cell(value) for value in values]
    kinds = {type(cell) for cell in cells if cell is not None}
    if kinds == {list}:
        cells = [None if cell is None else [_cell(item) for item in cell] for cell in cells]
        kinds = {type(item) for cell in cells for item in cell or () if item is not None}
        if odd := [kind.__name__ for kind in kinds if not issubclass(kind, _SCALARS)]:
            return f"holds lists of {odd[0]}: write lists of strings"
        cells = [None if cell is None else [_said(item) for item in cell] for cell in cells]
        dtype: Any = pl.List(pl.String)
    elif other := next((kind for kind in kinds if not issubclass(kind, _SCALARS)), None):
        at = next(i for i, cell in enumerate(cells) if type(cell) is other)
        return f"holds {other.__name__} (row {at}): convert it to strings"
    elif kinds <= {str} or len(kinds) > 1:
        cells, dtype = [_said(cell) for cell in cells], pl.String
    else:
        dtype = None
    try:
        return pl.Series(name, cells, dtype=dtype)
    except UnicodeEncodeError as error:
        return f"holds half of a character ({error.object[error.start]!a}): write the whole one"
    except (pl.exceptions.PolarsError, OverflowError, TypeError, ValueError):
        return pl.Series(name, [_said(cell) for cell in cells], dtype=pl.String)


def _cell(value: Any) -> Any:
    if value is None or type(value).__name__ in _MISSING:
        return None
    if isinstance(value, np.ndarray | tuple | set | frozenset):
        return sorted(value) if isinstance(value, set | frozenset) else list(value)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and value != value:
        return None
    return str(value) if isinstance(value, str) else value


def _said(cell: Any) -> str | None:
    if cell is None:
        return None
    return str(cell).lower() if isinstance(cell, bool) else str(cell)
