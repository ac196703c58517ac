"""Table files by format: the wanted columns of one, cell for cell, or where reading it fails.

In: a path and the columns' names. Out: a polars frame of those columns: strings as they stand in
CSV, TSV and JSONL, the file's own types in Parquet. Blank cells and numbers are reading.py's
matter, encodings and delimiters encodings.py's and delimiters.py's.

Text is read as strings, because a reader that guesses types turns `01234` into 1234. CSV goes
through Python's `csv` module, chunk by chunk: polars' own reader differs from it on stray quotes,
lone carriage returns and short rows, and a row silently lost is worse than a slower read.
"""

from __future__ import annotations

import csv
import difflib
import glob
import hashlib
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

import polars as pl

from foldwise.errors import FoldwiseError
from foldwise.table.delimiters import Form, find_form
from foldwise.table.encodings import open_text
from foldwise.table.records import Repeating, read_records

CHUNK_ROWS = 1024  # Python rows alive at once: long texts stay small, short rows still go fast
SUFFIXES = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".jsonl": "json",
    ".ndjson": "json",
}
FORMATS = ".csv, .tsv, .jsonl, .ndjson (each also .gz), .parquet, or synthetic[:rows]"

Cell = str | None
_AUTO = Form()
_PARQUET_ERRORS = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)


class Cells(NamedTuple):
    """What was read of a file.

    Attributes:
        frame: the columns that could be read.
        unread: the optional ones that couldn't, and why.
    """

    frame: pl.DataFrame
    unread: dict[str, str]


def find_files(path: str) -> list[str]:
    """List the files that a path or glob names, in order; refuse what can't be a table."""
    files = [path] if os.path.exists(path) else sorted(glob.glob(path, recursive=True))
    if not files:
        raise FoldwiseError(
            f"no file matches {path!r} (looked from {os.getcwd()}): paths are relative "
            "to the working directory"
        )
    for file in files:
        if _format(file) is None or os.path.isdir(file):
            raise FoldwiseError(f"{file}: can't be read as a table; allowed: {FORMATS}")
        if not os.path.isfile(file):
            raise FoldwiseError(
                f"{file}: is a pipe or device, and a table is read more than once; put the rows "
                "into a file"
            )
    return files


def form_of(file: str, asked: Form, wanted: Collection[str]) -> Form | None:
    """Say how a text file is written; None for Parquet, which says so itself.

    Args:
        file: the file.
        asked: data.encoding and data.delimiter, which go before what is found.
        wanted: columns that its header must have.

    Raises:
        FoldwiseError: it can't be read, or its encoding isn't certain.
    """
    kind = _format(file)
    return None if kind == "parquet" else find_form(file, asked, wanted, delimited=kind != "json")


def read_names(
    file: str, asked: Form = _AUTO, wanted: Collection[str] = ()
) -> tuple[list[str], list[str]]:
    """List a file's columns, and those of them that hold lists; of JSON the first 1,000 rows say.

    Args:
        file: the file, or the sample's name.
        asked: data.encoding and data.delimiter.
        wanted: columns that its header must have, by which the delimiter is known.

    Raises:
        FoldwiseError: the file can't be read, or has no columns.
    """
    if file.partition(":")[0] == "synthetic":
        from foldwise.synthetic.complaints import COLUMNS

        return list(COLUMNS), []
    form = form_of(file, asked, wanted)
    lists: dict[str, None] = {}
    if form is None:
        try:
            schema = pl.read_parquet_schema(file)
        except _PARQUET_ERRORS as error:
            raise FoldwiseError(f"{file}: can't be read as Parquet: {error}") from None
        names = list(schema)
        lists = dict.fromkeys(k for k, v in schema.items() if isinstance(v, pl.List | pl.Array))
    elif _format(file) == "json":
        seen: dict[str, None] = {}
        for _, record in islice(read_records(file, form, 0), 1000):
            seen.update(dict.fromkeys(record))
            lists.update(dict.fromkeys(k for k, v in record.items() if isinstance(v, list)))
        names = list(seen)
    else:
        with open_text(file, "", form.encoding) as stream:
            reader = csv.reader(stream, delimiter=form.delimiter)
            names = next((cells for cells in reader if cells), [])
    if not names:
        raise FoldwiseError(f"{file}: the file is empty: it needs a header and rows")
    return names, list(lists)


