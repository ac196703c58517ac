"""The members of a fold beside its model: its training rows in; fitted members and predictions out.

In: a `Prepared` and a fold number. Out: `fold-1/members/NAME/` with what was fitted, and what it
predicts of the fold's scored rows and of the holdout. No epoch is picked for them, so they train on
the inner rows too; who stops early may stop by those.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from accelerate import Accelerator
from numpy.typing import NDArray

from foldwise.config.grammar import Part
from foldwise.config.members import beside_the_model
from foldwise.members.member import Member
from foldwise.members.read import Read, Vectors, read_with
from foldwise.members.roster import build_member, checked, outputs_of, reads_embedding
from foldwise.members.store import save_state
from foldwise.preparation.build import holds
from foldwise.preparation.prepare import Prepared
from foldwise.run.files import write_parquet
from foldwise.run.folder import FITTED, MemberFolder
from foldwise.run.seal import add, intact
from foldwise.tasks.predictions import values_to_table


class Members:
    """Fits the members of a run's folds; the frozen backbone passes over the table once for all.

    Args:
        prepared: rows and folds of the run.
        accelerator: device and precision of the frozen backbone.
        only: names of those that are fitted; None for all that the config has.
    """

    def __init__(
        self, prepared: Prepared, accelerator: Accelerator, only: Collection[str] | None = None
    ) -> None:
        self.prepared, self.accelerator = prepared, accelerator
        parts = beside_the_model(prepared.config)
        self.parts = [part for part in parts if only is None or part.name in only]

    def fit(self, number: int) -> None:
        """Fit a fold's members and write what they predict; those that lie there are kept.

        Args:
            number: the fold, from 1.

        Raises:
            FoldwiseError: a member of your own can't be built or doesn't do what a member does.
        """
        fold = self.prepared.fold(number)
        sound, written = intact(fold.path, "members"), []
        scored = self.prepared.assignment.scored(number)
        for part in self.parts:
            folder = fold.member(part.name)
            files = [folder.state, folder.arrays, *([folder.predictions] if len(scored) else [])]
            files += [folder.holdout] if self.prepared.holdout is not None else []
            if not sound.issuperset(files):
                begun = time.monotonic()
                self._fit(part, number, folder)
                seconds = round(time.monotonic() - begun, 3)
                if fold.for_all or not self.prepared.run.finished:  # whose log is closed
                    fold.append_log(FITTED, member=part.name, seconds=seconds)
            written += files
        add(fold.path, "members", written)

    def _fit(self, part: Part, number: int, folder: MemberFolder) -> None:
        prepared, rows = self.prepared, self.prepared.assignment
        train = np.sort(np.concatenate([rows.training(number), rows.inner(number)]))
        embedded = reads_embedding(part, prepared.config, prepared.code)
        read = self._read(train, embedded)
        member = self._build(part)
        inner = np.isin(train, rows.inner(number))
        read.fit(member, self._target(read.rows), inner)
        save_state(folder.path, member.state())
        wanted: list[tuple[Path, Read, int | None]] = []
        if len(scored := rows.scored(number)):
            mine = self._read(scored, embedded)
            wanted.append((folder.predictions, mine, rows.repeat(number)))
        if prepared.holdout is not None:
            wanted.append((folder.holdout, self._held(embedded), None))
        kind, n_outputs = holds(prepared.task), outputs_of(prepared.task)
        for path, read, repeat in wanted:
            values = checked(read.predict(member), read.rows.height, n_outputs, kind, part.name)
            write_parquet(path, values_to_table(prepared.task, read.rows, values, repeat, number))

    def _build(self, part: Part) -> Member:
        prepared = self.prepared
        kind, n_outputs = holds(prepared.task), outputs_of(prepared.task)
        return build_member(part, prepared.config, prepared.code, kind, n_outputs)

    def _read(self, rows: NDArray[np.int64], embedded: bool) -> Read:
        part = self.prepared.part(rows)
        if not embedded:
            return Read(part)
        return read_with(part, self._vectors[0].take(self.prepared.positions(rows)))

    def _held(self, embedded: bool) -> Read:
        held = self.prepared.holdout
        assert held is not None
        return read_with(held, self._vectors[1]) if embedded else Read(held)

    def _target(self, rows: pl.DataFrame) -> NDArray[Any]:
        task, kind = self.prepared.task, holds(self.prepared.task)
        if kind == "number":  # not through float32: scored in the table's own precision
            numbers: NDArray[Any] = rows[str(self.prepared.config.data.target)].to_numpy()[:, None]
            return numbers
        values: NDArray[Any] = task.target_values(rows)  # type: ignore[attr-defined]
        return values.astype(np.float64) if kind == "labels" else values

    @cached_property
    def _vectors(self) -> tuple[Vectors, Vectors]:
        """The vectors of the run's rows, and of the holdout's."""
        # Imported only now: transformers is slow to import, and not every run has a text.
        from foldwise.members.frozen import Frozen

        prepared = self.prepared
        frozen = Frozen.of_run(prepared, self.accelerator)
        vectors, held = frozen.embed(prepared.frame), prepared.holdout
        return vectors, vectors if held is None else frozen.embed(held)
