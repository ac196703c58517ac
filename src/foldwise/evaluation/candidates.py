"""Finished runs as candidates to choose between: run folders in, their scores, rows and cost out.

Everything is read from the files a run left; no model is built and no table is read again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError
from foldwise.metrics.metric import Metric
from foldwise.preparation.build import build_task, load_target, open_run
from foldwise.run.contents import Manifest, Training
from foldwise.run.folder import RunFolder
from foldwise.run.readers import read_json, read_parquet
from foldwise.run.seal import check_finished, read_metrics, sealed_folds
from foldwise.split.assignment import SCHEMA, Assignment, read_assignment
from foldwise.tasks.predictions import read_predictions


@dataclass(frozen=True)
class Cost:
    """What a run took.

    Attributes:
        training_s: seconds of training, all folds added.
        parameters: weights of one fold's model.
        trainable: those that were trained.
        checkpoint_bytes: weights file of one fold.
        memory_bytes: the most that a training process held; None where it wasn't written down.
    """

    training_s: float
    parameters: int | None
    trainable: int | None
    checkpoint_bytes: int | None
    memory_bytes: int | None


@dataclass(frozen=True)
class Candidate:
    """A finished run.

    Attributes:
        name: what tells it from the others: the folder's name, or its path where names are equal.
        run: its folder.
        config: as resolved when it ran.
        scores: what its metrics.json holds.
        metrics: the metrics it shows.
        arrays: target, prediction and probabilities of the out-of-fold rows, as metrics take them.
        out_of_fold: the table these come from, by repeat and row.
        assignment: which rows did what in each fold.
        data_sha256: of the table's bytes.
        origin: hashes of the code and of the pretrained weights that it was made with.
        cost: what it took.
    """

    name: str
    run: RunFolder
    config: Config
    scores: dict[str, Any]
    metrics: tuple[Metric, ...]
    arrays: tuple[np.ndarray, np.ndarray, np.ndarray]
    out_of_fold: pl.DataFrame
    assignment: Assignment
    data_sha256: str
    origin: tuple[Any, Any]
    cost: Cost


def read_candidates(
    paths: Sequence[Path], *, trust_code: bool = False, online: bool = False
) -> list[Candidate]:
    """Read finished runs, in the order given.

    Args:
        paths: the run folders.
        trust_code: run the Python files that lie in them.
        online: ask the hub for the backbones of adapters.

    Raises:
        FoldwiseError: one isn't a finished run, is given twice, or holds code that isn't trusted.
    """
    folders = [path.resolve() for path in paths]
    for number, folder in enumerate(folders):
        if folder in folders[:number]:
            raise FoldwiseError(f"{paths[number]}: given twice; a run can't be set against itself")
    names = [folder.name for folder in folders]
    told = [
        name if names.count(name) == 1 else str(path)
        for name, path in zip(names, paths, strict=True)
    ]
    return [
        _read(name, path, RunFolder(folder), trust_code, online)
        for name, path, folder in zip(told, paths, folders, strict=True)
    ]


def _read(name: str, path: Path, run: RunFolder, trust_code: bool, online: bool) -> Candidate:
    if not run.config.is_file():
        raise FoldwiseError(f"{path}: not a run folder (it has no config.yaml)")
    if not run.finished:
        raise FoldwiseError(
            f"{path}: not finished (it has no metrics.json); give its train command again, then "
            "compare"
        )
    config, code = open_run(run, trust_code=trust_code)
    task = build_task(config, code, run=run, online=online)
    check_finished(run)
    load_target(task, config, run)
    out_of_fold = read_predictions(run.out_of_fold, task)
    manifest = read_json(run.manifest, Manifest)
    return Candidate(
        name=name,
        run=run,
        config=config,
        scores=read_metrics(run),
        metrics=tuple(task.metrics()),
        arrays=task.to_arrays(out_of_fold),
        out_of_fold=out_of_fold,
        assignment=read_assignment(read_parquet(run.folds, SCHEMA)),
        data_sha256=manifest["data_sha256"],
        origin=(manifest.get("code_sha256"), manifest.get("backbone_sha256")),
        cost=_cost(run),
    )


def _cost(run: RunFolder) -> Cost:
    started = next((e for e in run.events() if e["event"] == "training starts"), {})
    ended = [read_json(run.fold(number).trained, Training) for number in sealed_folds(run)]
    memory = [end["peak_memory_bytes"] for end in ended if end.get("peak_memory_bytes")]
    return Cost(
        training_s=sum(end["elapsed_s"] for end in ended),
        parameters=started.get("parameters"),
        trainable=started.get("trainable_parameters"),
        checkpoint_bytes=started.get("checkpoint_bytes"),
        memory_bytes=max(memory, default=None),
    )
