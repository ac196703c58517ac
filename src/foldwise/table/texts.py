"""The text of a table: in memory while there is little of it, else in a file that is mapped.

In: the text columns, chunk by chunk as a table is read. Out: the same columns whole, for the same
frame as ever: polars' strings are views, which may lead into the pages of a file. Text is nine
tenths of a table and is looked at a stretch at a time. Its pages are read when someone does, they
belong to no process, and the system drops them when memory is short; a read-only copy in memory
stays for as long as a run works.

Written as Arrow by pyarrow: polars copies what it reads. The file loses its name as soon as it is
mapped, so nothing of it is there for another run to trust, and it is gone when the process ends,
however that comes about. What a killed one leaves half written has the name of a temporary file,
which `run/leftovers.py` knows.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import polars as pl

from foldwise.errors import FoldwiseError
from foldwise.run.files import half
from foldwise.run.space import room_for

FULL = 1 << 26  # bytes of text in memory before they are put down


class Texts:
    """Takes in text columns chunk by chunk, inside a `with`.

    Attributes:
        rows: taken in so far.

    Args:
        columns: names of the text columns.
        folder: where a file may lie while the table is read, made if need be; None: the text stays
            in memory.
    """

    def __init__(self, columns: Sequence[str], folder: Path | None) -> None:
        self.columns, self.folder = list(columns), folder
        self.rows = 0
        self._held = [pl.DataFrame(schema=dict.fromkeys(columns, pl.String))]
        self._size_bytes = 0
        self._path: Path | None = None
        self._writer: Any = None
        self._made: list[Path] = []

    def __enter__(self) -> Texts:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Take the file's name away and, of a table that is refused, what was made for it."""
        self._writer = None
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        # Not otherwise: a run beside this one may be about to put its own file there.
        for folder in self._made if kind is not None else []:
            with suppress(OSError):
                folder.rmdir()

    def take(self, texts: pl.DataFrame) -> None:
        """Take in the text columns of some rows, which follow those before.

        Args:
            texts: strings, null for blank ones.

        Raises:
            FoldwiseError: the folder is a link.
            RunInterrupted: the disk is full.
        """
        self._held.append(texts.select(self.columns))
        self.rows += texts.height
        self._size_bytes += sum(int(texts[name].str.len_bytes().sum()) for name in self.columns)
        if self.folder is not None and self._size_bytes >= FULL:
            self._put_down(self.folder)

    def whole(self) -> pl.DataFrame:
        """Return the columns of all rows; nothing can be taken in after that."""
        parts = self._held if self._path is None else [self._mapped(self._path), *self._held]
        return pl.concat(parts, rechunk=True)  # copies 16 bytes a cell, not the text

    def _put_down(self, folder: Path) -> None:
        # Imported only now: most tables have less text, and it takes a while.
        import pyarrow

        texts = pl.concat(self._held).to_arrow(compat_level=pl.CompatLevel.newest())
        if self._path is None:
            if folder.is_symlink():
                raise FoldwiseError(f"{folder}: is a link; remove it, texts lie beside the runs")
            self._made = [path for path in (folder, *folder.parents) if not path.exists()]
            folder.mkdir(parents=True, exist_ok=True)
            self._path = half(folder / f"texts-{secrets.token_hex(4)}")
        with room_for(self._path, texts.nbytes):
            self._writer = self._writer or pyarrow.ipc.new_file(str(self._path), texts.schema)
            self._writer.write_table(texts)
        self._held, self._size_bytes = [], 0

    def _mapped(self, path: Path) -> pl.DataFrame:
        import pyarrow

        with room_for(path):
            self._writer.close()
        return pl.DataFrame(pyarrow.ipc.open_file(pyarrow.memory_map(str(path))).read_all())
