"""The table: files in, a frame of the columns that the config names out, missing values, sample.

In: `data` of the config. Out: a polars frame with `row` (0-based position in the table as read),
strings for text, category, target and extra columns, Float64 for numbers, null for empty cells.

Everything is read as strings, because a reader that guesses types turns `01234` into 1234. CSV goes
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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter

import numpy as np
import polars as pl

from foldwise.config.schema import Data, PerClass
from foldwise.errors import FoldwiseError

ROW = "row"
MISSING = "missing"
CHUNK_ROWS = 1024  # Python rows alive at once: long texts stay small, short rows still go fast
SHOWN = 5  # rows or values that a message names before it stops
SUFFIXES = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".jsonl": "json",
    ".ndjson": "json",
}
FORMATS = ".csv, .tsv, .jsonl, .ndjson (each also .gz), .parquet, or synthetic[:rows]"

Cell = str | None


@dataclass(frozen=True)
class Table:
    """The table as read.

    Args:
        frame: `row` (Int64) and the wanted columns, in the order of the config.
        sha256: of the bytes of all files in order; of the path itself for `synthetic`.
        source_rows: rows read, before anything is dropped.
    """

    frame: pl.DataFrame
    sha256: str
    source_rows: int


def read_table(data: Data, extra_columns: Sequence[str] = (), *, need_target: bool = True) -> Table:
    """Read the columns that the config names from one file, a glob of files or the sample.

    Args:
        data: section of the config; a relative path starts at the working directory.
        extra_columns: further columns (group, time, fold), read as strings.
        need_target: False for new rows to predict: the target isn't read, and a column without
            any value is allowed, because one row may well leave a column empty.

    Raises:
        FoldwiseError: for a file that can't be read cell for cell, a column that isn't there or
            has no value, or a number that isn't one.
    """
    target = [data.target] if need_target and data.target else []
    wanted = list(
        dict.fromkeys([*data.text, *data.categorical, *data.numeric, *target, *extra_columns])
    )
    if data.path is None or not wanted:
        raise FoldwiseError("data names no file or no column to read: give data.path and data.text")
    if ROW in wanted:
        raise FoldwiseError(
            f"{data.path}: a column called 'row' can't be used, because Foldwise numbers the rows "
            "under that name: rename the column in the file and in the config"
        )
    synthetic = data.path.partition(":")[0] == "synthetic"
    files = [data.path] if synthetic else _files(data.path)
    parts: list[pl.DataFrame] = []
    first_row = 0
    for file in files:
        cells = _synthetic(file, wanted) if synthetic else _read(file, wanted, first_row)
        parts.append(_typed(cells, data.numeric, file, first_row))
        first_row += cells.height
    if first_row == 0:
        raise FoldwiseError(f"{data.path}: the table has a header but no rows")
    # Strings are views into shared buffers: joining the parts copies 16 bytes a cell, not the text.
    frame = pl.concat(parts, rechunk=True)
    empty = [name for name in wanted if need_target and frame[name].null_count() == first_row]
    if empty:
        raise FoldwiseError(
            f"{data.path}: column {empty[0]!r} has no value in any of its {first_row} rows: fill "
            "it, or take it out of the config"
        )
    frame = frame.select(pl.int_range(first_row, dtype=pl.Int64).alias(ROW), *wanted)
    sha256 = hashlib.sha256(data.path.encode()).hexdigest() if synthetic else _sha256(files)
    return Table(frame=frame, sha256=sha256, source_rows=first_row)


def apply_missing(
    table_frame: pl.DataFrame, data: Data, *, need_target: bool = True
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Drop or fill empty cells as `data.missing` says.

    Empty categories become the category `missing`. Empty texts stay null (the template writes a
    word for them), and so do empty numbers, whose mean is only known once training rows are.

    Returns:
        The frame, and counts above zero: `dropped:ROLE` rows, each under the first role that
        applies (target, text, categorical, numeric), and `filled:COLUMN` cells.

    Raises:
        FoldwiseError: a target is missing and the policy is `error`, or no row is left.
    """
    policy = data.missing
    target = [data.target] if need_target and data.target else []
    dropping = {
        "target": target,
        "text": data.text if policy.text == "drop" else [],
        "categorical": data.categorical if policy.categorical == "drop" else [],
        "numeric": data.numeric if policy.numeric == "drop" else [],
    }
    frame, counts = table_frame, dict[str, int]()
    for role, columns in dropping.items():
        if not columns:
            continue
        combine = pl.all_horizontal if role == "text" else pl.any_horizontal
        bad = frame.select(combine(pl.col(columns).is_null())).to_series()
        if role == "target" and policy.target == "error" and bad.any():
            raise FoldwiseError(
                f"{bad.sum()} rows have no {data.target!r}: {_rows(frame.filter(bad))}; fill them "
                "in, or set data.missing.target: drop"
            )
        frame = frame.filter(~bad)
        counts[f"dropped:{role}"] = int(bad.sum())
    if frame.height == 0:
        raise FoldwiseError(
            f"no row is left of {table_frame.height}: data.missing dropped all of them "
            f"({', '.join(f'{name} {count}' for name, count in counts.items() if count)})"
        )
    counts |= {f"filled:{name}": frame[name].null_count() for name in data.categorical}
    frame = frame.with_columns(pl.col(data.categorical).fill_null(MISSING))
    return frame, {name: count for name, count in counts.items() if count}


