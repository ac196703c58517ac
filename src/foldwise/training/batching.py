"""Which rows form which batch, for any kind of rows.

In: the length of every row. Out: windows of micro-batches, a pure function of (seed, epoch), so
that any step of any epoch can be reached again; and batches ordered by length for inference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Batches sorted together: enough for near-equal lengths, few enough that batches stay varied.
BUCKET = 50

Window = list[np.ndarray]


@dataclass(frozen=True)
class Sampler:
    """Shuffled, length-bucketed batches of row positions.

    Every row comes exactly once an epoch. The rows are shuffled, cut into stretches of 50 batches,
    sorted by length within a stretch, cut into batches, and the batches shuffled. Rows that don't
    fill a batch are drawn before sorting, so no row's length makes it likelier to be in the short
    batch: each row is treated alike across epochs.

    Attributes:
        lengths: tokens of each row, int64 (rows,); None: rows have no lengths, plain shuffling.
        rows: number of rows.
        batch_size: rows a micro-batch; None with tokens_per_batch.
        tokens_per_batch: padded tokens a micro-batch at most; None with batch_size.
        accumulate: micro-batches a window, which is one optimizer step.
        seed: together with the epoch all that the order follows from.
        chunks: inputs that each row is cut into, equally long, int64 (rows,); None: one each.
    """

    lengths: np.ndarray | None
    rows: int
    batch_size: int | None
    tokens_per_batch: int | None
    accumulate: int
    seed: Sequence[int]
    chunks: np.ndarray | None = None

    def windows(self, epoch: int) -> list[Window]:
        """Return the epoch's windows: lists of micro-batches, each int64 positions (b,)."""
        rng = np.random.default_rng([*self.seed, epoch])
        batches = self._batches(rng.permutation(self.rows))
        batches = [batches[i] for i in rng.permutation(len(batches))]
        step = self.accumulate
        return [batches[i : i + step] for i in range(0, len(batches), step)]

    def padding(self, windows: Sequence[Window]) -> tuple[int, int]:
        """Return the tokens of the windows' rows, and the padding around them."""
        if self.lengths is None:
            return 0, 0
        batches = [batch for window in windows for batch in window]
        tokens = sum(int(self.lengths[batch].sum()) for batch in batches)
        return tokens, sum(self._padded(batch) for batch in batches) - tokens

    def _batches(self, order: np.ndarray) -> list[np.ndarray]:
        if self.tokens_per_batch is not None and self.lengths is not None:
            return self._by_tokens(order)
        size = self.batch_size or 32
        full = len(order) // size * size
        batches = [order[full:]] if full < len(order) else []
        for start in range(0, full, BUCKET * size):
            stretch = order[start : min(start + BUCKET * size, full)]
            if self.lengths is not None:
                stretch = stretch[np.argsort(self.lengths[stretch], kind="stable")]
            batches += list(stretch.reshape(-1, size))
        return batches

    def _by_tokens(self, order: np.ndarray) -> list[np.ndarray]:
        assert self.lengths is not None
        assert self.tokens_per_batch is not None
        typical = max(1, int(self.tokens_per_batch / max(1, self.lengths.mean())))
        batches = []
        for start in range(0, len(order), BUCKET * typical):
            stretch = order[start : start + BUCKET * typical]
            stretch = stretch[np.argsort(self.lengths[stretch], kind="stable")]
            inputs = np.ones_like(stretch) if self.chunks is None else self.chunks[stretch]
            widths = self.lengths[stretch] // inputs  # ascending: only full inputs are several
            ends = np.cumsum(inputs)
            first, before = 0, 0
            for i in range(1, len(stretch) + 1):
                full = i == len(stretch) or (ends[i] - before) * widths[i] > self.tokens_per_batch
                if full:
                    batches.append(stretch[first:i])
                    first, before = i, ends[i - 1]
        return batches

    def _padded(self, batch: np.ndarray) -> int:
        # Tokens of a batch with its padding: all its inputs are as wide as the widest.
        assert self.lengths is not None
        if self.chunks is None:
            return len(batch) * int(self.lengths[batch].max())
        chunks = self.chunks[batch]
        return int(chunks.sum() * (self.lengths[batch] // chunks).max())


def ordered_batches(
    lengths: np.ndarray | None, rows: int, size: int, chunks: np.ndarray | None = None
) -> list[np.ndarray]:
    """Return all positions in batches by falling length: for inference, least padding.

    The longest go first, so that running out of memory shows at once.

    Args:
        lengths: tokens of each row, int64 (rows,), or None.
        rows: number of rows.
        size: inputs a batch at most; a row of more is alone in its batch.
        chunks: inputs that each row is cut into, int64 (rows,); None: one each.
    """
    order = np.arange(rows) if lengths is None else np.argsort(-lengths, kind="stable")
    if chunks is None:
        return [order[start : start + size] for start in range(0, rows, size)]
    batches, first, inputs = [], 0, 0
    for i, count in enumerate(chunks[order].tolist()):
        if i > first and inputs + count > size:
            batches.append(order[first:i])
            first, inputs = i, 0
        inputs += count
    return [*batches, order[first:]]
