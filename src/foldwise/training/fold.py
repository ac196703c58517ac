"""Step 3a: train one fold's model, from the run's rows to its best checkpoint on disk."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from rich.console import Console
from torch import nn

from foldwise.charts.learning_curves import learning_curves
from foldwise.errors import FoldwiseError, RunInterrupted
from foldwise.hardware.memory import peak_memory_bytes, release_freed_memory
from foldwise.metrics.metric import Metric, builtin_metric, score
from foldwise.preparation.prepare import Prepared
from foldwise.run import checkpoints
from foldwise.run.files import write_json
from foldwise.run.folder import FoldFolder
from foldwise.run.history import read_history
from foldwise.run.space import free_bytes, no_space
from foldwise.tasks.predictions import to_table
from foldwise.tasks.task import Task
from foldwise.training.averaging import newest_share
from foldwise.training.batching import Sampler
from foldwise.training.footprint import Footprint, footprint
from foldwise.training.inference import infer
from foldwise.training.loading import reseed, to_device
from foldwise.training.loop import Evaluate, Settings, fit
from foldwise.training.optimizers import build_optimizer
from foldwise.training.schedules import build_schedule
from foldwise.training.tracking import Tracker, build_trackers


def train_fold(
    prepared: Prepared, number: int, accelerator: Accelerator, console: Console | None = None
) -> None:
    """Train a fold's model, unless it is trained already.

    Everything is fresh: task state, model, optimizer, schedule and random numbers follow from the
    config and the fold alone, so folds can run in any order and in any process.

    Args:
        prepared: rows and folds of the run.
        number: the fold, from 1.
        accelerator: device and precision.
        console: where the progress bar is drawn; None draws none.
    """
    config, run, task = prepared.config, prepared.run, prepared.task
    fold = run.fold(number)
    if fold.trained.exists():
        checkpoints.settle(fold, config.training.keep)
        return
    if fold.validation.exists():
        raise FoldwiseError(
            f"{fold.trained} is gone, though the fold was trained and validated; put it back, or "
            f"remove {fold.path} to train the fold anew"
        )
    fold.path.mkdir(parents=True, exist_ok=True)
    model, train, sampler, sizes = begin_fold(prepared, number, accelerator)
    write_json(fold.encoders, task.state()["rows"])
    steps = sum(len(sampler.windows(epoch)) for epoch in range(config.training.passes))
    optimizer = build_optimizer(model, config.optimizer, prepared.code)
    schedule = build_schedule(optimizer, config.schedule, steps, prepared.code)
    metric = selection_metric(prepared)
    size = footprint(model, config.optimizer, prepared.code)
    if console is not None and not any(run.fold(n).trained.exists() for n in prepared.folds):
        console.print(str(size), highlight=False)
    _check_space(prepared, fold, size)
    title = f"fold {number} of {prepared.assignment.n_folds}"
    opening = partial(build_trackers, config, prepared.code, run, number)
    tracker = Tracker(fold.history, opening, steps, sizes, title, console)
    tokens, padding = sampler.padding(sampler.windows(0))
    run.append_log(
        "training starts",
        fold=number,
        rows=len(train),
        steps=steps,
        **asdict(size),
        tokens_an_epoch=tokens,
        padding_share=padding / max(1, tokens + padding),
        **_truncation(prepared.dataset, train),
        groups=[
            {
                "name": group.get("name"),
                "parameters": sum(p.numel() for p in group["params"]),
                "lr": group.get("initial_lr", group["lr"]),
                "decay": group["weight_decay"],
            }
            for group in optimizer.param_groups
        ],
    )
    try:
        outcome = fit(
            model,
            task,
            prepared.dataset,
            sampler,
            train,
            optimizer,
            schedule,
            _evaluation(prepared, number, metric, accelerator),
            fold,
            tracker,
            accelerator,
            Settings(
                seed=(config.run.seed, number),
                epochs=config.training.passes,
                clip=config.training.clip,
                evaluate_every=config.training.evaluate_every,
                patience=config.training.patience,
                save_seconds=60 * config.training.save_minutes,
                log_every=config.training.log_every,
                metric=config.selection.metric,
                greater_is_better=metric is not None and metric.greater_is_better,
                workers=config.training.workers,
                average=newest_share(config.training.average, steps),
                recipe={
                    "lr": config.optimizer.lr,
                    "head_lr": config.optimizer.head_lr,
                    "schedule": config.schedule.model_dump(),
                },
            ),
        )
    finally:
        tracker.finish()  # a stopped run too gives the terminal its cursor back
    release_freed_memory()
    history = read_history(fold.history)
    learning_curves(
        [line for line in history if line["split"] != "step"]
        or [{**line, "split": "training"} for line in history],
        [metric.name for metric in task.metrics()],
        outcome.best_step,
        fold.curves,
        f"{config.run.name}, fold {number}",
    )
    ended = {
        "steps": outcome.step,
        "best_step": outcome.best_step,
        "best": outcome.best,
        "elapsed_s": round(outcome.elapsed_s, 1),
        "peak_memory_bytes": peak_memory_bytes(config.training.device),
    }
    run.append_log("training ended", fold=number, **ended)
    write_json(fold.trained, ended)
    checkpoints.settle(fold, config.training.keep)


def _check_space(prepared: Prepared, fold: FoldFolder, size: Footprint) -> None:
    # At the most two checkpoints that can be gone on from and three of weights alone lie there
    # while one more is written; the folds to come keep their best weights.
    whole = size.checkpoint_bytes + size.state_bytes
    if prepared.config.training.average is not None:
        whole += size.training_bytes - size.state_bytes  # the weights beside their average
    need = (checkpoints.KEEP + 1) * (whole + size.checkpoint_bytes)
    need -= sum(path.stat().st_size for path in fold.checkpoints.glob("step-*/*.safetensors"))
    others = [prepared.run.fold(number) for number in prepared.folds if number != fold.number]
    need += size.checkpoint_bytes * sum(not other.trained.exists() for other in others)
    if need > free_bytes(fold.path):
        raise RunInterrupted(f"fold {fold.number} isn't begun: {no_space(fold.path, need)}")


def begin_fold(
    prepared: Prepared, number: int, accelerator: Accelerator
) -> tuple[nn.Module, np.ndarray, Sampler, np.ndarray | None]:
    """Fit a fold's task state and build its untrained model; nothing is written.

    Returns:
        The model on its device, positions of the training rows in the dataset, the sampler that
        forms their batches, and their lengths where rows have one.
    """
    config, task = prepared.config, prepared.task
    train = prepared.positions(prepared.assignment.training(number))
    task.fit_rows(prepared.frame[train])
    reseed(config.run.seed, number)
    model = task.build_model().to(accelerator.device)
    lengths = getattr(prepared.dataset, "lengths", None)
    sizes = None if lengths is None else lengths[train]
    chunks = getattr(prepared.dataset, "chunks", None)
    sampler = Sampler(
        lengths=sizes,
        rows=len(train),
        batch_size=config.training.batch_size,
        tokens_per_batch=config.training.tokens_per_batch,
        accumulate=config.training.accumulate,
        seed=(config.run.seed, number),
        chunks=None if chunks is None else chunks[train],
        bucketing=config.training.bucketing,
    )
    return model, train, sampler, sizes


def selection_metric(prepared: Prepared) -> Metric | None:
    """Return the metric that picks the epoch; None where it is the loss."""
    name = prepared.config.selection.metric
    return None if name == "loss" else metric_by_name(prepared.task, name)


def metric_by_name(task: Task, name: str) -> Metric:
    """Return one of a task's metrics; the first it shows where the name is the loss's."""
    shown = {metric.name: metric for metric in task.metrics()}
    if name == "loss":
        return next(iter(shown.values()))
    built_in = getattr(task, "built_in_metric", builtin_metric)
    return shown.get(name) or built_in(name)


def _evaluation(
    prepared: Prepared, number: int, metric: Metric | None, accelerator: Accelerator
) -> Evaluate | None:
    # Scores on the rows that pick the epoch and, for the learning curves, on as many training rows
    # under the same conditions: running training losses lag behind and have dropout in them.
    config, task, dataset = prepared.config, prepared.task, prepared.dataset
    if config.selection.rows == "last":
        return None
    rows = prepared.assignment
    picking = rows.inner(number) if config.selection.rows == "inner" else rows.scored(number)
    train = rows.training(number)
    rng = np.random.default_rng([config.run.seed, number, 0, 0, 3])  # as `reseed` has it
    sample = np.sort(rng.permutation(train)[: min(len(picking), 1000)])
    metrics = {m.name: m for m in [*task.metrics(), *([metric] if metric else [])]}
    splits = {"training": sample, "validation": picking}

    def evaluate(model: nn.Module) -> dict[str, dict[str, float]]:
        release_freed_memory()  # what training's steps have left is of other sizes
        scores = {}
        for split, chosen in splits.items():
            positions = prepared.positions(chosen)
            logits, target = infer(model, dataset, positions, task.collate, accelerator)
            with torch.inference_mode():
                placed = torch.from_numpy(logits).to(accelerator.device)
                batch = to_device({"target": torch.as_tensor(target)}, accelerator.device)
                loss = task.loss(placed, batch).double().mean().item()
            table = to_table(task, prepared.frame[positions], logits, None, number)
            values = score(list(metrics.values()), *task.to_arrays(table))
            scores[split] = {"loss": loss, **values}
        return scores

    return evaluate


def _truncation(dataset: Any, positions: np.ndarray) -> dict[str, Any]:
    cut = getattr(dataset, "cut", None)
    if cut is None:
        return {}
    # Not set against the lengths: chunks overlap and repeat the short columns.
    tokens, cut = dataset.tokens[positions], cut[positions]
    facts = {
        "rows_truncated": int((cut > 0).sum()),
        "tokens_cut_share": float(cut.sum() / max(1, tokens.sum())),
    }
    if bounded := getattr(dataset, "bounded", 0):
        # In the whole table: what is cut of them is a lower bound.
        facts["very_long_rows_not_counted_to_the_end"] = bounded
    chunks = getattr(dataset, "chunks", None)
    return facts if chunks is None else {**facts, "chunks": int(chunks[positions].sum())}
