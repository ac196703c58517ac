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

_READ = 2048  # rows at once, at most 400 MiB of states at 256 tokens of 384 units


@dataclass(frozen=True)
class Fitted:
    """What a fold has fitted: its task, and those members that vote."""

    task: Task
    model: nn.Module | None
    members: Mapping[str, Member]

    def by_model(
        self, rows: pl.DataFrame, dataset: Any, accelerator: Accelerator
    ) -> dict[str, pl.DataFrame]:
        """Return the fine-tuned model's table of rows, of which a task made the dataset."""
        if self.model is None:
            return {}
        size = quickest_batch(accelerator)
        logits, _ = infer(
            self.model,
            dataset,
            np.arange(rows.height),
            self.task.collate,
            accelerator,
            batch_size=size,
        )
        return {MODEL: to_table(self.task, rows, logits, None, None)}

    def by_members(self, read: Read, names: Collection[str]) -> dict[str, pl.DataFrame]:
        """Return the tables that the named members beside the model make of rows."""
        return {
            name: values_to_table(self.task, read.rows, read.predict(member), None, None)
            for name, member in self.members.items()
            if name in names
        }


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
    modelled: list[dict[str, pl.DataFrame]] = [{} for _ in folds]
    if MODEL in names and any(fold.model is not None for fold in folds):
        # Tokenized once: what folds fit of other columns is in their collate, not in the rows.
        dataset = folds[0].task.dataset(rows)
        modelled = [fold.by_model(rows, dataset, accelerator) for fold in folds]
    # Each token's state is held while members read it: of some rows at a time.
    some = _READ if frozen is not None and frozen.tokens else max(1, rows.height)
    beside: list[list[dict[str, pl.DataFrame]]] = [[] for _ in folds]
    for start in range(0, max(1, rows.height), some):
        part = rows[start : start + some]
        read = Read(part) if frozen is None else read_with(part, frozen.embed(part))
        for fold, tables in zip(folds, beside, strict=True):
            tables.append(fold.by_members(read, names))
    return [
        model | {name: pl.concat([part[name] for part in tables]) for name in tables[0]}
        for model, tables in zip(modelled, beside, strict=True)
    ]
