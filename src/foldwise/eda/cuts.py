"""Signs that an export cut something off: rows and files in, what was cut and where out.

A text column whose longest values all have one and the same length was cut at that length. A table
whose last rows lack what all others have, or whose file ends in the middle of a row, was cut at its
end. A row with too few cells is refused by the reader before this is reached, with its line.
"""

from __future__ import annotations

import csv
import gzip
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import polars as pl

from foldwise.eda.rows import Rows
from foldwise.table.delimiters import Form
from foldwise.table.encodings import open_text

FEWEST = 5  # different texts of exactly the largest length
SHARE = 0.005  # and this share of the filled cells
CROWD = 5.0  # and so many times as many as the lengths just below have each
SHORTEST = 20  # a limit on fewer characters is a code's, not an export's
CHANCE = 1e-5  # that so many empty cells at the end came about by themselves
BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class CutColumn:
    """A text column cut at a length.

    Attributes:
        column: its name.
        length: of the cut values.
        unit: characters or bytes.
        rows: values of exactly that length.
        share: of the filled cells.
    """

    column: str
    length: int
    unit: str
    rows: int
    share: float


@dataclass(frozen=True)
class EmptyTail:
    """A column that is empty from a row to the table's end, and wasn't before.

    Attributes:
        column: its name.
        rows: empty cells at the end.
        share_before: empty cells among the rows before.
    """

    column: str
    rows: int
    share_before: float


@dataclass(frozen=True)
class Cuts:
    """What was cut off.

    Attributes:
        columns: text columns cut at a length.
        tails: columns empty at the table's end.
        ending: how the last file ends in the middle of a row, or "".
    """

    columns: tuple[CutColumn, ...]
    tails: tuple[EmptyTail, ...]
    ending: str


def find_cuts(rows: Rows) -> Cuts:
    """Look for cut texts in every column, and for a cut end of the table."""
    columns = [_cut_column(rows.frame[name]) for name in rows.columns]
    tails = [_empty_tail(rows.frame[name]) for name in rows.roles]
    return Cuts(
        columns=tuple(entry for entry in columns if entry is not None),
        tails=tuple(entry for entry in tails if entry is not None),
        ending=_ending(Path(rows.files[-1]), rows) if rows.files else "",
    )


def _cut_column(cells: pl.Series) -> CutColumn | None:
    if cells.dtype.is_float():
        return None
    known = cells.drop_nulls()
    different = known.unique()
    for unit, lengths in (
        ("characters", different.str.len_chars()),
        ("bytes", different.str.len_bytes()),
    ):
        counts = np.bincount(lengths.to_numpy()) if len(lengths) else np.zeros(1, dtype=np.int64)
        longest = len(counts) - 1
        at_longest = int(counts[longest])
        below = counts[int(0.8 * longest) : longest]
        if (
            longest >= SHORTEST
            and at_longest >= max(FEWEST, SHARE * len(known))
            and at_longest >= CROWD * max(below.mean(), 0.2)
            and (counts[1:longest] > 0).sum() >= FEWEST  # values of one length are codes
        ):
            all_lengths = known.str.len_chars() if unit == "characters" else known.str.len_bytes()
            rows = int((all_lengths == longest).sum())
            return CutColumn(cells.name, longest, unit, rows, rows / len(known))
    return None


def _empty_tail(cells: pl.Series) -> EmptyTail | None:
    empty = cells.is_null().to_numpy()
    filled = np.flatnonzero(~empty)
    if not len(filled):
        return None
    tail = len(empty) - 1 - int(filled[-1])
    before = empty[: len(empty) - tail]
    share = float(before.mean())
    chance = ((before.sum() + 1) / (len(before) + 2)) ** tail
    return EmptyTail(cells.name, tail, share) if tail >= 2 and chance < CHANCE else None


def _ending(file: Path, rows: Rows) -> str:
    name = file.name.lower().removesuffix(".gz")
    form = rows.forms.get(rows.files[-1])
    if not name.endswith((".csv", ".tsv")) or form is None or form.encoding.startswith("utf-16"):
        return ""
    quotes, last = 0, b""
    for block in _blocks(file):
        quotes += block.count(b'"')
        last = block[-1:]
    if quotes % 2 and _inside_quotes(file, form):
        return "inside a quoted cell: the quotes of its last row are never closed"
    if last in (b"\n", b"\r") or rows.frame.height < 2:
        return ""
    # A file without a last line break is common; one that also breaks off its last word isn't.
    final = list(rows.roles)[-1]
    cells = rows.frame[final].cast(pl.String)
    word, others = cells[-1], cells[:-1].drop_nulls()
    if not word or (others == word).any():
        return ""
    longer = others.filter(others.str.starts_with(word))
    if len(longer) and others.n_unique() <= len(others) / 2:
        return f"with {word!r} in {final!r}, the beginning of {longer[0]!r}, and no line break"
    lengths = others.str.len_chars()
    if len(others) >= 20 and lengths.n_unique() == 1 and len(word) < lengths[0]:
        return f"with {word!r} in {final!r}, shorter than all values before, and no line break"
    return ""


def _blocks(file: Path) -> Iterator[bytes]:
    with gzip.open(file) if file.name.lower().endswith(".gz") else file.open("rb") as stream:
        while block := stream.read(BLOCK_BYTES):
            yield block


def _inside_quotes(file: Path, form: Form) -> bool:
    """Say whether a line behind the file's end would still belong to its last cell."""
    mark = "\0the end"
    with open_text(str(file), "", form.encoding) as text:
        last = deque(csv.reader(chain(text, [mark]), delimiter=form.delimiter), maxlen=1)
    return last[0] != [mark]
