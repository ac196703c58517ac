"""What an export is made of: one model of a run, its task, and rows to check the copy on.

In: a run and which of its models. Out: the model in float32 on the CPU, what it was fitted with,
and rows of the run's own table: those that the model didn't train on, with their labels, where the
table is still what it was; any rows otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from torch import nn

from foldwise.config.members import MODEL
from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError
from foldwise.predictor import Predictor
from foldwise.run.contents import Manifest
from foldwise.run.folder import DISTILLED, ONES, REFIT, RunFolder
from foldwise.run.ones import first_stage
from foldwise.run.readers import read_json
from foldwise.run.seal import check, read_metrics
from foldwise.table.formats import find_files, sha256_of
from foldwise.tasks.predictions import read_predictions
from foldwise.tasks.text_classification import TextClassification

ROWS, ROWS_SCORED = 300, 1_000  # to check on: for being equal, and for what int8 loses


@dataclass(frozen=True)
class Rows:
    """Rows to check an export on.

    Attributes:
        frame: `row` and the columns that the model reads.
        expected: what PyTorch predicts of them: row, prediction, prob_*.
        target: the labels, in the same order, of rows that the model has not trained on; None
            where such rows aren't known.
        what: says which rows these are.
    """

    frame: pl.DataFrame
    expected: pl.DataFrame
    target: pl.Series | None
    what: str


@dataclass(frozen=True)
class Source:
    """What an export is made of.

    Attributes:
        run: the run.
        name: of the model: fold-1, refit, distilled, or all for the mean of the folds.
        config: as it ran.
        task: its target and text; of the first model.
        models: a fitted task and its model, one a fold.
        predictor: of these models.
        rows: to check on.
        metrics: metrics.json; empty where the run isn't finished.
        manifest: of the run.
    """

    run: RunFolder
    name: str
    config: Config
    task: TextClassification
    models: Sequence[tuple[Any, nn.Module]]
    predictor: Predictor
    rows: Rows
    metrics: dict[str, Any]
    manifest: dict[str, Any]


def open_source(
    path: Path,
    name: str | None = None,
    *,
    data: str | None = None,
    scored: bool = False,
    trust_code: bool = False,
    online: bool = False,
) -> Source:
    """Load the model that is to be exported, and rows to check the export on.

    Args:
        path: the run folder.
        name: fold-1, refit, distilled, or all for the mean of the folds; None: the one model
            that stands for all, if there is one, else fold-1.
        data: a table to check on; None: the run's own.
        scored: it is to be scored on the rows: take more of them.
        trust_code: run the Python files that lie in the run folder.
        online: ask the hub for the backbone that adapters stand beside, and the store for the
            run's table.

    Raises:
        FoldwiseError: no such model, one that can't be exported, or no table to check on.
    """
    run = RunFolder(path)
    name = name or _usual(run)
    predictor = Predictor(
        path,
        model=name,
        trust_code=trust_code,
        device="cpu",
        online=online,
        precision="float32",
        member=MODEL,
    )
    task, config = predictor.task, predictor.config
    if type(task) is not TextClassification:
        raise FoldwiseError(
            f"{path}: task {config.task} is your own, and its rows become batches by its own code, "
            "which an export can't carry; only Foldwise's own tasks can be exported"
        )
    if config.model.quantize is not None:
        raise FoldwiseError(
            f"{path}: model.quantize: the backbone's {config.model.quantize} weights are in a form "
            "that only bitsandbytes reads; train without quantize to export (lora alone is merged)"
        )
    metrics = read_metrics(run) if run.finished else {}
    manifest = read_json(run.manifest, Manifest)
    most = ROWS_SCORED if scored or name in ONES else ROWS
    rows = _rows(predictor, run, data, str(manifest["data_sha256"]), most, online)
    models = predictor.models
    return Source(run, name, config, task, models, predictor, rows, metrics, dict(manifest))


def _usual(run: RunFolder) -> str:
    made = (name for name in (DISTILLED, REFIT) if first_stage(run.one(name)) == "trained")
    return next(made, "fold-1")


def _rows(
    predictor: Predictor, run: RunFolder, data: str | None, sha256: str, most: int, online: bool
) -> Rows:
    path = data or str(predictor.config.data.path)
    try:
        frame = predictor.read(path, labelled=False, online=online or data is not None)
    except FoldwiseError as error:
        if data is not None:
            raise
        raise FoldwiseError(
            f"{error}\nAn export is checked on rows: give --data TABLE, with the run's columns; "
            "it needs no labels"
        ) from None
    target, what = None, f"rows of {Path(path).name}"
    if data is None and _is_as_it_was(path, sha256, online):
        known = _unseen(predictor, run)
        joined = frame.join(known, on="row", how="inner", maintain_order="left")
        if joined.height:
            frame, what = joined, "rows that the model has not trained on"
    if frame.height > most:
        frame = frame.sample(most, seed=0)
    if "target" in frame.columns:
        target, frame = frame["target"], frame.drop("target")
    return Rows(frame, predictor.predict(frame), target, f"{frame.height} {what}")


def _is_as_it_was(path: str, sha256: str, online: bool) -> bool:
    synthetic = path.partition(":")[0] == "synthetic"
    return synthetic or sha256_of(find_files(path, online=online)) == sha256


def _unseen(predictor: Predictor, run: RunFolder) -> pl.DataFrame:
    # Rows by number, with their labels, that no voting model was trained on. What `refit --all`
    # trained on the holdout has no table of it.
    tables = []
    if predictor.model in ONES:
        one = run.one(predictor.model)
        if one.holdout.exists():
            check(one.path, "measured")
            tables.append(read_predictions(one.holdout, predictor.task))
    holdout = predictor.config.holdout
    held = holdout is not None and holdout.path is None  # else they are another table's rows
    for number in predictor.folds:
        fold = run.fold(number)
        if not fold.validation.exists():
            continue
        check(fold.path, "validated")
        if len(predictor.folds) == 1:
            tables.append(read_predictions(fold.predictions, predictor.task))
        if held and fold.holdout.exists():
            tables.append(read_predictions(fold.holdout, predictor.task))
    if not tables:
        return pl.DataFrame(schema={"row": pl.Int64, "target": pl.String})
    return pl.concat([t.select("row", "target") for t in tables]).unique("row", maintain_order=True)


def probabilities(table: pl.DataFrame) -> np.ndarray:
    """Return prob_* of a table, or its predicted numbers, float64 (n, outputs)."""
    names = [name for name in table.columns if name.startswith("prob_")]
    return table.select(names or ["prediction"]).to_numpy().astype(np.float64)
