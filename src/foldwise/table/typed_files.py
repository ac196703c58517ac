"""Columns that bring their types along: a Parquet file's, or a frame's, as a table's cells.

In: a path and the columns' names. Out: frames of those columns in the file's own types, lists
joined where a column may hold lists, and what no cell can be refused. Parquet is read in stretches
of rows, so that a file of any size takes the memory of one of them: polars decodes what a slice
needs (100,000 rows of 1 kB: 49 MB for slices of 1,024, 143 MB for `collect_batches`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import polars as pl

from foldwise.errors import FoldwiseError
from foldwise.table.faults import Faults, check_columns

PARQUET_ERRORS = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)
_FIRST = 64  # rows read to see how large rows are


def parquet_chunks(
    file: str,
    wanted: Sequence[str],
    lists: Mapping[str, str],
    faults: Faults,
    *,
    rows: int,
    size_bytes: int,
) -> Iterator[pl.DataFrame]:
    """Read the wanted columns of a Parquet file, stretch by stretch.

    Args:
        file: the file.
        wanted: the columns' names.
        lists: as for `read_chunks`.
        faults: as for `read_chunks`.
        rows: of a stretch at most.
        size_bytes: of a stretch, about, by the rows of the one before.

    Yields:
        One frame at least, which may have no rows.

    Raises:
        FoldwiseError: the file can't be read, a column isn't there, or holds what no cell can.
    """
    with _named(file):
        source = pl.scan_parquet(file, glob=False, hive_partitioning=False)
        names = source.collect_schema().names()
    check_columns(names, wanted, file, faults)
    source = source.select(name for name in wanted if name not in faults.unread)
    start, height = 0, min(rows, _FIRST)
    while True:
        with _named(file):
            frame = source.slice(start, height).collect()
        if start and not frame.height:
            return
        yield plain_cells(frame, file, lists, faults)
        start += frame.height
        if frame.height < height:
            return
        each = max(1, int(frame.estimated_size()) // frame.height)
        height = max(1, min(rows, size_bytes // each))


def cells_of(frame: pl.DataFrame, wanted: Sequence[str], place: str) -> pl.DataFrame:
    """Return the wanted columns of a frame as those of a Parquet file are read.

    Args:
        frame: the rows.
        wanted: the columns' names.
        place: what messages call the frame.

    Raises:
        FoldwiseError: a column isn't there, or holds what no file's column may.
    """
    check_columns(frame.columns, wanted, place, Faults())
    return plain_cells(frame.select(wanted), place, {}, Faults())


def plain_cells(
    frame: pl.DataFrame, file: str, lists: Mapping[str, str], faults: Faults
) -> pl.DataFrame:
    """Return a frame whose cells are plain: lists joined, columns of other things left out.

    Raises:
        FoldwiseError: a column that isn't optional holds what no cell can.
    """
    for name, dtype in frame.schema.items():
        try:
            if name in lists and isinstance(dtype, pl.List | pl.Array) and _is_flat(dtype):
                frame = frame.with_columns(_joined_lists(frame[name], file, lists[name]))
            elif dtype.is_nested() or dtype in (pl.Binary, pl.Object, pl.Duration):
                raise FoldwiseError(f"{file}: column {name!r} holds {dtype}: convert it to strings")
        except FoldwiseError as error:
            faults.column(name, str(error))
    return frame.drop(faults.unread, strict=False)


def joined(items: Sequence[str], column: str, place: str, separator: str) -> str:
    """Join the items of a list; an empty one becomes the separator alone.

    Raises:
        FoldwiseError: the separator stands in an item.
    """
    for item in items:
        if separator in item:
            raise FoldwiseError(
                f"{place}: column {column!r} holds a list with {item[:50]!r}, in which the "
                f"separator {separator!r} stands: choose another data.separator"
            )
    return separator.join(items) or separator


def _joined_lists(column: pl.Series, file: str, separator: str) -> pl.Series:
    name = column.name
    cells = column.cast(pl.List(pl.String)).to_list()
    if any(cell is not None and None in cell for cell in cells):
        raise FoldwiseError(f"{file}: column {name!r} holds a list with null in it")
    texts = [None if cell is None else joined(cell, name, file, separator) for cell in cells]
    return pl.Series(name, texts, dtype=pl.String)


def _is_flat(dtype: pl.List | pl.Array) -> bool:
    inner = dtype.inner
    return inner in (pl.String, pl.Categorical) or inner.is_integer()


@contextmanager
def _named(file: str) -> Iterator[None]:
    try:
        yield
    except PARQUET_ERRORS as error:
        raise FoldwiseError(f"{file}: can't be read as Parquet: {error}") from None
