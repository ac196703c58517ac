"""Long rows as several inputs: overlapping windows over the text, nothing of it lost.

In: untruncated ids of the short columns and of the text, from two token stores. Out: items of one
or more windows, and batches of windows that say which row each belongs to. The short columns stand
in front of every window: a window is read without its neighbours, and what a category says about
the first page it says about the last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch

from foldwise.encoding.batches import pad_batch, stack_targets
from foldwise.encoding.bound import Need
from foldwise.encoding.text import Frame, TokenStore


class Layout(NamedTuple):
    """How each row is cut, int64 (rows,) each.

    Attributes:
        prefix: ids of the short columns that stand in front of each window.
        window: ids of the text that a full window holds.
        covered: ids of the text that the row's windows hold together.
        chunks: windows.
    """

    prefix: np.ndarray
    window: np.ndarray
    covered: np.ndarray
    chunks: np.ndarray


@dataclass(frozen=True)
class ChunkRows:
    """Rows as a dataset: the windows of a row, framed, when it is asked for.

    A row that fits one input is one window, equal to what truncation makes of it. Of a longer one
    the short columns get half of the window at most, and the windows are spread evenly, all of the
    same width: so a mean over them doesn't let three leftover tokens weigh as much as a page.

    Attributes:
        short: ids of the short columns; None where the template has none.
        text: ids of the text.
        frame: special ids around each window, and the separator behind the short columns.
        max_length: tokens a window has at most, special tokens and short columns included.
        stride: tokens that neighbouring windows share at least.
        max_chunks: windows a row has at most, from its start; None for no limit.
        target: class ids, int64 (rows,); None where there are no labels.
    """

    short: TokenStore | None
    text: TokenStore
    frame: Frame
    max_length: int
    stride: int
    max_chunks: int | None
    target: np.ndarray | None

    def __len__(self) -> int:
        return len(self.text)

    def __getitem__(self, position: int) -> tuple[list[np.ndarray], int | None]:
        """Return a row's windows of input ids, int64 (length,) each, and its class id."""
        kept, read = self.read(position)
        front = np.array(self.frame.before, dtype=np.int64)
        if self.short is not None:
            front = np.concatenate([front, self.short[position][:kept], self.frame.separator])
        ids = self.text[position]
        windows = [
            np.concatenate([front, ids[part], self.frame.after]).astype(np.int64) for part in read
        ]
        return windows, None if self.target is None else self.target[position]

    def read(self, position: int) -> tuple[int, list[np.ndarray]]:
        """Return how many ids of the short columns are read, and of each window which of the text.

        Returns:
            The number, and ascending int64 (length,) a window.
        """
        prefix, window, covered, chunks = (int(column[position]) for column in self._layout)
        kept = (
            0
            if self.short is None
            else min(prefix - len(self.frame.separator), len(self.short[position]))
        )
        starts = np.arange(chunks) * max(0, covered - window) // max(1, chunks - 1)
        whole = np.arange(covered)
        return kept, [whole[start : start + window] for start in starts]

    @property
    def chunks(self) -> np.ndarray:
        """Windows of each row, int64 (rows,)."""
        return self._layout.chunks

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of all windows of each row, as the model sees them, int64 (rows,)."""
        prefix, window, covered, chunks = self._layout
        text = np.where(chunks > 1, chunks * window, covered)
        lengths: np.ndarray = chunks * (prefix + self.frame.size) + text
        return lengths

    @property
    def cut(self) -> np.ndarray:
        """Tokens of each row that are in no window, int64 (rows,)."""
        prefix, _, covered, _ = self._layout
        cut: np.ndarray = self.tokens - self.frame.size - prefix - covered
        return cut

    @property
    def bounded(self) -> int:
        """Very long rows whose tokens weren't counted to their end: lengths are lower bounds."""
        return self.text.bounded

    @property
    def tokens(self) -> np.ndarray:
        """Tokens of each row before anything is cut or repeated, int64 (rows,)."""
        tokens: np.ndarray = self._short_lengths + self.text.lengths + self.frame.size
        return tokens

    @cached_property
    def _short_lengths(self) -> np.ndarray:
        if self.short is None:
            return np.zeros(len(self), dtype=np.int64)
        lengths: np.ndarray = self.short.lengths + len(self.frame.separator)
        return lengths

    @cached_property
    def _layout(self) -> Layout:
        room, text = self.max_length - self.frame.size, self.text.lengths
        prefix = np.minimum(self._short_lengths, np.maximum(_front(room, self.frame), room - text))
        window = room - prefix
        step = np.maximum(1, window - self.stride)  # only a row that fits has a smaller window
        chunks = 1 + np.maximum(0, -((window - text) // step))  # the quotient rounded up
        if self.max_chunks is not None:
            chunks = np.minimum(chunks, self.max_chunks)
        covered = np.minimum(text, window + (chunks - 1) * step)
        return Layout(prefix, window, covered, chunks)


def tokens_needed(max_length: int, frame: Frame, max_chunks: int | None) -> Need | None:
    """Return how much of a text its windows hold at most; None for all of it.

    Args:
        max_length: tokens a window has at most.
        frame: special ids around it.
        max_chunks: windows a row has at most; None for no limit.
    """
    # A step between windows is at most the room.
    room = max_length - frame.size
    return None if max_chunks is None else Need(head=(max_chunks + 1) * room + 1)


def narrowest_window(max_length: int, frame: Frame, *, short: bool) -> int:
    """Return the fewest tokens of text that a full window holds; the stride must be smaller.

    Args:
        max_length: tokens a window has at most.
        frame: special ids around it.
        short: whether short columns stand in front of the text.
    """
    room = max_length - frame.size
    return room - _front(room, frame) if short else room


def pad_chunks(
    rows: Sequence[tuple[list[np.ndarray], int | None]], frame: Frame
) -> dict[str, torch.Tensor]:
    """Pad the windows of rows to the longest of them.

    Args:
        rows: items of a ChunkRows.
        frame: says the pad id and side.

    Returns:
        input_ids and attention_mask, int64 (C, L); chunk_row, int64 (C,), the row in the batch that
        each window belongs to, ascending; and target, int64 (B,), where rows have one.
    """
    batch = pad_batch([(window, None) for windows, _ in rows for window in windows], frame)
    counts = torch.tensor([len(windows) for windows, _ in rows])
    batch["chunk_row"] = torch.arange(len(rows)).repeat_interleave(counts)
    return batch | stack_targets([target for _, target in rows])


def _front(room: int, frame: Frame) -> int:
    # Half of the window, but never without the separator that ends the short columns.
    return max(room // 2, len(frame.separator))
