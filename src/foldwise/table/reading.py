"""The table: files in, a frame of the columns that the config names out, missing values, sample.

In: `data` of the config. Out: a polars frame with `row` (0-based position in the table as read),
strings for text, category, target and extra columns, Float64 for numbers, null for empty cells.
reading.py gives the cells as the files have them; what they mean is decided here, in one place for
all formats.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from foldwise.config.rows import Data, PerClass
from foldwise.errors import FoldwiseError
from foldwise.split.splitters import quantile_bins
from foldwise.table.formats import find_files, read_file, read_names, read_sample, sha256_of

Holds = Literal["label", "labels", "number"]  # what a cell of the target column is
ROW = "row"
MISSING = "missing"
SHOWN = 5  # rows or values that a message names before it stops


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


def read_table(
    data: Data,
    extra_columns: Sequence[str] = (),
    *,
    need_target: bool = True,
    holds: Holds = "label",
    beside: Sequence[str] = (),
) -> Table:
    """Read the columns that the config names from one file, a glob of files or the sample.

    Args:
        data: section of the config; a relative path starts at the working directory.
        extra_columns: further columns (group, time, fold), read as strings.
        need_target: False for new rows to predict: the target isn't read, and a column without
            any value is allowed, because one row may well leave a column empty.
        holds: what a cell of the target column is: a label (strings as they stand), a set of
            labels (a list, or text with `data.separator`; sorted text with it comes out, "" for
            none), or a number (Float64).
        beside: columns that no part of a run reads, as strings; they may be empty.

    Raises:
        FoldwiseError: for a file that can't be read cell for cell, a column that isn't there or
            has no value, or a number that isn't one.
    """
    target = [data.target] if need_target and data.target else []
    needed = [*data.text, *data.categorical, *data.numeric, *target, *extra_columns]
    wanted = list(dict.fromkeys([*needed, *beside]))
    if data.path is None or not wanted:
        raise FoldwiseError("data names no file or no column to read: give data.path and data.text")
    if ROW in wanted:
        raise FoldwiseError(
            f"{data.path}: a column called 'row' can't be used, because Foldwise numbers the rows "
            "under that name: rename the column in the file and in the config"
        )
    synthetic = data.path.partition(":")[0] == "synthetic"
    files = [data.path] if synthetic else find_files(data.path)
    separator = data.separator or ";"
    parts: list[pl.DataFrame] = []
    first_row = 0
    for file in files:
        if synthetic:
            cells = read_sample(file, wanted)
        else:
            lists = dict.fromkeys(target, separator) if holds == "labels" else {}
            cells = read_file(file, wanted, first_row, lists)
        numbers = [*data.numeric, *(target if holds == "number" else [])]
        parts.append(_typed(cells, numbers, file, first_row))
        first_row += cells.height
    if first_row == 0:
        raise FoldwiseError(f"{data.path}: the table has a header but no rows")
    # Strings are views into shared buffers: joining the parts copies 16 bytes a cell, not the text.
    frame = pl.concat(parts, rechunk=True)
    empty = [name for name in needed if need_target and frame[name].null_count() == first_row]
    if empty:
        raise FoldwiseError(
            f"{data.path}: column {empty[0]!r} has no value in any of its {first_row} rows: fill "
            "it, or take it out of the config"
        )
    if holds == "labels":
        frame = frame.with_columns(_label_sets(frame[name], separator) for name in target)
    frame = frame.select(pl.int_range(first_row, dtype=pl.Int64).alias(ROW), *wanted)
    sha256 = hashlib.sha256(data.path.encode()).hexdigest() if synthetic else sha256_of(files)
    return Table(frame=frame, sha256=sha256, source_rows=first_row)


def read_all(path: str, separator: str = ";") -> pl.DataFrame:
    """Read every column of a table as strings, null for empty cells; lists joined by a separator.

    For a look at a table whose columns have no roles yet.

    Args:
        path: as in data.path.
        separator: between the items of a list.

    Raises:
        FoldwiseError: the table can't be read, or has no rows.
    """
    files = [path] if path.partition(":")[0] == "synthetic" else find_files(path)
    names, lists = read_names(files[0])
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise FoldwiseError(f"{files[0]}: two columns are called {repeated!r}: rename one")
    parts: list[pl.DataFrame] = []
    for file in files:
        first = sum(part.height for part in parts)
        if path.partition(":")[0] == "synthetic":
            parts.append(_typed(read_sample(file, names), [], file, first))
        else:
            cells = read_file(file, names, first, dict.fromkeys(lists, separator))
            parts.append(_typed(cells, [], file, first))
    frame = pl.concat(parts, rechunk=True)
    if not frame.height:
        raise FoldwiseError(f"{path}: the table has a header but no rows")
    return frame


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
        target: column to stratify by: by its labels, combinations of labels, or tenths of numbers.
        seed: of the draw.
    """
    frame = frame.sort(ROW)
    if sample is None or frame.height == 0:
        return frame
    if target is None:
        if isinstance(sample, PerClass):
            raise FoldwiseError("data.sample: per_class needs data.target; give a number of rows")
        codes = np.zeros(frame.height, dtype=np.int64)
    elif frame[target].dtype.is_float():
        codes = quantile_bins(frame[target].to_numpy())
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


def _label_sets(column: pl.Series, separator: str) -> pl.Series:
    """Write each cell's labels once, sorted, without blanks around them; null stays null."""
    label = pl.element().str.strip_chars()
    labels = column.str.split(separator).list.eval(label.filter(label != "").unique().sort())
    return labels.list.join(separator)


def _numbers(column: pl.Series, file: str, first_row: int) -> pl.Series:
    cells = _strings(column)
    values = column if column.dtype.is_numeric() else cells.str.strip_chars()
    values = values.cast(pl.Float64, strict=False)
    bad = (cells.is_not_null() & ~values.is_finite().fill_null(False)).arg_true()
    if bad.len():
        named = ", ".join(f"row {first_row + at}: {cells[at][:50]!r}" for at in bad[:SHOWN])
        raise FoldwiseError(
            f"{file}: column {column.name!r} holds {bad.len()} cells that aren't finite numbers "
            f"({named}): correct or empty them, or give the column another role"
        )
    return pl.select(pl.when(cells.is_not_null()).then(values).alias(column.name)).to_series()


def _rows(frame: pl.DataFrame) -> str:
    rows = frame[ROW].head(SHOWN).to_list()
    return ", ".join(f"row {row}" for row in rows) + (", ..." if frame.height > SHOWN else "")
