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
import glob
import hashlib
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice

import polars as pl

from foldwise.errors import FoldwiseError
from foldwise.storage.tables import fetched, named
from foldwise.storage.urls import check_url, is_url, local_path
from foldwise.table.delimiters import Form, find_form
from foldwise.table.encodings import open_text
from foldwise.table.faults import Faults, check_columns
from foldwise.table.records import Repeating, read_records
from foldwise.table.typed_files import PARQUET_ERRORS, joined, parquet_chunks

CHUNK_ROWS = 1024  # Python rows alive at once: long texts stay small, short rows still go fast
CHUNK_CHARS = 1 << 24  # and characters of them, about: a cell may be a whole document
WHOLE_BYTES = 1 << 26  # of a Parquet file at once, where all of it is read
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


def find_files(path: str, *, online: bool = True) -> list[str]:
    """List the files that a path or glob names, in order; refuse what can't be a table.

    Args:
        path: of local files, or a URL, whose files are fetched.
        online: a store may be asked; else what was fetched from it last is listed.
    """
    if is_url(path):
        stored = named(path, online=online)
        if not stored:
            raise FoldwiseError(f"no file matches {path!r}: check bucket and name")
        for file in stored:
            _check_format(file)
        return fetched(path, stored, online=online)
    check_url(path, "the table")
    path = local_path(path)
    files = [path] if os.path.exists(path) else sorted(glob.glob(path, recursive=True))
    if not files:
        raise FoldwiseError(
            f"no file matches {path!r} (looked from {os.getcwd()}): paths are relative "
            "to the working directory"
        )
    for file in files:
        _check_format(file)
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
    file: str, asked: Form = _AUTO, wanted: Collection[str] = (), rows: int | None = 1000
) -> tuple[list[str], list[str]]:
    """List a file's columns, and those of them that hold lists.

    Args:
        file: the file, or the sample's name.
        asked: data.encoding and data.delimiter.
        wanted: columns that its header must have, by which the delimiter is known.
        rows: that say which columns there are where there is no header (JSON); None for all.

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
        except PARQUET_ERRORS as error:
            raise FoldwiseError(f"{file}: can't be read as Parquet: {error}") from None
        names = list(schema)
        lists = dict.fromkeys(k for k, v in schema.items() if isinstance(v, pl.List | pl.Array))
    elif _format(file) == "json":
        seen: dict[str, None] = {}
        for _, record in islice(read_records(file, form, 0), rows):
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
    faults: Faults | None = None,
    take: Callable[[pl.DataFrame], pl.DataFrame] = lambda cells: cells,
) -> pl.DataFrame:
    """Read the wanted columns of a file, whole: all its chunks.

    Args:
        file: as for `read_chunks`, like the others.
        wanted: the same.
        first_row: the same.
        lists: the same.
        form: the same.
        faults: the same.
        take: gets each chunk, and returns what of it is kept.
    """
    faults = faults or Faults()
    chunks = read_chunks(file, wanted, first_row, lists, form=form, faults=faults, whole=True)
    parts = [take(chunk) for chunk in chunks]
    left = [name for name in parts[0].columns if name not in faults.unread]
    return pl.concat([part.select(left) for part in parts])


def read_chunks(
    file: str,
    wanted: Sequence[str],
    first_row: int,
    lists: Mapping[str, str] | None = None,
    *,
    form: Form | None = None,
    faults: Faults | None = None,
    whole: bool = False,
) -> Iterator[pl.DataFrame]:
    """Read the wanted columns of a file chunk by chunk, in the memory of one.

    A chunk has CHUNK_ROWS rows or CHUNK_CHARS characters, whichever comes first, wherever reading
    began: the same file always comes in the same chunks.

    Args:
        file: the file.
        wanted: the columns' names.
        first_row: number of its first row.
        lists: columns that may hold lists, and the separator that joins a list's items; an empty
            list becomes the separator alone.
        form: how it is written; None to find out.
        faults: what becomes of what can't be read.
        whole: all chunks are read, so those of a Parquet file are better larger.

    Yields:
        One frame at least, which may have no rows. A column that turns out to be unreadable in a
        chunk may be in those before.

    Raises:
        FoldwiseError: names the file and its row, with the line where there are lines.
    """
    lists, faults = lists or {}, faults or Faults()
    required = [name for name in wanted if name not in faults.optional]
    form = form or form_of(file, _AUTO, required)
    if form is None:
        rows, size_bytes = (2**31, WHOLE_BYTES) if whole else (CHUNK_ROWS, CHUNK_CHARS)
        yield from parquet_chunks(file, wanted, lists, faults, rows=rows, size_bytes=size_bytes)
        return
    yield pl.DataFrame(schema=dict.fromkeys(wanted, pl.String))
    if _format(file) == "json":
        reading = _json_rows(file, wanted, first_row, lists, form, faults)
    else:
        reading = _csv_rows(file, wanted, first_row, form, faults)
    row = first_row
    for chunk in _chunked(reading):
        columns = [
            _column(name, cells, f"{file}: row {{}}, column {name!r}", row, form, faults)
            for name, cells in zip(wanted, zip(*chunk, strict=True), strict=True)
        ]
        yield pl.DataFrame(columns)
        row += len(chunk)


def read_sample(path: str, wanted: Sequence[str], faults: Faults | None = None) -> pl.DataFrame:
    """Generate the wanted columns of the embedded sample that `synthetic[:rows]` names."""
    from foldwise.synthetic.complaints import complaints

    _, colon, rows = path.partition(":")
    if colon and not (rows.isascii() and rows.isdigit() and int(rows) > 0):
        raise FoldwiseError(f"data.path: {path!r} isn't synthetic:ROWS with a whole number of rows")
    frame = complaints(rows=int(rows)) if colon else complaints()
    faults = faults or Faults()
    check_columns(frame.columns, wanted, path, faults)
    return frame.select(name for name in wanted if name not in faults.unread)


def sha256_of(files: Sequence[str]) -> str:
    """Hash the bytes of all files, one after the other."""
    digest = hashlib.sha256()
    for file in files:
        with open(file, "rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _check_format(file: str) -> None:
    if _format(file) is None or os.path.isdir(file):
        raise FoldwiseError(f"{file}: can't be read as a table; allowed: {FORMATS}")


def _format(file: str) -> str | None:
    name = file.lower()
    stem = name.removesuffix(".gz")
    kind = SUFFIXES.get(os.path.splitext(stem)[1])
    return None if kind == "parquet" and stem != name else kind


def _chunked(reading: Iterable[Sequence[Cell]]) -> Iterator[list[Sequence[Cell]]]:
    chunk: list[Sequence[Cell]] = []
    held = 0
    for cells in reading:
        chunk.append(cells)
        held += sum(map(len, filter(None, cells)))
        if len(chunk) == CHUNK_ROWS or held >= CHUNK_CHARS:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk


def _column(
    name: str, cells: Sequence[Cell], place: str, first_row: int, form: Form, faults: Faults
) -> pl.Series:
    try:
        return pl.Series(name, cells, dtype=pl.String)
    except UnicodeEncodeError:
        sound = [
            _sound(name, cell, place.format(row), row, form, faults)
            for row, cell in enumerate(cells, first_row)
        ]
        return pl.Series(name, sound, dtype=pl.String)


def _sound(name: str, cell: Cell, place: str, row: int, form: Form, faults: Faults) -> Cell:
    try:
        (cell or "").encode()
    except UnicodeEncodeError as error:
        faults.cell(name, row, _no_character(place, error, form))
        return None
    return cell


def _csv_rows(
    file: str,
    wanted: Sequence[str],
    first_row: int,
    form: Form,
    faults: Faults,
) -> Iterator[Sequence[Cell]]:
    csv.field_size_limit(2**31 - 1)  # a cell may be a whole document; the default is 128 KiB
    # "": csv sees \r, \n and \r\n as they stand
    with open_text(file, "", form.encoding) as stream:
        reader = csv.reader(stream, delimiter=form.delimiter)
        header = next((cells for cells in reader if cells), [])
        check_columns(header, wanted, file, faults)
        width = len(header)
        # A column that isn't read after all is None behind the row's last cell.
        places = [width if name in faults.unread else header.index(name) for name in wanted]
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
    faults: Faults,
) -> Iterator[Sequence[Cell]]:
    seen: dict[str, None] = {}
    for row, (place, record) in enumerate(read_records(file, form, first_row), first_row):
        seen.update(dict.fromkeys(record))
        cells: list[Cell] = []
        for name in wanted:
            try:
                if isinstance(record, Repeating) and name in record.repeated:
                    raise FoldwiseError(f"{place}: names column {name!r} twice: rename one of them")
                cells.append(_json_cell(record.get(name), name, place, lists.get(name)))
            except FoldwiseError as error:
                faults.cell(name, row, str(error))
                cells.append(None)
        yield cells
    check_columns(list(seen), wanted, file, faults)


def _json_cell(value: object, column: str, place: str, separator: str | None = None) -> Cell:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list) and separator is not None:
        items = [_json_cell(item, column, place) for item in value]
        if None in items:
            raise FoldwiseError(f"{place}: column {column!r} holds a list with null in it")
        return joined([str(item) for item in items], column, place, separator)
    if isinstance(value, bool):
        return "true" if value else "false"
    raise FoldwiseError(
        f"{place}: column {column!r} holds a nested value: write a string, a number or null"
    )


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