def draw_sample(
    frame: pl.DataFrame, sample: int | float | PerClass | None, target: str | None, seed: int
) -> pl.DataFrame:
    """Draw rows without replacement, in ascending `row` order.

    With a target, classes keep their shares by largest remainder, so that the total is exact, and
    each keeps at least one row where the number permits. The draw follows from `seed` and from
    the rows' numbers and labels alone, not from the order they arrive in.

    Args:
        frame: rows with the column `row`.
        sample: rows in all, a fraction in (0, 1), at most so many a class, or None for all rows.
        target: column to stratify by.
        seed: of the draw.
    """
    frame = frame.sort(ROW)
    if sample is None or frame.height == 0:
        return frame
    if target is None:
        if isinstance(sample, PerClass):
            raise FoldwiseError("data.sample: per_class needs data.target; give a number of rows")
        codes = np.zeros(frame.height, dtype=np.int64)
    else:
        labels = frame[target].cast(pl.String).fill_null("")
        codes = labels.rank("dense").to_numpy().astype(np.int64) - 1
    counts = np.bincount(codes).astype(np.int64)
    if isinstance(sample, PerClass):
        taken = np.minimum(counts, sample.per_class)
    else:
        size = sample if isinstance(sample, int) else max(1, round(sample * frame.height))
        taken = _largest_remainder(counts, min(size, frame.height))
    order = np.random.default_rng(seed).permutation(frame.height)
    by_class = order[np.argsort(codes[order], kind="stable")]
    rank = np.arange(frame.height) - np.repeat(np.cumsum(counts) - counts, counts)
    return frame[np.sort(by_class[rank < taken[codes[by_class]]])]


def _largest_remainder(counts: np.ndarray, size: int) -> np.ndarray:
    """Share `size` rows over classes: (classes,) -> (classes,), in exact integers."""
    one = np.zeros(len(counts), dtype=bool)  # classes whose share is below 1 row, which they get
    while size >= len(counts):
        left, total = size - one.sum(), counts[~one].sum()
        small = ~one & (left * counts < total)
        if not small.any():
            break
        one |= small
    left, total = size - one.sum(), counts[~one].sum()
    share: np.ndarray
    share, remainder = np.divmod(left * counts, total)
    share[one], remainder[one] = 1, -1
    most = np.argsort(-remainder, kind="stable")[: size - share.sum()]
    share[most] += 1
    return share


