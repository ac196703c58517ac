"""Read the wanted columns of one file, cell for cell, or say where that fails.

In: a path and the columns' names. Out: a polars frame of those columns: strings as they stand in
CSV, TSV and JSONL, the file's own types in Parquet. Blank cells and numbers are table.py's matter.

Text is read as strings, because a reader that guesses types turns `01234` into 1234. CSV goes
through Python's `csv` module, chunk by chunk: polars' own reader differs from it on stray quotes,
lone carriage returns and short rows, and a row silently lost is worse than a slower read.
"""

from __future__ import annotations

import codecs
import csv
import difflib
import glob
import gzip
import hashlib
import io
import json
import os
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from operator import itemgetter

import polars as pl

from foldwise.errors import FoldwiseError

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
    return files


def read_names(file: str) -> tuple[list[str], list[str]]:
    """List a file's columns, and those of them that hold lists; of JSON the first 1,000 rows say.

    Raises:
        FoldwiseError: the file can't be read, or has no columns.
    """
    if file.partition(":")[0] == "synthetic":
        from foldwise.synthetic.complaints import COLUMNS

        return list(COLUMNS), []
    kind = _format(file)
    lists: dict[str, None] = {}
    if kind == "parquet":
        try:
            schema = pl.read_parquet_schema(file)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise FoldwiseError(f"{file}: can't be read as Parquet: {error}") from None
        names = list(schema)
        lists = dict.fromkeys(k for k, v in schema.items() if isinstance(v, pl.List | pl.Array))
    elif kind == "json":
        seen: dict[str, None] = {}
        with _opened(file, newline="\n") as stream:
            for line, text in enumerate(islice(stream, 1000), start=1):
                if not text.strip():
                    continue
                try:
                    record = json.loads(text)
                except (json.JSONDecodeError, RecursionError) as error:
                    message = f"{file}: line {line} isn't JSON, one object a line: {error}"
                    raise FoldwiseError(message) from None
                if isinstance(record, dict):
                    seen.update(dict.fromkeys(record))
                    held = (k for k, v in record.items() if isinstance(v, list))
                    lists.update(dict.fromkeys(held))
        names = list(seen)
    else:
        with _opened(file, newline="") as stream:
            reader = csv.reader(stream, delimiter="\t" if kind == "tsv" else ",")
            names = next((cells for cells in reader if cells), [])
    if not names:
        raise FoldwiseError(f"{file}: has no columns")
    return names, list(lists)


def read_file(
    file: str, wanted: Sequence[str], first_row: int, lists: Mapping[str, str] | None = None
) -> pl.DataFrame:
    """Read the wanted columns of a file whose first row has the number `first_row`.

    Args:
        file: the file.
        wanted: the columns' names.
        first_row: number of its first row.
        lists: columns that may hold lists, and the separator that joins a list's items; an empty
            list becomes the separator alone.

    Raises:
        FoldwiseError: names the file and its row, with the line where there are lines.
    """
    kind = _format(file)
    if kind == "parquet":
        return _read_parquet(file, wanted, lists or {})
    parts = [pl.DataFrame(schema=dict.fromkeys(wanted, pl.String))]
    if kind == "json":
        reading = _json_rows(file, wanted, first_row, lists or {})
    else:
        reading = _csv_rows(file, wanted, first_row)
    while chunk := list(islice(reading, CHUNK_ROWS)):
        columns = dict(zip(wanted, zip(*chunk, strict=True), strict=True))
        try:
            parts.append(pl.DataFrame(columns, schema=dict.fromkeys(wanted, pl.String)))
        except UnicodeEncodeError as error:
            row = next(i for i, cells in enumerate(chunk) if error.object in cells)
            raise FoldwiseError(
                f"{file}: row {first_row + (len(parts) - 1) * CHUNK_ROWS + row} holds half of a "
                f"character ({error.object[error.start]!a}): write the whole character"
            ) from None
    return pl.concat(parts)


def read_sample(path: str, wanted: Sequence[str]) -> pl.DataFrame:
    """Generate the wanted columns of the embedded sample that `synthetic[:rows]` names."""
    from foldwise.synthetic.complaints import complaints

    _, colon, rows = path.partition(":")
    if colon and not (rows.isascii() and rows.isdigit() and int(rows) > 0):
        raise FoldwiseError(f"data.path: {path!r} isn't synthetic:ROWS with a whole number of rows")
    frame = complaints(rows=int(rows)) if colon else complaints()
    _check_columns(frame.columns, wanted, path)
    return frame.select(wanted)


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


def _csv_rows(file: str, wanted: Sequence[str], first_row: int) -> Iterator[Sequence[Cell]]:
    csv.field_size_limit(2**31 - 1)  # a cell may be a whole document; the default is 128 KiB
    delimiter = "\t" if _format(file) == "tsv" else ","
    with _opened(file, newline="") as stream:  # "": csv sees \r, \n and \r\n as they stand
        reader = csv.reader(stream, delimiter=delimiter)
        header = next((cells for cells in reader if cells), [])
        _check_columns(header, wanted, file)
        width = len(header)
        places = [header.index(name) for name in wanted]
        pick = itemgetter(*places) if len(places) > 1 else lambda cells: (cells[places[0]],)
        row, line = first_row, reader.line_num  # the line on which the row before ended
        for cells in reader:
            if len(cells) == width:
                yield pick(cells)
                row += 1
            elif cells:  # csv gives [] for a blank line
                raise FoldwiseError(
                    f"{file}: line {line + 1} (row {row}) has {len(cells)} cells, "
                    f"the header has {width}: put double quotes around cells that hold "
                    f"{delimiter!r}, quotes or line breaks, and double the quotes inside"
                )
            line = reader.line_num


