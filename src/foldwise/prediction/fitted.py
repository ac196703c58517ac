"""A fold at work: what it has fitted in; each voting member's table of new rows out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from accelerate import Accelerator
from torch import nn

from foldwise.config.members import MODEL
from foldwise.members.member import Member
from foldwise.tasks.predictions import to_table, values_to_table
from foldwise.tasks.task import Task
from foldwise.training.inference import infer

# Rows a batch. On a CPU small ones hold less padding and stay in its caches: of 8, 16, 32 and 64, 8
# and 16 were quickest, 64 took a sixth longer (all-MiniLM-L6-v2, 256 tokens, one core).
ON_CPU, ELSEWHERE = 16, 64


@dataclass(frozen=True)
class Fitted:
    """What a fold has fitted: its task, and those members that vote."""

    task: Task
    model: nn.Module | None
    members: Mapping[str, Member]

    def predict(
        self, rows: pl.DataFrame, dataset: Any, accelerator: Accelerator
    ) -> dict[str, pl.DataFrame]:
        """Return each voting member's table of the rows, of which a task made the dataset."""
        tables = {}
        if self.model is not None:
            positions = np.arange(rows.height)
            size = ON_CPU if accelerator.device.type == "cpu" else ELSEWHERE
            logits, _ = infer(
                self.model, dataset, positions, self.task.collate, accelerator, batch_size=size
            )
            tables[MODEL] = to_table(self.task, rows, logits, None, None)
        for name, member in self.members.items():
            tables[name] = values_to_table(self.task, rows, member.predict(rows), None, None)
        return tables