def read_file(
    file: str,
    wanted: Sequence[str],
    first_row: int,
    lists: Mapping[str, str] | None = None,
    *,
    form: Form | None = None,
    optional: Collection[str] = (),
) -> Cells:
    """Read the wanted columns of a file whose first row has the number `first_row`.

    Args:
        file: the file.
        wanted: the columns' names.
        first_row: number of its first row.
        lists: columns that may hold lists, and the separator that joins a list's items; an empty
            list becomes the separator alone.
        form: how it is written; None to find out.
        optional: those of the wanted columns that nothing depends on: one that can't be read is
            left out.

    Raises:
        FoldwiseError: names the file and its row, with the line where there are lines.
    """
    lists, required = lists or {}, [name for name in wanted if name not in optional]
    form = form or form_of(file, _AUTO, required)
    if form is None:
        return _read_parquet(file, wanted, lists, optional)
    unread: dict[str, str] = {}
    parts = [pl.DataFrame(schema=dict.fromkeys(wanted, pl.String))]
    if _format(file) == "json":
        reading = _json_rows(file, wanted, first_row, lists, form, optional, unread)
    else:
        reading = _csv_rows(file, wanted, first_row, form, optional, unread)
    row = first_row
    while chunk := list(islice(reading, CHUNK_ROWS)):
        columns = []
        for name, cells in zip(wanted, zip(*chunk, strict=True), strict=True):
            try:
                columns.append(pl.Series(name, cells, dtype=pl.String))
            except UnicodeEncodeError as error:
                at = row + next(i for i, cell in enumerate(cells) if cell == error.object)
                place = f"{file}: row {at}, column {name!r}"
                _give_up(name, _no_character(place, error, form), optional, unread)
                columns.append(pl.Series(name, [None] * len(chunk), dtype=pl.String))
        parts.append(pl.DataFrame(columns))
        row += len(chunk)
    return Cells(pl.concat(parts).drop(unread), unread)


def cells_of(frame: pl.DataFrame, wanted: Sequence[str], place: str) -> pl.DataFrame:
    """Return the wanted columns of a frame as `read_file` returns those of a Parquet file.

    Args:
        frame: the rows.
        wanted: the columns' names.
        place: what messages call the frame.

    Raises:
        FoldwiseError: a column isn't there, or holds what no file's column may.
    """
    _check_columns(frame.columns, wanted, place, (), {})
    return _plain_cells(frame.select(wanted), place, {}, (), {}).frame


def read_sample(path: str, wanted: Sequence[str], optional: Collection[str] = ()) -> Cells:
    """Generate the wanted columns of the embedded sample that `synthetic[:rows]` names."""
    from foldwise.synthetic.complaints import complaints

    _, colon, rows = path.partition(":")
    if colon and not (rows.isascii() and rows.isdigit() and int(rows) > 0):
        raise FoldwiseError(f"data.path: {path!r} isn't synthetic:ROWS with a whole number of rows")
    frame = complaints(rows=int(rows)) if colon else complaints()
    unread: dict[str, str] = {}
    _check_columns(frame.columns, wanted, path, optional, unread)
    return Cells(frame.select(name for name in wanted if name not in unread), unread)


def sha256_of(files: Sequence[str]) -> str:
    """Hash the bytes of all files, one after the other."""
    digest = hashlib.sha256()
    for file in files:
        with open(file, "rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _format(file: str) -> str | None:
    name = file.lower()
    stem = name.removesuffix(".gz")
    kind = SUFFIXES.get(os.path.splitext(stem)[1])
    return None if kind == "parquet" and stem != name else kind


def _csv_rows(
    file: str,
    wanted: Sequence[str],
    first_row: int,
    form: Form,
    optional: Collection[str],
    unread: dict[str, str],
) -> Iterator[Sequence[Cell]]:
    csv.field_size_limit(2**31 - 1)  # a cell may be a whole document; the default is 128 KiB
    # "": csv sees \r, \n and \r\n as they stand
    with open_text(file, "", form.encoding) as stream:
        reader = csv.reader(stream, delimiter=form.delimiter)
        header = next((cells for cells in reader if cells), [])
        _check_columns(header, wanted, file, optional, unread)
        width = len(header)
        # A column that isn't read after all is None behind the row's last cell.
        places = [width if name in unread else header.index(name) for name in wanted]
        row, line = first_row, reader.line_num  # the line on which the row before ended
        for cells in reader:
            if len(cells) == width:
                padded: list[Cell] = [*cells, None]
                yield [padded[place] for place in places]
                row += 1
            elif cells:  # csv gives [] for a blank line
                raise FoldwiseError(
                    f"{file}: line {line + 1} (row {row}) has {len(cells)} cells, "
                    f"the header has {width}: put double quotes around cells that hold "
                    f"{form.delimiter!r}, quotes or line breaks, and double the quotes inside"
                )
            line = reader.line_num


def _json_rows(
    file: str,
    wanted: Sequence[str],
    first_row: int,
    lists: Mapping[str, str],
    form: Form,
    optional: Collection[str],
    unread: dict[str, str],
) -> Iterator[Sequence[Cell]]:
    seen: dict[str, None] = {}
    for place, record in read_records(file, form, first_row):
        seen.update(dict.fromkeys(record))
        cells: list[Cell] = []
        for name in wanted:
            try:
                if isinstance(record, Repeating) and name in record.repeated:
                    raise FoldwiseError(f"{place}: names column {name!r} twice: rename one of them")
                cells.append(_json_cell(record.get(name), name, place, lists.get(name)))
            except FoldwiseError as error:
                _give_up(name, str(error), optional, unread)
                cells.append(None)
        yield cells
    _check_columns(list(seen), wanted, file, optional, unread)


def _json_cell(value: object, column: str, place: str, separator: str | None = None) -> Cell:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list) and separator is not None:
        items = [_json_cell(item, column, place) for item in value]
        if None in items:
            raise FoldwiseError(f"{place}: column {column!r} holds a list with null in it")
        return _joined([str(item) for item in items], column, place, separator)
    if isinstance(value, bool):
        return "true" if value else "false"
    raise FoldwiseError(
        f"{place}: column {column!r} holds a nested value: write a string, a number or null"
    )


