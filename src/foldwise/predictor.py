"""The answer of a finished run, ready to label new rows.

In: a run folder and a table. Out: one line a row, in the table's order: label and probabilities. In
each fold the members that the answer hangs on predict and are blended; then the folds are averaged.
Nothing but the run folder is read, so it works without network and away from where it was trained.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import polars as pl
import polars.selectors as cs
from rich.console import Console
from torch import nn

from foldwise.config.members import beside_the_model
from foldwise.config.rows import Data
from foldwise.config.training import Precision
from foldwise.decisions.asked import Asked
from foldwise.errors import FoldwiseError
from foldwise.evaluation.answer import answered, mean_answer
from foldwise.evaluation.deciding import ONE, Deciding, read_deciding, with_sureness
from foldwise.hardware.device import build_accelerator, resolve_device, set_deterministic
from foldwise.members.member import KnowsCategories
from foldwise.members.roster import reads_embedding
from foldwise.prediction.file import Frames, Labels, Predicted, Spread, predict_file
from foldwise.prediction.fitted import tables_of
from foldwise.prediction.voters import Loader, choose_members, folders_of
from foldwise.preparation.build import holds, open_run
from foldwise.preparation.resolve import resolve_stored
from foldwise.preparation.rows import group_column
from foldwise.run.files import sha256
from foldwise.run.folder import DISTILLED, RunFolder
from foldwise.run.seal import SEAL
from foldwise.storage.mirror import local_run
from foldwise.table.chunks import NewRows, columns_of, open_rows
from foldwise.table.frames import PandasFrame, Rows, is_pandas, to_frame, to_pandas
from foldwise.table.reading import MISSING, ROW, apply_missing, read_table, take_rows
from foldwise.table.written import data_written
from foldwise.tasks.predictions import values_of
from foldwise.tasks.task import Task, merge_labels


class Predictor:
    """The mean of a run's answers, fold by fold; or that of the one model made of it.

    Attributes:
        folds: the numbers of the folds that vote; none where the one model does.
        chosen: the members that predict, and their weights; of a run that isn't finished, or was
            made before there were members, the model alone.
        notes: what was odd about the table that `read` read last.
        deciding: what is done with labels beyond naming them; None before `decide` was called.

    Args:
        path: the run folder, or its URL in a store.
        folds: the folds that vote; None for all that are trained.
        model: all, `fold-2` (the same as that fold alone), or the one model that stands for all:
            refit or distilled.
        member: model, or the name of another member that predicts alone; None for the answer.
        trust_code: run the Python files that lie in the run folder.
        device: auto, cpu, cuda or mps.
        online: ask the hub for the backbone that adapters stand beside.
        precision: float32, bf16 or fp16; None: the run's, where the device computes in it.
        as_scored: of one fold: answer as its own rows were answered, by weights that follow from
            the other folds; what new rows must be answered by to be compared with them.

    Raises:
        FoldwiseError: not a run folder, a fold or model that isn't trained, a member that the run
            hasn't, code that isn't trusted.
    """

    def __init__(
        self,
        path: str | Path,
        folds: Sequence[int] | None = None,
        *,
        model: str = "all",
        trust_code: bool = False,
        device: str = "auto",
        online: bool = False,
        precision: Precision | None = None,
        member: str | None = None,
        as_scored: bool = False,
    ) -> None:
        self.run = RunFolder(local_run(path))
        stored, self.code = open_run(self.run, trust_code=trust_code)
        # Before CUDA is asked what it can do, which begins it.
        set_deterministic(stored.run.deterministic, resolve_device(device))
        self.config = resolve_stored(stored, device, precision)
        if self.config.data.path is None:
            raise FoldwiseError(
                f"{path}: task {self.config.task} brings its own rows; no table fits"
            )
        self.model = model
        self._alone = member  # whose out-of-fold rows are like the new ones
        self._folders = folders_of(self.run, folds, model)
        self.folds = [folder.number for folder in self._folders if not folder.for_all]
        self.accelerator = build_accelerator(self.config.training)
        self.notes: tuple[str, ...] = ()
        self.deciding: Deciding | None = None
        first = self._folders[0]
        self.chosen = choose_members(self.run, self.config, first, member, as_scored=as_scored)
        loader = Loader(self.run, self.config, self.code, self.chosen, self.accelerator, online)
        self._folds = [loader.fold(folder) for folder in self._folders]
        self._frozen = loader.frozen()

    def decide(self, asked: Asked) -> Deciding:
        """Have more columns from now on: decisions, sets or intervals, predictions left out.

        Args:
            asked: for what.

        Raises:
            FoldwiseError: the run isn't finished, or its task has nothing of the kind.
        """
        distilled = self._folders[0] if self.model == DISTILLED else None
        task, folds = self.task, self.folds
        self.deciding = read_deciding(asked, task, self.run, folds, self._alone, distilled)
        return self.deciding

    @overload
    def predict(self, rows: pl.DataFrame) -> pl.DataFrame: ...

    @overload
    def predict(
        self, rows: Sequence[Mapping[str, Any]] | Sequence[str]
    ) -> list[dict[str, Any]]: ...

    @overload
    def predict(self, rows: PandasFrame) -> PandasFrame: ...

    def predict(self, rows: Rows) -> pl.DataFrame | PandasFrame | list[dict[str, Any]]:
        """Label rows.

        Args:
            rows: a polars or pandas frame or a list of dicts with the config's columns (others
                don't matter), a list of texts where a text is all there is to a row, or what
                `read` returned. Empty cells are the word "missing", no row is dropped.

        Returns:
            The same kind, in the order of `rows`: prediction and prob_*, with a pandas frame's
            index; a list gives a list of dicts. What `read` returned (it has `row`) gives row,
            target (where it is known), prediction, prob_* and logit_*. After `decide` its columns
            too.

        Raises:
            FoldwiseError: a column isn't there, or a cell can't be what its role needs.
        """
        labels = self._label(self.take(rows))
        if isinstance(rows, pl.DataFrame) and ROW in rows.columns:
            return labels
        labels = labels.drop("row", "target", cs.starts_with("logit_"), strict=False)
        if is_pandas(rows):
            return to_pandas(labels, rows)
        return labels if isinstance(rows, pl.DataFrame) else labels.to_dicts()

    def take(self, rows: Rows) -> pl.DataFrame:
        """Return rows as tasks and members read them: `row`, the config's columns, gaps filled.

        Args:
            rows: as for `predict`; of what `read` returned the target stays.

        Raises:
            FoldwiseError: a column isn't there, or a cell can't be what its role needs.
        """
        numbered = isinstance(rows, pl.DataFrame) and ROW in rows.columns
        frame, unread = to_frame(rows, self._columns)
        if odd := [name for name in self._columns if name in unread]:
            raise FoldwiseError(f"rows: column {odd[0]!r} {unread[odd[0]]}")
        target = self.config.data.target
        beside = [frame[target]] if numbered and target in frame.columns else []
        taken = apply_missing(take_rows(frame, self._data), self._data, need_target=False)[0]
        return taken.with_columns(beside)

    def by_member(
        self, taken: pl.DataFrame, names: Collection[str] | None = None
    ) -> list[dict[str, pl.DataFrame]]:
        """Return each member's table of rows, fold by fold, before anything is blended.

        Args:
            taken: what `take` returned.
            names: of voting members; None for all.
        """
        wanted = self.chosen.voting if names is None else names
        parts = [part for part in beside_the_model(self.config) if part.name in wanted]
        reading = any(reads_embedding(part, self.config, self.code) for part in parts)
        frozen = self._frozen if reading else None
        return tables_of(self._folds, taken, frozen, self.accelerator, wanted)

    def _label(self, taken: pl.DataFrame) -> pl.DataFrame:
        tables = self.by_member(taken)
        labelled = mean_answer(tables, self.chosen, self.task).drop("repeat", "fold")
        if self.deciding is None:
            return labelled
        each = [values_of(answered(table, self.chosen, self.task)) for table in tables]
        return self.deciding.columns(labelled, dict(zip(self.folds or [ONE], each, strict=True)))

    def read(
        self,
        path: str,
        *,
        labelled: bool,
        delimiter: str | None = None,
        encoding: str | None = None,
        online: bool = True,
    ) -> pl.DataFrame:
        """Read a table for `predict`, with every row kept; `notes` says what was odd about it.

        Args:
            path: as in data.path.
            labelled: the target column must be there; rare labels that training merged are merged
                here too, and the column of folds.group is read where the table has it.
            delimiter: of this table, instead of the config's.
            encoding: of this table, instead of the config's.
            online: a store that the path names may be asked.

        Raises:
            FoldwiseError: the table can't be read, or lacks a column.
        """
        data = self._data.model_copy(update={"path": path})
        data = data_written(data, delimiter, encoding)
        beside = group_column(self.config) if labelled else []
        table = read_table(
            data,
            need_target=labelled,
            holds=holds(self.task),
            beside=beside,
            online=online,
            stores=self.run.texts,
        )
        self.notes = table.notes
        frame = apply_missing(table.frame, data, need_target=labelled)[0]
        merged = getattr(self.task, "merged", []) if labelled else []
        return merge_labels(frame, data.target, merged)

    def open(
        self,
        path: str,
        carry: Sequence[str] = (),
        *,
        delimiter: str | None = None,
        encoding: str | None = None,
    ) -> NewRows:
        """Open a table of new rows that is read chunk by chunk, of any size.

        Args:
            path: as in data.path.
            carry: columns to take along; ["all"] for every one.
            delimiter: of this table, instead of the config's.
            encoding: of this table, instead of the config's.

        Raises:
            FoldwiseError: the table can't be read, or lacks a column that is needed.
        """
        data = self._data.model_copy(update={"path": path})
        return open_rows(data_written(data, delimiter, encoding), carry)

    def predict_file(
        self,
        rows: NewRows | str,
        out: str | Path,
        *,
        raw: bool = False,
        more: Sequence[Frames] = (),
        console: Console | None = None,
        spread: Spread | None = None,
    ) -> Predicted:
        """Label a table of any size into a file, one line a row, in the table's order.

        Args:
            rows: what `open` returned, or the table's path.
            out: a .parquet, .csv or .jsonl file that doesn't exist yet. What an interrupted call
                has done of it lies in a hidden folder beside it, and is taken up.
            raw: leave cells of a CSV as they are that a spreadsheet takes for formulas.
            more: what adds columns to labelled rows (row, prediction, confidence, prob_*,
                logit_*), one after the other.
            console: where progress is shown; None for silence.
            spread: labels the chunks elsewhere; None: this predictor does.

        Raises:
            FoldwiseError: the table can't be read, or the output can't be written.
        """
        opened = self.open(rows) if isinstance(rows, str) else rows
        labels = self.labels(more)
        return predict_file(opened, labels, Path(out), raw=raw, console=console, spread=spread)

    def labels(self, more: Sequence[Frames] = ()) -> Labels:
        """Return this predictor as what labels a table's chunks.

        Args:
            more: as for `predict_file`.
        """
        models = sum(fold.model is not None for fold in self._folds)
        return Labels(self._label_new, self._identity, models, self.known, more)

    def _label_new(self, rows: pl.DataFrame) -> pl.DataFrame:
        labelled = self._label(apply_missing(rows, self._data, need_target=False)[0])
        return with_sureness(labelled, self.task)

    @property
    def _identity(self) -> dict[str, Any]:
        # The seals name the hash of every file that a prediction hangs on.
        folders = [self.run.path, *(folder.path for folder in self._folders)]
        return {
            "run": [sha256(folder / SEAL) for folder in folders],
            "model": self.model,
            "folds": self.folds,
            "members": list(self.chosen.voting),
            "decisions": None if self.deciding is None else self.deciding.identity(),
            "precision": self.config.training.precision,
            "device": self.accelerator.device.type,
        }

    @property
    def known(self) -> dict[str, frozenset[str | None]]:
        """By category column, the values that the models know; columns that tell are named."""
        known: dict[str, frozenset[str | None]] = {}
        for fold in self._folds:
            voting = [fold.task] if fold.model is not None else []
            for part in (*voting, *fold.members.values()):
                if isinstance(part, KnowsCategories):
                    for name, values in part.categories_known().items():
                        known[name] = known.get(name, frozenset({MISSING})) | {*values}
        return known

    @property
    def _columns(self) -> list[str]:
        return columns_of(self.config.data)

    @property
    def _data(self) -> Data:
        # Of new rows none is dropped: what training dropped for an empty cell is filled here.
        missing = {"text": "fill", "categorical": "category", "target": "error"}
        if self.config.data.missing.numeric == "drop":
            missing["numeric"] = "mean"
        filled = self.config.data.missing.model_copy(update=missing)
        return self.config.data.model_copy(update={"sample": None, "missing": filled})

    @property
    def task(self) -> Task:
        """The first fold's task: its class list and metrics are the run's."""
        return self._folds[0].task

    @property
    def models(self) -> list[tuple[Task, nn.Module]]:
        """Each voting fold's task and fine-tuned model; none where the model has no vote."""
        return [(fold.task, fold.model) for fold in self._folds if fold.model is not None]
