"""New rows of a table of any size: files in, the cells of their rows out, chunk by chunk.

Every row keeps its place. Cells mean what they mean in reading.py; a cell that can't be read, or
holds no number where one belongs, is a reason why its row can't be scored, and no error. Columns
may be absent, but not all that say what a row is about. The table is read through once before the
first chunk is handed out: how many rows there are is known then, and what makes a file unreadable
(a line with too many cells, JSON that isn't) is told before hours of work, not after.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import polars as pl

from foldwise.config.rows import Data
from foldwise.errors import FoldwiseError
from foldwise.table.cells import Decimal, parse_numbers, strings
from foldwise.table.delimiters import Form, decimal_of, told
from foldwise.table.faults import Faults, check_columns
from foldwise.table.formats import (
    CHUNK_ROWS,
    find_files,
    form_of,
    read_chunks,
    read_names,
    read_sample,
    sha256_of,
)
from foldwise.table.reading import ROW, asked_form, is_text

ALL = "all"  # --carry all
_SHOWN = 50  # characters of a cell that a reason quotes


@dataclass(frozen=True)
class Chunk:
    """Some rows of a table, one after the other.

    Attributes:
        rows: `row` (Int64) and the columns that a model reads: strings and Float64, null for what
            is empty, absent or can't be read.
        carried: the columns that are taken along, as they are in the table.
        problems: by row, why it can't be scored.
    """

    rows: pl.DataFrame
    carried: pl.DataFrame
    problems: dict[int, str]


@dataclass(frozen=True)
class NewRows:
    """A table of new rows, to be read chunk by chunk, more than once.

    Attributes:
        data: its path, and the columns that a model reads.
        files: its files, or the name of the sample.
        present: by file, those of the columns that it has.
        forms: by text file, how it is written.
        carry: the columns that are taken along.
        sha256: of the bytes of all files in order.
        count: the number of its rows.
        absent: by column, in how many rows its file hasn't it.
    """

    data: Data
    files: tuple[str, ...]
    present: dict[str, tuple[str, ...]]
    forms: dict[str, Form]
    carry: tuple[str, ...] = ()
    sha256: str = ""
    count: int = 0
    absent: dict[str, int] = field(default_factory=dict)

    @property
    def notes(self) -> list[str]:
        """What a person should hear of how the table was read."""
        notes = [note for file, form in self.forms.items() if (note := told(file, form))]
        for name, rows in self.absent.items():
            share = "all rows" if rows == self.count else f"{rows:,} of {self.count:,} rows"
            notes.append(f"{self.data.path}: has no column {name!r}: missing in {share}")
        return notes

    def chunks(self) -> Iterator[Chunk]:
        """Read the table from its beginning; the same table always comes in the same chunks."""
        first_row = 0
        for file in self.files:
            present = self.present[file]
            wanted = list(dict.fromkeys([*present, *self.carry]))
            faults = Faults(rows={})
            decimal = decimal_of(self.forms.get(file))
            for cells in self._cells(file, wanted, first_row, faults):
                if cells.height:
                    yield self._chunk(cells, present, first_row, faults, decimal)
                first_row += cells.height
                faults.rows = {}

    def _cells(
        self, file: str, wanted: Sequence[str], first_row: int, faults: Faults
    ) -> Iterator[pl.DataFrame]:
        form = self.forms.get(file)
        if is_sample(file):
            return read_sample(file, wanted).iter_slices(CHUNK_ROWS)
        return read_chunks(file, wanted, first_row, form=form, faults=faults)

    def _chunk(
        self,
        cells: pl.DataFrame,
        present: Sequence[str],
        first_row: int,
        faults: Faults,
        decimal: Decimal,
    ) -> Chunk:
        last = first_row + cells.height
        numbered = pl.int_range(first_row, last, dtype=pl.Int64, eager=True).alias(ROW)
        columns, reasons = [numbered], dict(faults.rows or {})
        for name in columns_of(self.data):
            numeric = name in self.data.numeric
            if name not in present:
                kind = pl.Float64 if numeric else pl.String
                columns.append(pl.Series(name, [None] * cells.height, dtype=kind))
            elif numeric:
                values, bad = parse_numbers(cells[name], decimal)
                for at in bad.arg_true().to_list():
                    cell = str(cells[name][at])[:_SHOWN]
                    reason = f"column {name!r} holds {cell!r}, which isn't a finite number"
                    reason += " with a decimal comma" * (decimal == ",")
                    reasons.setdefault(first_row + at, reason)
                columns.append(values.set(bad, None))
            else:
                columns.append(strings(cells[name]))
        return Chunk(pl.DataFrame(columns), cells.select(self.carry), reasons)


def open_rows(data: Data, carry: Sequence[str] = ()) -> NewRows:
    """Open a table of new rows, and read it through once.

    Needed is one column of text, where the models read text; else one of the columns that they
    read. What else is absent is missing in every row.

    Args:
        data: its path, how it is written and the columns that a model reads.
        carry: columns to take along; ["all"] for every one.

    Raises:
        FoldwiseError: a file can't be read, the columns that are needed or a carried one aren't
            there, or there are no rows.
    """
    path = str(data.path)
    files = [path] if is_sample(path) else find_files(path)
    forms, present, names_of = {}, {}, {}
    for file in files:
        if not is_sample(file) and (form := form_of(file, asked_form(data), columns_of(data))):
            forms[file] = form
        asked = forms.get(file, asked_form(data))
        names = names_of[file] = read_names(file, asked, rows=None)[0]
        present[file] = tuple(name for name in columns_of(data) if name in names)
        needed = data.text or columns_of(data)
        if not set(needed) & set(names):
            check_columns(names, needed, file, Faults())
        check_columns(names, present[file], file, Faults())
    carried = _carried(carry, files, names_of)
    sha256 = "" if is_sample(path) else sha256_of(files)
    rows = NewRows(data, tuple(files), present, forms, carried, sha256)
    count, absent = 0, dict.fromkeys(columns_of(data), 0)
    for file in files:
        one = replace(rows, files=(file,))
        held = sum(chunk.rows.height for chunk in one.chunks())
        count += held
        for name in set(absent) - set(present[file]):
            absent[name] += held
    if count == 0:
        raise FoldwiseError(f"{path}: the table has a header but no rows")
    return replace(rows, count=count, absent={name: n for name, n in absent.items() if n})


def columns_of(data: Data) -> list[str]:
    """List the columns that a model reads."""
    return [*data.text, *data.categorical, *data.numeric]


def is_sample(path: str) -> bool:
    """Say whether a path names the embedded sample."""
    return path.partition(":")[0] == "synthetic"


def _carried(
    carry: Sequence[str], files: Sequence[str], names_of: dict[str, list[str]]
) -> tuple[str, ...]:
    if list(carry) == [ALL]:
        names = dict.fromkeys(name for file in files for name in names_of[file])
        if odd := [name for name in names if not is_text(name)]:
            raise FoldwiseError(f"--carry all: the name of column {odd[0]!a} isn't text: rename it")
    else:
        names = dict.fromkeys(carry)
    for file in files:
        check_columns(names_of[file], list(names), file, Faults())
    return tuple(names)
