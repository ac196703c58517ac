"""Optimizer steps for the loop, each with its micro-batches, and what a training runs over.

Every micro-batch is prepared under its own seed, so that none depends on those before.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from foldwise.training.batching import Sampler, Window


@dataclass(frozen=True)
class TrainingRows:
    """The rows of a training.

    Attributes:
        dataset: `dataset[position]` is one row.
        positions: in the dataset, of the rows trained on, int64 (n,).
        sampler: forms the windows out of `range(n)`.
    """

    dataset: Any
    positions: np.ndarray
    sampler: Sampler


@dataclass(frozen=True)
class Step:
    """An optimizer step to come: the micro-batches of one window, and where that stands.

    Attributes:
        epoch: from 0.
        number: of the window in its epoch, from 0.
        windows: number of windows in the epoch.
        last: whether no other comes after it.
        window: which rows form its micro-batches, as the sampler numbers them.
        divisor: what the summed loss of its rows is divided by.
        mine: numbers in the epoch of those of its micro-batches that are this process's.
        batches: these, each with its number; and where processes run as many, and others have one
            more, another's, whose loss doesn't count here. Read once.
    """

    epoch: int
    number: int
    windows: int
    last: bool
    window: Window
    divisor: float
    mine: Sequence[int]
    batches: Iterator[tuple[int, dict[str, torch.Tensor]]]

    @property
    def rows(self) -> int:
        """The number of its rows."""
        return sum(len(batch) for batch in self.window)

    @property
    def ends_epoch(self) -> bool:
        """Whether the epoch ends with it."""
        return self.number + 1 == self.windows

    @property
    def at(self) -> float:
        """Epochs done after it."""
        return self.epoch + (self.number + 1) / self.windows


def steps_left(
    rows: TrainingRows,
    collate: Any,
    seed: tuple[int, ...],
    epochs: int | None = None,
    *,
    epoch: int = 0,
    window: int = 0,
    workers: int = 0,
    mine: slice = slice(None),
    evenly: bool = False,
    pinned: bool = False,
) -> Iterator[Step]:
    """Yield the steps of a training that are still to come.

    Args:
        rows: that are trained on.
        collate: rows of the dataset -> batch.
        seed: order, and whatever dataset or collate draw, follow from it and the epoch.
        epochs: of the whole training; None: without end.
        epoch: the first wanted, from 0.
        window: the first wanted of that epoch.
        workers: processes that prepare batches.
        mine: which of a window's micro-batches are this process's.
        evenly: whether all processes run as many of them.
        pinned: in memory that CUDA copies from without anyone waiting.
    """
    for current in count(epoch) if epochs is None else range(epoch, epochs):
        windows = rows.sampler.windows(current)
        divisors = rows.sampler.divisors(windows)
        taken = partial(_taken, mine=mine, evenly=evenly)
        batches = load_batches(
            rows, windows, window, collate, (*seed, current), workers, taken, pinned
        )
        micro = sum(len(done) for done in windows[:window])
        for number in range(window, len(windows)):
            numbers = range(micro, micro + len(windows[number]))
            yield Step(
                current,
                number,
                len(windows),
                current + 1 == epochs and number + 1 == len(windows),
                windows[number],
                divisors[number],
                numbers[mine],
                zip(taken(numbers), batches, strict=False),
            )
            micro = numbers.stop
        window = 0


def _taken(window: Sequence[Any], *, mine: slice, evenly: bool) -> Sequence[Any]:
    own = window[mine]
    lacks = evenly and len(own) < len(window[:: mine.step])
    return [*own, window[0]] if lacks else own


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
    """Return a batch on the device; float64, which MPS doesn't have, stays where it is there.

    Nobody waits for the copy of what lies in pinned memory: the device takes it in its turn.
    """
    return {
        name: tensor
        if device.type == "mps" and tensor.dtype == torch.float64
        else tensor.to(device, non_blocking=device.type == "cuda")
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
    rows: TrainingRows,
    windows: list[Window],
    first: int,
    collate: Any,
    seed: tuple[int, ...],
    workers: int,
    taken: Callable[[Sequence[Any]], Sequence[Any]],
    pinned: bool = False,
) -> Iterator[dict[str, torch.Tensor]]:
    """Yield the micro-batches of an epoch's windows from the one numbered `first` on.

    Args:
        rows: that the windows count from.
        windows: the epoch's windows.
        first: the first window wanted.
        collate: rows -> batch.
        seed: whatever the dataset or collate draws follows from it and the micro-batch's number.
        workers: processes that prepare batches.
        taken: a window's micro-batches -> those that are yielded.
        pinned: in memory that CUDA copies from without anyone waiting.
    """
    numbers = count()
    numbered = [list(zip(numbers, window, strict=False)) for window in windows]
    plan = [
        (number, rows.positions[batch].tolist())
        for window in numbered[first:]
        for number, batch in taken(window)
    ]
    batches = _Batches(rows.dataset, plan, collate, seed)
    loader = DataLoader(batches, batch_size=None, num_workers=workers, pin_memory=pinned)
    return iter(loader)
