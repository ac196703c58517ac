"""Rows of token ids as a dataset, and as padded tensors.

In: untruncated ids from the token store. Out: items cut and framed, and batches no wider than their
longest row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from foldwise.encoding.text import Frame, TokenStore


@dataclass(frozen=True)
class TextRows:
    """Rows as a dataset: token ids cut and framed when a row is asked for.

    Attributes:
        store: untruncated ids.
        frame: special ids around them.
        max_length: tokens an input has at most, special tokens included.
        long: "truncate" keeps the start, "head_tail" start and end in equal parts.
        target: class ids, int64 (rows,), or what else the task has (rows, ...); None where there
            are no labels. An id of -1 is a label the model doesn't know.
    """

    store: TokenStore
    frame: Frame
    max_length: int
    long: str
    target: np.ndarray | None

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, position: int) -> tuple[np.ndarray, Any]:
        """Return a row's input ids, int64 (length,), and its class id or other target."""
        ids = self.store[position][self.read(position)]
        framed = np.concatenate([self.frame.before, ids, self.frame.after]).astype(np.int64)
        return framed, None if self.target is None else self.target[position]

    def read(self, position: int) -> np.ndarray:
        """Return which of a row's ids are read, ascending int64."""
        length = int(self.store.offsets[position + 1] - self.store.offsets[position])
        room = self.max_length - self.frame.size
        if length <= room:
            return np.arange(length)
        if self.long == "head_tail":
            head, tail = room - room // 2, room // 2
            return np.concatenate([np.arange(head), np.arange(length - tail, length)])
        return np.arange(room)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row as the model sees it, int64 (rows,)."""
        lengths: np.ndarray = np.minimum(self.store.lengths + self.frame.size, self.max_length)
        return lengths

    @property
    def cut(self) -> np.ndarray:
        """Tokens of each row that truncation drops, int64 (rows,)."""
        cut: np.ndarray = self.tokens - self.lengths
        return cut

    @property
    def bounded(self) -> int:
        """Very long rows whose tokens weren't counted to their end: lengths are lower bounds."""
        return self.store.bounded

    @property
    def tokens(self) -> np.ndarray:
        """Tokens of each row before anything is cut, int64 (rows,)."""
        tokens: np.ndarray = self.store.lengths + self.frame.size
        return tokens


def pad_batch(rows: Sequence[tuple[np.ndarray, Any]], frame: Frame) -> dict[str, torch.Tensor]:
    """Pad rows to the longest of them, and to one token at least.

    Args:
        rows: items of a TextRows.
        frame: says the pad id and side.

    Returns:
        input_ids and attention_mask, int64 (B, L), and target, int64 (B,), where rows have one.
    """
    width = max(1, *(len(ids) for ids, _ in rows))
    input_ids = np.full((len(rows), width), frame.pad, dtype=np.int64)
    attention_mask = np.zeros((len(rows), width), dtype=np.int64)
    for line, (ids, _) in enumerate(rows):
        place = slice(width - len(ids), width) if frame.padding_side == "left" else slice(len(ids))
        input_ids[line, place] = ids
        attention_mask[line, place] = 1
    batch = {
        "input_ids": torch.from_numpy(input_ids),
        "attention_mask": torch.from_numpy(attention_mask),
    }
    return batch | stack_targets([target for _, target in rows])


def stack_targets(targets: Sequence[Any]) -> dict[str, torch.Tensor]:
    """Return {"target": (B, ...)}, class ids or others, or nothing where rows have none."""
    known = [target for target in targets if target is not None]
    return {"target": torch.from_numpy(np.stack(known))} if len(known) == len(targets) else {}
