"""The answer of a finished run, ready to label new rows.

In: a run folder and a table. Out: one line a row, in the table's order: label and probabilities. In
each fold the members that the answer hangs on predict and are blended; then the folds are averaged.
Nothing but the run folder is read, so it works without network and away from where it was trained.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import polars as pl
import polars.selectors as cs
from accelerate import Accelerator
from rich.console import Console
from torch import nn

from foldwise.config.members import MODEL, beside_the_model
from foldwise.config.rows import Data
from foldwise.config.training import Precision
from foldwise.ensemble.choose import Chosen
from foldwise.errors import FoldwiseError
from foldwise.evaluation.answer import chosen_of, mean_answer
from foldwise.evaluation.validate import load_task
from foldwise.hardware.device import build_accelerator, resolve_device, set_deterministic
from foldwise.members.frozen import Frozen
from foldwise.members.member import KnowsCategories, Member, with_vectors
from foldwise.members.roster import build_member, outputs_of, reads_embedding
from foldwise.members.store import restore
from foldwise.models.adapters import merge_adapters
from foldwise.prediction.file import Frames, Labels, Predicted, predict_file
from foldwise.preparation.build import holds, open_run
from foldwise.preparation.resolve import resolve_stored
from foldwise.preparation.rows import group_column
from foldwise.run import checkpoints
from foldwise.run.files import sha256
from foldwise.run.folder import DISTILLED, ONES, FoldFolder, RunFolder
from foldwise.run.seal import SEAL, check, read_metrics, trained_folds
from foldwise.run.weights import load_weights
from foldwise.table.chunks import NewRows, columns_of, open_rows
from foldwise.table.frames import PandasFrame, Rows, is_pandas, to_frame, to_pandas
from foldwise.table.reading import MISSING, ROW, apply_missing, read_table, take_rows
from foldwise.table.written import data_written
from foldwise.tasks.predictions import to_table, values_to_table
from foldwise.tasks.task import Task, merge_labels
from foldwise.training.inference import infer

# Rows a batch. On a CPU small ones hold less padding and stay in its caches: of 8, 16, 32 and 64, 8
# and 16 were quickest, 64 took a sixth longer (all-MiniLM-L6-v2, 256 tokens, one core).
ON_CPU, ELSEWHERE = 16, 64


class Predictor:
    """The mean of a run's answers, fold by fold; or that of the one model made of it.

    Attributes:
        folds: the numbers of the folds that vote; none where the one model does.
        chosen: the members that predict, and their weights; of a run that isn't finished, or was
            made before there were members, the model alone.
        notes: what was odd about the table that `read` read last.

    Args:
        path: the run folder.
        folds: the folds that vote; None for all that are trained.
        model: all, `fold-2` (the same as that fold alone), or the one model that stands for all:
            refit or distilled.
        member: model, or the name of another member that predicts alone; None for the answer.
        trust_code: run the Python files that lie in the run folder.
        device: auto, cpu, cuda or mps.
        online: ask the hub for the backbone that adapters stand beside.
        precision: float32 or bf16; None: the run's, where the device computes in it.

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
        self.model = model
        self.folds = [] if model in ONES and not folds else self._trained(folds, model)
        self._folders = [self.run.one(model)] if not self.folds else []
        self._folders += [self.run.fold(number) for number in self.folds]
        for folder in self._folders:
            if folder.for_all and not folder.trained.exists():
                making = "distill" if model == DISTILLED else model
                raise FoldwiseError(
                    f"{path}: has no model {model!r}; make it by: foldwise {making} {path}"
                )
            check(folder.path, "trained")
        self.accelerator = build_accelerator(self.config.training)
        self.notes: tuple[str, ...] = ()
        self.chosen = self._choose(member)
        self._folds = [self._load(folder) for folder in self._folders]
        self._frozen = self._load_frozen()

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
        columns = columns_of(self.config.data)
        frame, unread = to_frame(rows, columns)
        if odd := [name for name in columns if name in unread]:
            raise FoldwiseError(f"rows: column {odd[0]!r} {unread[odd[0]]}")
        target = self.config.data.target
        beside = [frame[target]] if numbered and target in frame.columns else []
        taken = apply_missing(take_rows(frame, self._data), self._data, need_target=False)[0]
        labels = self._label(taken.with_columns(beside))
        if numbered:
            return labels
        labels = labels.select("prediction", cs.starts_with("prob_"))
        if is_pandas(rows):
            return to_pandas(labels, rows)
        return labels if isinstance(rows, pl.DataFrame) else labels.to_dicts()

    def _label(self, frame: pl.DataFrame) -> pl.DataFrame:
        rows = frame
        if self._frozen is not None:
            rows = with_vectors(frame, self._frozen.embed(frame))
        # Tokenized once: what folds fit of other columns is in their collate, not in the rows.
        modelled = any(fold.model is not None for fold in self._folds)
        dataset = self.task.dataset(rows) if modelled else None
        tables = [fold.predict(rows, dataset, self.accelerator) for fold in self._folds]
        return mean_answer(tables, self.chosen, self.task).drop("repeat", "fold")

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

        Raises:
            FoldwiseError: the table can't be read, or the output can't be written.
        """
        opened = self.open(rows) if isinstance(rows, str) else rows
        models = sum(fold.model is not None for fold in self._folds)
        labels = Labels(
            self._label_new, holds(self.task), self._identity, models, self._known, more
        )
        return predict_file(opened, labels, Path(out), raw=raw, console=console)

    def _label_new(self, rows: pl.DataFrame) -> pl.DataFrame:
        return self._label(apply_missing(rows, self._data, need_target=False)[0])

    @property
    def _identity(self) -> dict[str, Any]:
        # The seals name the hash of every file that a prediction hangs on.
        folders = [self.run.path, *(folder.path for folder in self._folders)]
        return {
            "run": [sha256(folder / SEAL) for folder in folders],
            "model": self.model,
            "folds": self.folds,
            "members": list(self.chosen.voting),
            "precision": self.config.training.precision,
            "device": self.accelerator.device.type,
        }

    @property
    def _known(self) -> dict[str, frozenset[str | None]]:
        known: dict[str, frozenset[str | None]] = {}
        for fold in self._folds:
            voting = [fold.task] if fold.model is not None else []
            for part in (*voting, *fold.members.values()):
                if isinstance(part, KnowsCategories):
                    for name, values in part.categories_known().items():
                        known[name] = known.get(name, frozenset({MISSING})) | {*values}
        return known

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

    def _trained(self, folds: Sequence[int] | None, model: str) -> list[int]:
        named = re.fullmatch(r"fold-([1-9]\d{0,5})", model)
        if named is None and model not in ("all", *ONES):
            raise FoldwiseError(
                f"--model {model}: choose all, fold-1 (or another fold), {' or '.join(ONES)}"
            )
        if folds and model != "all":
            raise FoldwiseError(f"--model {model}: is one model; --folds chooses among all of them")
        trained = trained_folds(self.run)
        chosen = sorted(set(folds or ([int(named[1])] if named else trained)))
        if lacking := sorted(set(chosen) - set(trained)):
            raise FoldwiseError(
                f"{self.run.path}: fold {lacking[0]} isn't trained; trained are: {trained}"
            )
        if not chosen:
            raise FoldwiseError(f"{self.run.path}: no fold is trained yet")
        return chosen

    def _choose(self, member: str | None) -> Chosen:
        if member is None and self.model == DISTILLED:
            member = MODEL  # it was taught what the members say together
        if member is None:
            chosen = chosen_of(read_metrics(self.run) if self.run.finished else {})
            names = [MODEL, *(part.name for part in beside_the_model(self.config))]
            if unknown := [name for name in chosen.voting if name not in names]:
                raise FoldwiseError(
                    f"{self.run.metrics}: its answer names {unknown[0]!r}, which the run's config "
                    f"has no member of; put it back from a copy of the run, or give --member"
                )
            return chosen
        there = [path.name for path in sorted(self._folders[0].member("").path.glob("*"))]
        if member not in (MODEL, *there):
            raise FoldwiseError(
                f"{self.run.path}: has no member {member!r}; it has: {', '.join([MODEL, *there])}"
            )
        return Chosen((member,), np.ones(1), False, {})

    def _load(self, fold: FoldFolder) -> _Fold:
        task = load_task(self.run, fold, self.config, self.code, stores=None, online=self.online)
        model = self._load_model(fold, task) if MODEL in self.chosen.voting else None
        names = [name for name in self.chosen.voting if name != MODEL]
        return _Fold(task, model, {name: self._load_member(fold, task, name) for name in names})

    def _load_model(self, fold: FoldFolder, task: Task) -> nn.Module:
        checkpoint = checkpoints.load_best(fold)
        model = task.build_model()
        load_weights(model, checkpoint.model)
        # Rounded to bf16, the sum of weights and adapters isn't what was validated.
        exact = self.config.training.precision == "float32"
        if self.config.model.lora is not None and exact:
            merge_adapters(model)
        return model.to(self.accelerator.device).eval()

    def _load_member(self, fold: FoldFolder, task: Task, name: str) -> Member:
        folder = fold.member(name)
        files = [str(path.relative_to(fold.path)) for path in (folder.state, folder.arrays)]
        check(fold.path, "members", only=files)
        parts = {part.name: part for part in beside_the_model(self.config)}
        kind, width = holds(task), outputs_of(task)
        member = build_member(parts[name], self.config, self.code, kind, width)
        restore(member, folder.path)
        return member

    def _load_frozen(self) -> Frozen | None:
        parts = {part.name: part for part in beside_the_model(self.config)}
        voting = [parts[name] for name in self.chosen.voting if name != MODEL]
        if not any(reads_embedding(part, self.config, self.code) for part in voting):
            return None
        if self.run.frozen.exists():
            name = str(self.run.frozen.relative_to(self.run.path))
            check(self.run.path, "finished", only=[name])
        return Frozen.stored(self.config, self.run, self.accelerator, online=self.online)


@dataclass(frozen=True)
class _Fold:
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
