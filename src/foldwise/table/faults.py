"""What becomes of a cell, row or column that can't be read: an error, or a reason that is kept.

In: what was found while a file is read. Out: a `FoldwiseError`, or a note of it: a column that
nothing depends on is left out; where every row has to keep its place, the row is noted.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from foldwise.errors import FoldwiseError


@dataclass
class Faults:
    """What was found, and what is to come of it.

    Attributes:
        optional: columns that nothing depends on: one that can't be read is left out.
        unread: those that were left out, and why.
        rows: reasons why rows can't be read, by their number; None: the first is an error.
    """

    optional: Collection[str] = ()
    unread: dict[str, str] = field(default_factory=dict)
    rows: dict[int, str] | None = None

    def column(self, name: str, message: str) -> None:
        """Leave an optional column out, with the first reason; raise the message for another."""
        if name not in self.optional:
            raise FoldwiseError(message)
        self.unread.setdefault(name, message)

    def cell(self, name: str, row: int, message: str) -> None:
        """Note a row, with the first reason, or treat its column as unread."""
        if self.rows is None:
            self.column(name, message)
        else:
            self.rows.setdefault(row, message)


def check_columns(header: Sequence[str], wanted: Sequence[str], file: str, faults: Faults) -> None:
    """Hold the columns of a file against those that are wanted of it.

    Raises:
        FoldwiseError: the file is empty or no text; one that isn't optional is absent or twice
            there.
    """
    if not header:
        raise FoldwiseError(f"{file}: the file is empty: it needs a header and rows")
    if any("\0" in name for name in header):
        raise FoldwiseError(
            f"{file}: line 1 holds NUL bytes: it isn't text, or set data.encoding (utf-16-le?)"
        )
    for name in wanted:
        if header.count(name) > 1:
            faults.column(name, f"{file}: line 1 names column {name!r} twice: rename one of them")
        elif name not in header:
            nearest = difflib.get_close_matches(name, header, n=1, cutoff=0)[0]
            columns = ", ".join(map(repr, header[:40])) + (", ..." if len(header) > 40 else "")
            faults.column(
                name,
                f"{file}: has no column {name!r}; did you mean {nearest!r}? Its columns: {columns}",
            )
