"""The table: files in, a frame of the columns that the config names out, missing values, sample.

In: `data` of the config. Out: a polars frame with `row` (0-based position in the table as read),
strings for text, category, target and extra columns, Float64 for numbers, null for empty cells.
reading.py gives the cells as the files have them; what they mean is decided here, in one place for
all formats.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from foldwise.config.rows import Data, PerClass
from foldwise.errors import FoldwiseError
from foldwise.split.splitters import quantile_bins
from foldwise.table.cells import Decimal, has_decimal_commas, parse_numbers, strings
from foldwise.table.delimiters import Form, decimal_of, told
from foldwise.table.faults import Faults
from foldwise.table.formats import (
    find_files,
    form_of,
    read_file,
    read_names,
    read_sample,
    sha256_of,
)
from foldwise.table.labels import alike_note, label_sets, strip_labels, stripped_note
from foldwise.table.texts import Texts
from foldwise.table.typed_files import cells_of

Holds = Literal["label", "labels", "number"]  # what a cell of the target column is
ROW = "row"
MISSING = "missing"
SHOWN = 5  # rows or values that a message names before it stops
FEW_WORDS = 0.05  # of a column's filled cells; more, and it holds numbers written some other way
MOST_NAMES = 40


@dataclass(frozen=True)
class Table:
    """The table as read.

    Args:
        frame: `row` (Int64) and the wanted columns, in the order of the config.
        sha256: of the bytes of all files in order; of the path itself for `synthetic`.
        source_rows: rows read, before anything is dropped.
        notes: what a person should hear of: how files were read, labels that are alike.
        unread: columns of `beside` that can't be read, and why.
        forms: how each text file is written.
    """

    frame: pl.DataFrame
    sha256: str
    source_rows: int
    notes: tuple[str, ...] = ()
    unread: dict[str, str] = field(default_factory=dict)
    forms: dict[str, Form] = field(default_factory=dict)


def read_table(
    data: Data,
    extra_columns: Sequence[str] = (),
    *,
    need_target: bool = True,
    holds: Holds = "label",
    beside: Sequence[str] = (),
    online: bool = True,
    stores: Path | None = None,
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
        beside: columns that no part of a run reads, as strings; they may be empty, and one that
            can't be read is left out.
        online: a store that `data.path` names may be asked; else what came from it last is read.
        stores: a folder for the text of a big table, which is then mapped from there; None: it is
            held in memory.

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
    files = [data.path] if synthetic else find_files(data.path, online=online)
    separator = data.separator or ";"
    faults = Faults(optional=[name for name in wanted if name not in needed])
    numbers = [*data.numeric, *(target if holds == "number" else [])]
    parts: list[pl.DataFrame] = []
    notes: list[str] = []
    forms: dict[str, Form] = {}
    first_row = 0
    with Texts(data.text, stores) as texts:

        def others(cells: pl.DataFrame) -> pl.DataFrame:
            texts.take(pl.DataFrame([strings(cells[name]) for name in data.text]))
            return cells.drop(data.text)

        for file in files:
            if synthetic:
                cells = others(read_sample(file, wanted, faults))
            else:
                lists = dict.fromkeys(target, separator) if holds == "labels" else {}
                form = form_of(file, asked_form(data), needed)
                cells = read_file(
                    file, wanted, first_row, lists, form=form, faults=faults, take=others
                )
                if form is not None:
                    forms[file] = form
            decimal = decimal_of(forms.get(file))
            if holds == "number" and target and data.missing.target == "drop":
                column, said = _without_words(cells[target[0]], decimal, first_row)
                cells, notes = cells.with_columns(column), notes + said
            parts.append(_typed(cells, numbers, file, first_row, decimal))
            first_row = texts.rows if data.text else first_row + cells.height
        if first_row == 0:
            raise FoldwiseError(f"{data.path}: the table has a header but no rows")
        wanted = [name for name in wanted if name not in faults.unread]
        beside_text = [name for name in wanted if name not in data.text]
        frame = pl.concat([part.select(beside_text) for part in parts], rechunk=True)
        frame = pl.concat([texts.whole(), frame], how="horizontal")
    empty = [name for name in needed if need_target and frame[name].null_count() == first_row]
    if empty:
        raise FoldwiseError(
            f"{data.path}: column {empty[0]!r} has no value in any of its {first_row} rows: fill "
            "it, or take it out of the config"
        )
    notes += [note for file, form in forms.items() if (note := told(file, form))]
    for name in target if holds != "number" else []:
        labels, said = _labels(frame[name], separator if holds == "labels" else None, data.labels)
        frame, notes = frame.with_columns(labels), notes + said
    frame = frame.select(pl.int_range(first_row, dtype=pl.Int64).alias(ROW), *wanted)
    sha256 = hashlib.sha256(data.path.encode()).hexdigest() if synthetic else sha256_of(files)
    return Table(frame, sha256, first_row, tuple(notes), faults.unread, forms)


def take_rows(frame: pl.DataFrame, data: Data) -> pl.DataFrame:
    """Return rows at hand as `read_table` returns a file's: `row`, and the columns to learn from.

    Args:
        frame: the rows; numbered by their column `row`, if they have one.
        data: section of the config.

    Raises:
        FoldwiseError: a column isn't there, or holds something else than its role needs.
    """
    wanted = [*data.text, *data.categorical, *data.numeric]
    row = frame[ROW] if ROW in frame.columns else pl.int_range(frame.height, dtype=pl.Int64)
    cells = _typed(cells_of(frame, wanted, "rows"), data.numeric, "rows", 0)
    return cells.select(row.alias(ROW), *wanted)


def asked_form(data: Data) -> Form:
    """Return how the config says that text files are written."""
    return Form(data.encoding, "\t" if data.delimiter == "tab" else data.delimiter, data.decimal)


def read_all(data: Data) -> tuple[Table, list[str]]:
    """Read every column of a table, for a look at one whose columns have no roles yet.

    Args:
        data: its path and target, and how it is written; a target of lists is joined by
            `data.separator`.

    Returns:
        The table, every column as strings, and the columns that hold lists. A column that can't be
        read is left out, except the target.

    Raises:
        FoldwiseError: the table or its target can't be read, or it has no rows.
    """
    path, target = str(data.path), str(data.target)
    file = path if path.partition(":")[0] == "synthetic" else find_files(path)[0]
    names, lists = read_names(file, asked_form(data), [target])
    if target not in names:
        near = difflib.get_close_matches(target, names, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        shown = ", ".join(map(repr, names[:MOST_NAMES]))
        more = ", ..." if len(names) > MOST_NAMES else ""
        raise FoldwiseError(
            f"--target {target}: {path} has no such column{hint} It has: {shown}{more}"
        )
    left_out = {name: "two columns have this name" for name in names if names.count(name) > 1}
    left_out |= {name: "its name isn't text" for name in names if not is_text(name)}
    left_out |= {name: "it holds lists" for name in lists}
    if ROW in names:
        left_out[ROW] = "Foldwise numbers the rows under that name"
    others = [name for name in names if name != target and name not in left_out]
    holds: Holds = "labels" if target in lists else "label"
    table = read_table(data, holds=holds, beside=others)
    unread = {name: why for name, why in left_out.items() if name != target} | table.unread
    return replace(table, frame=table.frame.drop(ROW), unread=unread), lists


def is_text(name: str) -> bool:
    """Say whether a column's name can be written down: JSON allows half a character in one."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


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
                "in or take those rows out; a config drops them by data.missing.target: drop"
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


