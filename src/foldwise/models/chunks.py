"""From one vector a window to one vector a text.

In: the pooled windows of a batch and the row each belongs to. Out: (batch, width). Windows of a
text are pooled by what pools tokens: laid out as (batch, windows, width) with a mask they have the
same shape, so every pooling, yours too, works on both levels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ChunkPooling(nn.Module):
    """Pool the windows of each text; a text of one window keeps its vector.

    Args:
        pooling: (B, N, D), (B, N) -> (B, E).
    """

    def __init__(self, pooling: nn.Module) -> None:
        super().__init__()
        self.pooling = pooling

    def forward(self, pooled: Tensor, chunk_row: Tensor) -> Tensor:
        """Pool (C, D) into (B, E).

        Args:
            pooled: one vector a window.
            chunk_row: int64 (C,), the row of each window: 0 to B - 1, ascending, none left out.
        """
        place = torch.arange(len(chunk_row), device=chunk_row.device)
        place = place - torch.searchsorted(chunk_row, chunk_row)  # 0, 1, ... within a row
        # The one wait for the device: shapes depend on how the batch is cut.
        rows, most = (torch.stack([chunk_row[-1], place.max()]) + 1).tolist()
        # Every place is written once: unlike index_add, the same bits each time on a GPU, too.
        windows = pooled.new_zeros(rows, most, pooled.shape[1])
        windows[chunk_row, place] = pooled
        mask = torch.zeros(rows, most, dtype=torch.int64, device=chunk_row.device)
        mask[chunk_row, place] = 1
        return self.pooling(windows, mask)  # type: ignore[no-any-return]