def _give_up(name: str, message: str, optional: Collection[str], unread: dict[str, str]) -> None:
    """Leave an optional column out, with the first reason; raise the message for another."""
    if name not in optional:
        raise FoldwiseError(message)
    unread.setdefault(name, message)


def _no_character(place: str, error: UnicodeEncodeError, form: Form) -> str:
    code = ord(error.object[error.start])
    if 0xDC80 <= code <= 0xDCFF:  # how open_text hands on a byte
        around = error.object[max(0, error.start - 10) : error.start + 10]
        return (
            f"{place}: byte 0x{code - 0xDC00:02x} isn't {form.encoding}, in {around!a}: correct "
            "the cell, leave the column out of the config, or set data.encoding"
        )
    half = error.object[error.start]
    return f"{place} holds half of a character ({half!a}): write the whole character"


def _joined(items: Sequence[str], column: str, place: str, separator: str) -> str:
    for item in items:
        if separator in item:
            raise FoldwiseError(
                f"{place}: column {column!r} holds a list with {item[:50]!r}, in which the "
                f"separator {separator!r} stands: choose another data.separator"
            )
    return separator.join(items) or separator


def _read_parquet(
    file: str, wanted: Sequence[str], lists: Mapping[str, str], optional: Collection[str]
) -> Cells:
    unread: dict[str, str] = {}
    try:
        source = pl.scan_parquet(file, glob=False, hive_partitioning=False)
        schema = source.collect_schema()
        _check_columns(schema.names(), wanted, file, optional, unread)
        frame = source.select(name for name in wanted if name not in unread).collect()
    except _PARQUET_ERRORS as error:
        raise FoldwiseError(f"{file}: can't be read as Parquet: {error}") from None
    return _plain_cells(frame, file, lists, optional, unread)


def _plain_cells(
    frame: pl.DataFrame,
    file: str,
    lists: Mapping[str, str],
    optional: Collection[str],
    unread: dict[str, str],
) -> Cells:
    for name, dtype in frame.schema.items():
        try:
            if name in lists and isinstance(dtype, pl.List | pl.Array) and _is_flat(dtype):
                frame = frame.with_columns(_joined_lists(frame[name], file, lists[name]))
            elif dtype.is_nested() or dtype in (pl.Binary, pl.Object, pl.Duration):
                raise FoldwiseError(f"{file}: column {name!r} holds {dtype}: convert it to strings")
        except FoldwiseError as error:
            _give_up(name, str(error), optional, unread)
    return Cells(frame.drop(unread, strict=False), unread)


def _joined_lists(column: pl.Series, file: str, separator: str) -> pl.Series:
    name = column.name
    cells = column.cast(pl.List(pl.String)).to_list()
    if any(cell is not None and None in cell for cell in cells):
        raise FoldwiseError(f"{file}: column {name!r} holds a list with null in it")
    joined = [None if cell is None else _joined(cell, name, file, separator) for cell in cells]
    return pl.Series(name, joined, dtype=pl.String)


def _is_flat(dtype: pl.List | pl.Array) -> bool:
    inner = dtype.inner
    return inner in (pl.String, pl.Categorical) or inner.is_integer()


def _check_columns(
    header: Sequence[str],
    wanted: Sequence[str],
    file: str,
    optional: Collection[str],
    unread: dict[str, str],
) -> None:
    if not header:
        raise FoldwiseError(f"{file}: the file is empty: it needs a header and rows")
    if any("\0" in name for name in header):
        raise FoldwiseError(
            f"{file}: line 1 holds NUL bytes: it isn't text, or set data.encoding (utf-16-le?)"
        )
    for name in wanted:
        if header.count(name) > 1:
            message = f"{file}: line 1 names column {name!r} twice: rename one of them"
            _give_up(name, message, optional, unread)
        elif name not in header:
            nearest = difflib.get_close_matches(name, header, n=1, cutoff=0)[0]
            columns = ", ".join(map(repr, header[:40])) + (", ..." if len(header) > 40 else "")
            message = (
                f"{file}: has no column {name!r}; did you mean {nearest!r}? Its columns: {columns}"
            )
            _give_up(name, message, optional, unread)
