"""Fold models of a finished run, ready to label new rows.

In: a run folder and a table. Out: one line a row, in the table's order: label and probabilities.
Nothing but the run folder is read, so it works without network and away from where it was trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

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
from foldwise.table.reading import apply_missing, read_table
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

    def predict(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Label rows.

        Args:
            frame: the config's columns as strings (numbers as floats), and `row`; the target column
                may be there. Empty cells are the word "missing", no row is dropped.

        Returns:
            row, target (where it is known), prediction, prob_*, logit_*, in the order of `frame`.
        """
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
        missing = {"text": "fill", "categorical": "category", "target": "error"}
        numeric = self.config.data.missing.numeric
        if numeric == "drop":
            missing["numeric"] = "mean"
        data: Data = self.config.data.model_copy(
            update={
                "path": path,
                "sample": None,
                "missing": self.config.data.missing.model_copy(update=missing),
            }
        )
        data = data_written(data, delimiter, encoding)
        beside = group_column(self.config) if labelled else []
        table = read_table(data, need_target=labelled, holds=holds(self.task), beside=beside)
        self.notes = table.notes
        frame = apply_missing(table.frame, data, need_target=labelled)[0]
        merged = getattr(self.task, "merged", []) if labelled else []
        return merge_labels(frame, data.target, merged)

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