def _typed(
    cells: pl.DataFrame,
    numeric: Sequence[str],
    file: str,
    first_row: int,
    decimal: Decimal = ".",
) -> pl.DataFrame:
    """Blank cells to null, numeric columns to Float64, everything else to strings."""
    return cells.with_columns(
        _numbers(column, file, first_row, decimal) if column.name in numeric else strings(column)
        for column in cells
    )


def _labels(
    column: pl.Series, separator: str | None, how: Literal["strip", "exact"]
) -> tuple[pl.Series, list[str]]:
    """Return labels as data.labels wants them, and what there is to say of them."""
    if separator is not None:
        labels = label_sets(column, separator, strip=how == "strip")
        return labels, alike_note(labels, separator)
    labels = strip_labels(column) if how == "strip" else column
    return labels, [*stripped_note(column, labels), *alike_note(labels, None)]


def _numbers(column: pl.Series, file: str, first_row: int, decimal: Decimal) -> pl.Series:
    values, bad = parse_numbers(column, decimal)
    if bad.any():
        named = _named(column, bad, first_row)
        if decimal == "." and has_decimal_commas(column):
            raise FoldwiseError(
                f"{file}: column {column.name!r} holds numbers with a decimal comma ({named}): "
                'in a CSV say so by data.decimal: ","; elsewhere write them with a point'
            )
        raise FoldwiseError(
            f"{file}: column {column.name!r} holds {bad.sum()} cells that aren't finite numbers "
            f"({named}): correct or empty them, or give the column another role"
        )
    return values


def _without_words(
    column: pl.Series, decimal: Decimal, first_row: int
) -> tuple[pl.Series, list[str]]:
    """Empty the few cells of a target of numbers that hold none, such as `Unrated`, and say so."""
    _, bad = parse_numbers(column, decimal)
    if not bad.any() or bad.sum() > FEW_WORDS * strings(column).count():
        return column, []
    said = (
        f"column {column.name!r}: {bad.sum()} cells aren't numbers "
        f"({_named(column, bad, first_row)}); their rows have no target"
    )
    return column.set(bad, None), [said]


def _named(column: pl.Series, marked: pl.Series, first_row: int) -> str:
    rows = marked.arg_true()[:SHOWN]
    return ", ".join(f"row {first_row + at}: {str(column[at])[:50]!r}" for at in rows)


def _rows(frame: pl.DataFrame) -> str:
    rows = frame[ROW].head(SHOWN).to_list()
    return ", ".join(f"row {row}" for row in rows) + (", ..." if frame.height > SHOWN else "")
