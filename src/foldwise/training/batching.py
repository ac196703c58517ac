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
    batch: each row is treated alike across epochs. Without bucketing nothing is sorted, and batches
    are cut from the shuffled rows as they come.

    Attributes:
        lengths: tokens of each row, int64 (rows,); None: rows have no lengths, plain shuffling.
            Needed with tokens_per_batch.
        rows: number of rows.
        batch_size: rows a micro-batch; None with tokens_per_batch.
        tokens_per_batch: padded tokens a micro-batch at most; None with batch_size.
        accumulate: micro-batches a window, which is one optimizer step.
        seed: together with the epoch all that the order follows from.
        chunks: inputs that each row is cut into, equally long, int64 (rows,); None: one each.
        bucketing: whether batches are of like length.
        shares: pieces that each micro-batch is cut into once it is drawn, for processes to share.
    """

    lengths: np.ndarray | None
    rows: int
    batch_size: int | None
    tokens_per_batch: int | None
    accumulate: int
    seed: Sequence[int]
    chunks: np.ndarray | None = None
    bucketing: bool = True
    shares: int = 1

    def windows(self, epoch: int) -> list[Window]:
        """Return the epoch's windows: lists of micro-batches, each int64 positions (b,)."""
        rng = np.random.default_rng([*self.seed, epoch])
        batches = self._batches(rng.permutation(self.rows))
        batches = [batches[i] for i in rng.permutation(len(batches))]
        step = self.accumulate
        windows = [batches[i : i + step] for i in range(0, len(batches), step)]
        return windows if self.shares == 1 else [self._cut(window) for window in windows]

    def divisors(self, windows: Sequence[Window]) -> list[float]:
        """Return what the summed loss of each window is divided by, so that rows weigh alike.

        With a fixed batch size that is the window's own number of rows; the last one's rows are
        drawn anew in each epoch. With a token budget windows of long rows hold few of them: divided
        by their own number, a long row would weigh several times a short one. So all windows of an
        epoch are divided by their mean number of rows, and every row weighs the same in it.

        Args:
            windows: of one whole epoch.
        """
        sizes = [sum(len(batch) for batch in window) for window in windows]
        if self.tokens_per_batch is None:
            return [float(size) for size in sizes]
        return [sum(sizes) / len(sizes)] * len(sizes)

    def padding(self, windows: Sequence[Window]) -> tuple[int, int]:
        """Return the tokens of the windows' rows, and the padding around them."""
        if self.lengths is None:
            return 0, 0
        batches = [batch for window in windows for batch in window]
        tokens = sum(int(self.lengths[batch].sum()) for batch in batches)
        return tokens, sum(self._padded(batch) for batch in batches) - tokens

    def _batches(self, order: np.ndarray) -> list[np.ndarray]:
        if self.tokens_per_batch is not None:
            return self._by_tokens(order, self.tokens_per_batch)
        size = self.batch_size or 32
        full = len(order) // size * size
        batches = [order[full:]] if full < len(order) else []
        for start in range(0, full, BUCKET * size):
            stretch = self._sorted(order[start : min(start + BUCKET * size, full)])
            batches += list(stretch.reshape(-1, size))
        return batches

    def _cut(self, window: Window) -> Window:
        # By turns, so that the pieces of sorted rows take equally long.
        count = self.shares
        return [batch[i::count] for batch in window for i in range(min(count, len(batch)))]

    def _by_tokens(self, order: np.ndarray, most: int) -> list[np.ndarray]:
        # A batch takes the next row as long as all its inputs, as wide as the widest, fit.
        assert self.lengths is not None
        inputs = np.ones_like(self.lengths) if self.chunks is None else self.chunks
        widths = self.lengths // inputs
        typical = max(1, int(most / max(1, self.lengths.mean())))
        stretch_size = BUCKET * typical if self.bucketing else len(order)
        batches = []
        for start in range(0, len(order), stretch_size):
            stretch = self._sorted(order[start : start + stretch_size])
            first, held, widest = 0, 0, 0
            for i, row in enumerate(stretch.tolist()):
                held, widest = held + inputs[row], max(widest, widths[row])
                if i > first and held * widest > most:
                    batches.append(stretch[first:i])
                    first, held, widest = i, inputs[row], widths[row]
            batches.append(stretch[first:])
        return batches

    def _sorted(self, stretch: np.ndarray) -> np.ndarray:
        if self.lengths is None or not self.bucketing:
            return stretch
        return stretch[np.argsort(self.lengths[stretch], kind="stable")]

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
