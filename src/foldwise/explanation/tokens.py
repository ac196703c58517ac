"""Which word each token that the model reads is a piece of.

In: a row's cells, and the row as the task's dataset has it. Out: for each window of ids, the column
and characters behind each id. Special tokens and separators stand for nothing. Cells are tokenized
as encoding/ does it, with offsets; an id that isn't the one the model reads (a cell so long that
encoding/ took only its ends) stands for nothing too, so that no word gets another's credit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from foldwise.encoding.bound import LONG
from foldwise.encoding.chunks import ChunkRows
from foldwise.encoding.mixed import MixedRows
from foldwise.encoding.text import plain_tokenizer


@dataclass(frozen=True)
class Piece:
    """A token of a cell: its id, and the characters it was made of."""

    id: int
    column: str
    start: int
    end: int


# What each id of a window is a piece of; None: of nothing.
Window = list[Piece | None]


@dataclass(frozen=True)
class Reader:
    """Finds the pieces of rows; one for all folds, which have one tokenizer.

    Attributes:
        task: of a fold; its tokenizer and template are read.
    """

    task: Any

    @cached_property
    def _fast(self) -> Any:
        return plain_tokenizer(self.task.tokenizer.backend_tokenizer)

    def windows(self, rows: Any, position: int, cells: Mapping[str, str]) -> list[Window]:
        """Return the pieces of each window of a row, one an id, special tokens included.

        Args:
            rows: of the task's dataset.
            position: of the row.
            cells: by column of the template, the texts that they are to the tokenizer.
        """
        rows = rows.text if isinstance(rows, MixedRows) else rows
        columns, frame = self.task.columns, rows.frame
        between: Window = [None] * len(frame.separator)
        front: Window = [None] * len(frame.before)
        if not isinstance(rows, ChunkRows):
            ids, _ = rows[position]
            pieces = self._joined(columns, cells, between)
            read = _aligned(pieces, len(rows.store[position]), rows.read(position))
            return [_same([*front, *read], ids)]
        long = [column for column in columns if column in self.task.config.data.text]
        short = [column for column in columns if column not in long]
        kept, parts = rows.read(position)
        if rows.short is not None:
            front += [*self._joined(short, cells, between)[:kept], *between]
        pieces = self._joined(long, cells, between)
        length = len(rows.text[position])
        windows = rows[position][0]
        return [
            _same([*front, *_aligned(pieces, length, part)], ids)
            for part, ids in zip(parts, windows, strict=True)
        ]

    def _joined(self, columns: Sequence[str], cells: Mapping[str, str], between: Window) -> Window:
        pieces: Window = []
        for number, column in enumerate(columns):
            text = cells[column]
            whole = self.task.config.text.long == "head_tail"
            found = self._fast.encode(text if whole else text[:LONG], add_special_tokens=False)
            spans = zip(found.ids, found.offsets, strict=True)
            pieces += between if number else []
            pieces += [Piece(token, column, start, end) for token, (start, end) in spans]
        return pieces


def _aligned(pieces: Window, length: int, read: np.ndarray) -> Window:
    # Of a very long cell the store holds the ends alone: there, places count from the end.
    missing = len(pieces) - length
    jump = int(np.flatnonzero(np.diff(read) > 1)[0]) + 1 if (np.diff(read) > 1).any() else len(read)
    places = np.concatenate([read[:jump], read[jump:] + missing])
    return [pieces[place] if 0 <= place < len(pieces) else None for place in places]


def _same(pieces: Window, ids: np.ndarray) -> Window:
    padded = [*pieces, *[None] * (len(ids) - len(pieces))]
    return [
        piece if piece is not None and piece.id == int(token) else None
        for piece, token in zip(padded, ids, strict=True)
    ]
