"""Step 3b: score a fold with the weights that lie on disk.

In: a run folder and a fold number. Out: `predictions.parquet` and `validation.json`. The model in
memory is never used: a fresh one is built from the run folder alone and takes its weights from the
best checkpoint, so what is scored is what a user will load tomorrow.
"""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from torch import nn

from foldwise.config.schema import Config
from foldwise.evaluation.constant import constant_share
from foldwise.hardware import team
from foldwise.hardware.memory import release_freed_memory
from foldwise.metrics.metric import score
from foldwise.parts.usercode import UserCode
from foldwise.preparation.build import build_fold_model, build_task, load_target
from foldwise.preparation.prepare import Prepared
from foldwise.run import checkpoints
from foldwise.run.files import to_json, write_parquet
from foldwise.run.folder import FoldFolder, RunFolder
from foldwise.run.seal import check, commit
from foldwise.run.weights import load_weights
from foldwise.tasks.predictions import to_table
from foldwise.tasks.task import Task
from foldwise.training.inference import infer
from foldwise.training.shards import build, in_parts, place


def validate_fold(prepared: Prepared, number: int, accelerator: Accelerator) -> dict[str, float]:
    """Score a fold from its best checkpoint; the holdout rows too.

    Args:
        prepared: rows and folds of the run.
        number: the fold, from 1.
        accelerator: device and precision.

    Returns:
        The fold's scores by metric.

    Raises:
        FoldwiseError: the fold isn't trained, or its checkpoint is damaged.
    """
    fold = prepared.run.fold(number)
    parts = prepared.config.training.shard and team.size() > 1
    with team.called({"validate": number}) if parts else nullcontext():
        task, model, step = load_fold(prepared, fold, accelerator)
        logits, held_logits = _logits(prepared, number, task, model, accelerator)
    rows = prepared.assignment.scored(number)
    part = prepared.part(rows)
    predictions = to_table(task, part, logits, prepared.assignment.repeat(number), number)
    write_parquet(fold.predictions, predictions)
    if prepared.holdout is not None:
        assert held_logits is not None
        write_parquet(fold.holdout, to_table(task, prepared.holdout, held_logits, None, number))
    release_freed_memory()
    arrays = task.to_arrays(predictions)
    scores = score(task.metrics(), *arrays)
    result: dict[str, Any] = {
        "fold": number,
        "checkpoint": checkpoints.pointed(fold).name,
        "step": step,
        "rows": len(rows),
        "precision": prepared.config.training.precision,
        "scores": scores,
    }
    per_class = getattr(task, "per_class", None)
    if per_class is not None and (scored := per_class(*arrays[:2])):
        result["per_class"] = scored
    if (share := constant_share(*arrays[:2])) is not None:
        commonest = predictions["prediction"].value_counts(sort=True)["prediction"][0]
        result["constant"] = {"prediction": commonest, "share": share}
        prepared.run.append_log("constant predictions", fold=number, **result["constant"])
    held_too = [fold.holdout] if prepared.holdout is not None else []
    left = [fold.predictions, *held_too]
    commit(fold.path, "validated", left, fold.validation, to_json(result))
    return scores


def validate_along(prepared: Prepared, number: int, accelerator: Accelerator) -> None:
    """Run the model over the rows of step 3b, where each process holds a part of it."""
    task, model, _ = load_fold(prepared, prepared.run.fold(number), accelerator)
    _logits(prepared, number, task, model, accelerator)


def _logits(
    prepared: Prepared, number: int, task: Task, model: nn.Module, accelerator: Accelerator
) -> tuple[np.ndarray, np.ndarray | None]:
    # Of the rows that score the fold, and of the holdout's.
    rows = prepared.positions(prepared.assignment.scored(number))
    workers, parts = prepared.config.training.workers, in_parts(model)
    with team.computing():
        logits, _ = infer(
            model,
            prepared.dataset,
            rows,
            task.collate,
            accelerator,
            workers=workers,
            together=parts,
        )
        if prepared.holdout is None:
            return logits, None
        held = task.dataset(prepared.holdout)
        every = np.arange(len(held))
        held_logits, _ = infer(model, held, every, task.collate, accelerator, together=parts)
    return logits, held_logits


def load_fold(
    prepared: Prepared, fold: FoldFolder, accelerator: Accelerator
) -> tuple[Task, nn.Module, int]:
    """Build a fold's task and model from the run folder and load its best weights.

    With `training.shard`, all processes that train together call it, and each holds a part.

    Returns:
        The task with the fold's fitted state, the model in evaluation mode, and the step of its
        weights.
    """
    check(fold.path, "trained")
    run = prepared.run
    task = load_task(
        run, fold, prepared.config, prepared.code, run.token_stores, online=prepared.online
    )
    checkpoint = checkpoints.load_best(fold)
    make = partial(build_fold_model, task, prepared.config, fold)
    model = build(make, prepared.config.training)
    if team.leads():  # and sends the others theirs
        load_weights(model, checkpoint.model)
    place(model.eval(), prepared.config.training, accelerator, learns=False)
    return task, model, checkpoint.step


def load_task(
    run: RunFolder,
    fold: FoldFolder,
    config: Config,
    code: UserCode,
    stores: Path | None,
    *,
    online: bool = False,
) -> Task:
    """Build a run's task with what a fold has fitted, from the run folder alone."""
    task = build_task(config, code, run=run, stores=stores, online=online)
    load_target(task, config, run, fold)
    return task
