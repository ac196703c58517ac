"""A fold at work: what it has fitted in; each voting member's table of new rows out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from accelerate import Accelerator
from torch import nn

from foldwise.config.members import MODEL
from foldwise.members.frozen import Frozen
from foldwise.members.member import Member
from foldwise.members.read import Read, read_with
from foldwise.tasks.predictions import to_table, values_to_table
from foldwise.tasks.task import Task
from foldwise.training.inference import infer, quickest_batch


@dataclass(frozen=True)
class Fitted:
    """What a fold has fitted: its task, and those members that vote."""

    task: Task
    model: nn.Module | None
    members: Mapping[str, Member]

    def predict(
        self, read: Read, dataset: Any, accelerator: Accelerator, names: Collection[str]
    ) -> dict[str, pl.DataFrame]:
        """Return the named members' tables of the rows, of which a task made the dataset."""
        tables, rows = {}, read.rows
        if self.model is not None and MODEL in names:
            positions = np.arange(rows.height)
            size = quickest_batch(accelerator)
            logits, _ = infer(
                self.model, dataset, positions, self.task.collate, accelerator, batch_size=size
            )
            tables[MODEL] = to_table(self.task, rows, logits, None, None)
        for name in [name for name in self.members if name in names]:
            values = read.predict(self.members[name])
            tables[name] = values_to_table(self.task, rows, values, None, None)
        return tables


def tables_of(
    folds: Sequence[Fitted],
    rows: pl.DataFrame,
    frozen: Frozen | None,
    accelerator: Accelerator,
    names: Collection[str],
) -> list[dict[str, pl.DataFrame]]:
    """Return the tables that the folds' members make of rows.

    Args:
        folds: of a run.
        rows: as tasks and members read them.
        frozen: the backbone whose vectors a member reads; None where none does.
        accelerator: device and precision.
        names: of the members.
    """
    read = Read(rows) if frozen is None else read_with(rows, frozen.embed(rows))
    # Tokenized once: what folds fit of other columns is in their collate, not in the rows.
    modelled = MODEL in names and any(fold.model is not None for fold in folds)
    dataset = folds[0].task.dataset(rows) if modelled else None
    return [fold.predict(read, dataset, accelerator, names) for fold in folds]
