"""Fold models of a finished run, ready to label new rows.

In: a run folder and a table. Out: one line a row, in the table's order: label and probabilities.
Nothing but the run folder is read, so it works without network and away from where it was trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import polars as pl
from torch import nn

from foldwise.config.rows import Data
from foldwise.config.training import Precision
from foldwise.errors import FoldwiseError
from foldwise.evaluation.summary import mean_of_models
from foldwise.evaluation.validate import load_task
from foldwise.hardware.device import build_accelerator, resolve_device, set_deterministic
from foldwise.models.adapters import merge_adapters
from foldwise.preparation.build import holds, open_run
from foldwise.preparation.resolve import resolve_stored
from foldwise.preparation.rows import group_column
from foldwise.run import checkpoints
from foldwise.run.folder import RunFolder
from foldwise.run.seal import check, trained_folds
from foldwise.run.weights import load_weights
from foldwise.table.frames import PandasFrame, Rows, is_pandas, to_frame, to_pandas
from foldwise.table.reading import ROW, apply_missing, read_table, take_rows
from foldwise.table.written import data_written
from foldwise.tasks.predictions import to_table
from foldwise.tasks.task import Task, merge_labels
from foldwise.training.inference import infer


class Predictor:
    """The mean probability of a run's fold models.

    Attributes:
        notes: what was odd about the table that `read` read last.

    Args:
        path: the run folder.
        folds: the folds whose models vote; None for all that are trained.
        trust_code: run the Python files that lie in the run folder.
        device: auto, cpu, cuda or mps.
        online: ask the hub for the backbone that adapters stand beside.
        precision: float32 or bf16; None: the run's, where the device computes in it.

    Raises:
        FoldwiseError: not a run folder, a fold that isn't trained, code that isn't trusted.
    """

    def __init__(
        self,
        path: str | Path,
        folds: Sequence[int] | None = None,
        *,
        trust_code: bool = False,
        device: str = "auto",
        online: bool = False,
        precision: Precision | None = None,
    ) -> None:
        self.run = RunFolder(Path(path))
        self.online = online
        stored, self.code = open_run(self.run, trust_code=trust_code)
        # Before CUDA is asked what it can do, which begins it.
        set_deterministic(stored.run.deterministic, resolve_device(device))
        self.config = resolve_stored(stored, device, precision)
        if self.config.data.path is None:
            raise FoldwiseError(
                f"{path}: task {self.config.task} brings its own rows; no table fits"
            )
        trained = trained_folds(self.run)
        self.folds = sorted(set(folds)) if folds else trained
        if lacking := sorted(set(self.folds) - set(trained)):
            raise FoldwiseError(f"{path}: fold {lacking[0]} isn't trained; trained are: {trained}")
        if not self.folds:
            raise FoldwiseError(f"{path}: no fold is trained yet")
        self.accelerator = build_accelerator(self.config.training)
        self.notes: tuple[str, ...] = ()
        self._models = [self._load(number) for number in self.folds]

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
            target (where it is known), prediction, prob_* and logit_*.

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
        labels = self._label(taken.with_columns(beside))
        if numbered:
            return labels
        labels = labels.select("prediction", pl.col("^prob_.*$"))
        if is_pandas(rows):
            return to_pandas(labels, rows)
        return labels if isinstance(rows, pl.DataFrame) else labels.to_dicts()

    def _label(self, frame: pl.DataFrame) -> pl.DataFrame:
        tables = []
        for task, model in self._models:
            dataset = task.dataset(frame)
            logits, _ = infer(
                model, dataset, np.arange(frame.height), task.collate, self.accelerator
            )
            tables.append(to_table(task, frame, logits, None, None))
        return mean_of_models(tables, self.task).drop("repeat", "fold")

    def read(
        self,
        path: str,
        *,
        labelled: bool,
        delimiter: str | None = None,
        encoding: str | None = None,
    ) -> pl.DataFrame:
        """Read a table for `predict`, with every row kept; `notes` says what was odd about it.

        Args:
            path: as in data.path.
            labelled: the target column must be there; rare labels that training merged are merged
                here too, and the column of folds.group is read where the table has it.
            delimiter: of this table, instead of the config's.
            encoding: of this table, instead of the config's.

        Raises:
            FoldwiseError: the table can't be read, or lacks a column.
        """
        data = self._data.model_copy(update={"path": path})
        data = data_written(data, delimiter, encoding)
        beside = group_column(self.config) if labelled else []
        table = read_table(data, need_target=labelled, holds=holds(self.task), beside=beside)
        self.notes = table.notes
        frame = apply_missing(table.frame, data, need_target=labelled)[0]
        merged = getattr(self.task, "merged", []) if labelled else []
        return merge_labels(frame, data.target, merged)

    @property
    def _columns(self) -> list[str]:
        data = self.config.data
        return [*data.text, *data.categorical, *data.numeric]

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
        return self._models[0][0]

    def _load(self, number: int) -> tuple[Task, nn.Module]:
        fold = self.run.fold(number)
        check(fold.path, "trained")
        task = load_task(self.run, fold, self.config, self.code, stores=None, online=self.online)
        checkpoint = checkpoints.load_best(fold)
        model = task.build_model()
        load_weights(model, checkpoint.model)
        # Rounded to bf16, the sum of weights and adapters isn't what was validated.
        exact = self.config.training.precision == "float32"
        if self.config.model.lora is not None and exact:
            merge_adapters(model)
        return task, model.to(self.accelerator.device).eval()