def _json_rows(
    file: str, wanted: Sequence[str], first_row: int, lists: Mapping[str, str]
) -> Iterator[Sequence[Cell]]:
    # Numbers keep their digits as written; pandas and Python write a missing number as NaN.
    decoder = json.JSONDecoder(
        parse_int=str, parse_float=str, parse_constant=lambda name: None if name == "NaN" else name
    )
    seen: dict[str, None] = {}
    row = first_row
    with _opened(file, newline="\n") as stream:
        for line, text in enumerate(stream, start=1):
            if not text.strip():
                continue
            place = f"{file}: line {line} (row {row})"
            try:
                record = decoder.decode(text)
            except (json.JSONDecodeError, RecursionError) as error:
                raise FoldwiseError(f"{place} isn't JSON, one object a line: {error}") from None
            if not isinstance(record, dict):
                raise FoldwiseError(f"{place} isn't a JSON object: write one {{...}} a line")
            seen.update(dict.fromkeys(record))
            yield [_json_cell(record.get(name), name, place, lists.get(name)) for name in wanted]
            row += 1
    _check_columns(list(seen), wanted, file)


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


def _joined(items: Sequence[str], column: str, place: str, separator: str) -> str:
    for item in items:
        if separator in item:
            raise FoldwiseError(
                f"{place}: column {column!r} holds a list with {item[:50]!r}, in which the "
                f"separator {separator!r} stands: choose another data.separator"
            )
    return separator.join(items) or separator


def _read_parquet(file: str, wanted: Sequence[str], lists: Mapping[str, str]) -> pl.DataFrame:
    try:
        source = pl.scan_parquet(file, glob=False, hive_partitioning=False)
        schema = source.collect_schema()
        _check_columns(schema.names(), wanted, file)
        frame = source.select(wanted).collect()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise FoldwiseError(f"{file}: can't be read as Parquet: {error}") from None
    for name, dtype in frame.schema.items():
        if name in lists and isinstance(dtype, pl.List | pl.Array) and _is_flat(dtype):
            cells = frame[name].cast(pl.List(pl.String)).to_list()
            if any(cell is not None and None in cell for cell in cells):
                raise FoldwiseError(f"{file}: column {name!r} holds a list with null in it")
            joined = [
                None if cell is None else _joined(cell, name, file, lists[name]) for cell in cells
            ]
            frame = frame.with_columns(pl.Series(name, joined, dtype=pl.String))
        elif dtype.is_nested() or dtype in (pl.Binary, pl.Object, pl.Duration):
            raise FoldwiseError(f"{file}: column {name!r} holds {dtype}: convert it to strings")
    return frame


def _is_flat(dtype: pl.List | pl.Array) -> bool:
    inner = dtype.inner
    return inner in (pl.String, pl.Categorical) or inner.is_integer()


def _check_columns(header: Sequence[str], wanted: Sequence[str], file: str) -> None:
    if not header:
        raise FoldwiseError(f"{file}: the file is empty: it needs a header and rows")
    if any("\0" in name for name in header):
        raise FoldwiseError(f"{file}: line 1 holds NUL bytes, likely UTF-16: save it as UTF-8")
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        raise FoldwiseError(f"{file}: line 1 names column {twice[0]!r} twice: rename one of them")
    for name in wanted:
        if name not in header:
            nearest = difflib.get_close_matches(name, header, n=1, cutoff=0)[0]
            columns = ", ".join(map(repr, header[:40])) + (", ..." if len(header) > 40 else "")
            raise FoldwiseError(
                f"{file}: has no column {name!r}; did you mean {nearest!r}? Its columns: {columns}"
            )


@contextmanager
def _opened(file: str, newline: str) -> Iterator[io.TextIOWrapper]:
    """Open as UTF-8 text without its BOM; what goes wrong while reading names the file."""
    try:
        with _open_bytes(file) as raw:
            if raw.read(3) != codecs.BOM_UTF8:
                raw.seek(0)
            with io.TextIOWrapper(raw, encoding="utf-8", newline=newline) as stream:
                yield stream
    except UnicodeDecodeError:
        raise FoldwiseError(_not_utf8(file)) from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise FoldwiseError(
            f"{file}: damaged or cut-off gzip file ({error}): copy it again"
        ) from None
    except OSError as error:
        raise FoldwiseError(f"{file}: can't be read: {error.strerror}") from None


def _open_bytes(file: str) -> gzip.GzipFile | io.BufferedReader:
    return gzip.open(file, "rb") if file.lower().endswith(".gz") else open(file, "rb")


def _not_utf8(file: str) -> str:
    """Find the first byte that isn't UTF-8, by a second pass that only a bad file pays for."""
    looks = {
        b"\xff\xfe": "UTF-16",
        b"\xfe\xff": "UTF-16",
        b"\x1f\x8b": "gzip",
        b"PK": "Excel or zip",
    }
    offset, line = 0, 1
    with _open_bytes(file) as stream:
        head = stream.read(2)
        stream.seek(0)
        for text in stream:
            try:
                text.decode()
            except UnicodeDecodeError as error:
                offset += error.start
                line += len(text[: error.start + 1].splitlines()) - 1
                break
            offset += len(text)
            line += len(text.splitlines())
    return (
        f"{file}: line {line}, byte {offset} isn't UTF-8 (it looks like "
        f"{looks.get(head, 'Latin-1 or Windows-1252')}): save the file as UTF-8"
    )
