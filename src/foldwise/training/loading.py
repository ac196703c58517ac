"""Batches for the loop, each prepared under its own seed, so that none depends on those before."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from foldwise.training.batching import Window


def reseed(*numbers: int) -> None:
    """Seed Python's, numpy's and torch's global generators from some numbers.

    Within a fold what is drawn has five: run.seed, fold, epoch, micro-batch (in the range test:
    step, micro-batch) and what for: 0 rows and batches, 1 dropout, 2 dropout in the range test, 3
    the learning curve's training rows. Shorter lists are padded with zeros, so (seed, fold) and
    (seed, fold, 0) are one seed; the first initialises the model, through torch's generator, and
    (seed, fold, epoch) orders the rows, through numpy's: nothing else may use them.
    """
    seed = int(np.random.SeedSequence(numbers).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def to_device(batch: dict[str, torch.Tensor], device: torch.device) -> dict[str, torch.Tensor]:
    """Return a batch on the device; float64, which MPS doesn't have, stays where it is there."""
    return {
        name: tensor
        if device.type == "mps" and tensor.dtype == torch.float64
        else tensor.to(device)
        for name, tensor in batch.items()
    }


class _Batches(Dataset[dict[str, torch.Tensor]]):
    """Whole micro-batches as items, each prepared under its own seed in whichever process."""

    def __init__(
        self, dataset: Any, plan: list[tuple[int, list[int]]], collate: Any, seed: tuple[int, ...]
    ) -> None:
        self.dataset, self.plan, self.collate, self.seed = dataset, plan, collate, seed

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        number, positions = self.plan[index]
        reseed(*self.seed, number, 0)
        batch: dict[str, torch.Tensor] = self.collate([self.dataset[i] for i in positions])
        return batch


def load_batches(
    dataset: Any,
    rows: np.ndarray,
    windows: list[Window],
    first: int,
    collate: Any,
    seed: tuple[int, ...],
    workers: int,
) -> Iterator[dict[str, torch.Tensor]]:
    """Yield the micro-batches of an epoch's windows from the one numbered `first` on.

    Args:
        dataset: `dataset[position]` is one row.
        rows: positions in the dataset that the windows count from, int64 (n,).
        windows: the epoch's windows.
        first: the first window wanted.
        collate: rows -> batch.
        seed: whatever the dataset or collate draws follows from it and the micro-batch's number.
        workers: processes that prepare batches.
    """
    micro = [rows[batch].tolist() for window in windows for batch in window]
    skipped = sum(len(window) for window in windows[:first])
    plan = list(enumerate(micro))[skipped:]
    batches = _Batches(dataset, plan, collate, seed)
    return iter(DataLoader(batches, batch_size=None, num_workers=workers))