def _files(path: str) -> list[str]:
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


def _format(file: str) -> str | None:
    name = file.lower()
    stem = name.removesuffix(".gz")
    kind = SUFFIXES.get(os.path.splitext(stem)[1])
    return None if kind == "parquet" and stem != name else kind


def _sha256(files: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with open(file, "rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _synthetic(path: str, wanted: Sequence[str]) -> pl.DataFrame:
    from foldwise.usecases.synthetic import complaints

    _, colon, rows = path.partition(":")
    if colon and not (rows.isascii() and rows.isdigit() and int(rows) > 0):
        raise FoldwiseError(f"data.path: {path!r} isn't synthetic:ROWS with a whole number of rows")
    frame = complaints(rows=int(rows)) if colon else complaints()
    _check_columns(frame.columns, wanted, path)
    return frame.select(wanted)


def _read(file: str, wanted: Sequence[str], first_row: int) -> pl.DataFrame:
    kind = _format(file)
    if kind == "parquet":
        return _read_parquet(file, wanted)
    rows = _json_rows if kind == "json" else _csv_rows
    parts = [pl.DataFrame(schema=dict.fromkeys(wanted, pl.String))]
    reading = rows(file, wanted, first_row)
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


def _json_rows(file: str, wanted: Sequence[str], first_row: int) -> Iterator[Sequence[Cell]]:
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
            yield [_json_cell(record.get(name), name, place) for name in wanted]
            row += 1
    _check_columns(list(seen), wanted, file)


def _json_cell(value: object, column: str, place: str) -> Cell:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    raise FoldwiseError(
        f"{place}: column {column!r} holds a nested value: write a string, a number or null"
    )


def _read_parquet(file: str, wanted: Sequence[str]) -> pl.DataFrame:
    try:
        source = pl.scan_parquet(file, glob=False, hive_partitioning=False)
        schema = source.collect_schema()
        _check_columns(schema.names(), wanted, file)
        frame = source.select(wanted).collect()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise FoldwiseError(f"{file}: can't be read as Parquet: {error}") from None
    for name, dtype in frame.schema.items():
        if dtype.is_nested() or dtype in (pl.Binary, pl.Object, pl.Duration):
            raise FoldwiseError(f"{file}: column {name!r} holds {dtype}: convert it to strings")
    return frame


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


def _typed(cells: pl.DataFrame, numeric: Sequence[str], file: str, first_row: int) -> pl.DataFrame:
    """Blank cells to null, numeric columns to Float64, everything else to strings."""
    return cells.with_columns(
        _numbers(column, file, first_row) if column.name in numeric else _strings(column)
        for column in cells
    )


def _strings(column: pl.Series) -> pl.Series:
    if column.dtype.is_float():
        column = column.fill_nan(None)  # pandas writes a missing value as NaN
    column = column.cast(pl.String)
    return column.set(~column.str.contains(r"\S"), None)


def _numbers(column: pl.Series, file: str, first_row: int) -> pl.Series:
    cells = _strings(column)
    values = column if column.dtype.is_numeric() else cells.str.strip_chars()
    values = values.cast(pl.Float64, strict=False)
    bad = (cells.is_not_null() & ~values.is_finite().fill_null(False)).arg_true()
    if bad.len():
        named = ", ".join(f"row {first_row + at}: {cells[at][:50]!r}" for at in bad[:SHOWN])
        raise FoldwiseError(
            f"{file}: column {column.name!r} holds {bad.len()} cells that aren't finite numbers "
            f"({named}): correct or empty them, or make the column categorical"
        )
    return pl.select(pl.when(cells.is_not_null()).then(values).alias(column.name)).to_series()


def _rows(frame: pl.DataFrame) -> str:
    rows = frame[ROW].head(SHOWN).to_list()
    return ", ".join(f"row {row}" for row in rows) + (", ..." if frame.height > SHOWN else "")
