"""Rows of text and columns together, and the batches made of them.

In: the text's rows as batches.py or chunks.py have them, and the cells of the other columns. Out:
items of both, and batches in which a fold's encoders have turned cells into slots and numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from foldwise.encoding.tabular import Cells, Encoders

Item = tuple[Any, np.ndarray, np.ndarray, Any]


@dataclass(frozen=True)
class MixedRows:
    """Rows as a dataset: an item of the text, if there is one, and the cells beside it.

    Attributes:
        text: the text's rows, which bring their target along; None without text.
        cells: of the other columns.
        target: (rows, ...); None where there are no labels, or where the text's rows bring them.
    """

    text: Any
    cells: Cells
    target: np.ndarray | None

    def __len__(self) -> int:
        return len(self.cells.keys)

    def __getitem__(self, position: int) -> Item:
        """Return the text's item or None, keys (categories,), numbers (n,), target or None."""
        return (
            None if self.text is None else self.text[position],
            self.cells.keys[position],
            self.cells.numbers[position],
            None if self.target is None else self.target[position],
        )

    @property
    def lengths(self) -> np.ndarray | None:
        """Tokens of each row, int64 (rows,); None without text."""
        return getattr(self.text, "lengths", None)

    @property
    def tokens(self) -> np.ndarray | None:
        """Tokens of each row before anything is cut, int64 (rows,); None without text."""
        return getattr(self.text, "tokens", None)

    @property
    def cut(self) -> np.ndarray | None:
        """Tokens of each row that are dropped, int64 (rows,); None without text."""
        return getattr(self.text, "cut", None)

    @property
    def bounded(self) -> int:
        """Very long rows whose tokens weren't counted to their end: lengths are lower bounds."""
        return getattr(self.text, "bounded", 0)

    @property
    def chunks(self) -> np.ndarray | None:
        """Chunks of each row, int64 (rows,); None where texts aren't cut into chunks."""
        return getattr(self.text, "chunks", None)


def mixed_batch(
    rows: Sequence[Item],
    encoders: Encoders,
    pad: Callable[[Sequence[Any]], dict[str, Tensor]],
) -> dict[str, Tensor]:
    """Encode the cells of some rows and pad their texts.

    Args:
        rows: items of a MixedRows.
        encoders: of the fold.
        pad: the text's items -> its tensors, and target.

    Returns:
        What `pad` returns, or target (B, ...) where there is no text, with categorical, int64
        (B, categories), and numeric, float32 (B, numbers).
    """
    texts, keys, numbers, targets = zip(*rows, strict=True)
    batch = {} if texts[0] is None else pad(texts)
    if targets[0] is not None:
        batch["target"] = torch.from_numpy(np.stack(targets))
    return batch | encoders.batch(np.stack(keys), np.stack(numbers))
