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

from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError, RunInterrupted
from foldwise.hardware import team
from foldwise.hardware.device import build_scaler
from foldwise.hardware.memory import peak_memory_bytes, release_freed_memory
from foldwise.metrics.metric import Metric, builtin_metric, score
from foldwise.parts.usercode import UserCode
from foldwise.preparation.build import build_fold_model
from foldwise.preparation.prepare import Prepared
from foldwise.progress.shown import say, show_progress
from foldwise.run import checkpoints
from foldwise.run.contents import Training
from foldwise.run.files import to_json, write_json
from foldwise.run.folder import STARTS, FoldFolder
from foldwise.run.history import best_epoch, read_history
from foldwise.run.manifests import WEIGHTS
from foldwise.run.readers import read_json
from foldwise.run.seal import check, commit
from foldwise.run.space import free_bytes, no_space
from foldwise.tasks.predictions import to_table
from foldwise.tasks.task import Task
from foldwise.training.adversarial import words_of
from foldwise.training.averaging import WeightAverage, newest_share
from foldwise.training.batching import Sampler
from foldwise.training.footprint import Footprint, footprint
from foldwise.training.inference import infer
from foldwise.training.loading import TrainingRows, reseed, to_device
from foldwise.training.loop import Destination, Evaluate, Settings, fit
from foldwise.training.optimizers import build_optimizer
from foldwise.training.resume import TrainingState
from foldwise.training.schedules import build_schedule
from foldwise.training.shards import build, check_update, in_parts, place
from foldwise.training.together import check_alike, check_parallel
from foldwise.training.tracking import Tracker, build_trackers
from foldwise.training.update import Update


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
        console: where progress is shown; None for silence.
    """
    config, fold = prepared.config, prepared.fold(number)
    if fold.trained.exists():
        check(fold.path, "trained")
        checkpoints.settle(fold, config.training.keep)
        return
    if fold.validation.exists():
        raise FoldwiseError(
            f"{fold.trained} is gone, though the fold was trained and validated; put it back, or "
            f"remove {fold.path} to train the fold anew"
        )
    fold.path.mkdir(parents=True, exist_ok=True)
    with team.called({"train": number}):
        model, rows = begin_fold(prepared, number, accelerator)
        write_json(fold.encoders, prepared.task.state()["rows"])
        steps = _steps(rows, config)
        update = _build_update(model, config, prepared.code, steps, accelerator)
        size = _measure(prepared, fold, model, console)
        _log_start(prepared, number, rows, steps, size, update)
        out = Destination(fold, _tracker(prepared, number, rows, steps, console))
        try:
            outcome = _fit(prepared, number, model, rows, update, out, accelerator)
        finally:
            out.tracker.finish()  # a stopped run too gives the terminal its cursor back
    _finish(prepared, fold, outcome)


def train_along(prepared: Prepared, number: int, accelerator: Accelerator) -> None:
    """Train a fold that another process trains, too: the same steps, and nothing is written.

    Args:
        prepared: rows and folds of the run, as its folder has them.
        number: the fold, from 1.
        accelerator: device and precision.
    """
    model, rows = begin_fold(prepared, number, accelerator)
    steps = _steps(rows, prepared.config)
    update = _build_update(model, prepared.config, prepared.code, steps, accelerator)
    silent = Tracker(None, None, rows.sampler.lengths, show_progress(None, "", steps))
    out = Destination(prepared.fold(number), silent, writes=False)
    _fit(prepared, number, model, rows, update, out, accelerator)


def _fit(
    prepared: Prepared,
    number: int,
    model: nn.Module,
    rows: TrainingRows,
    update: Update,
    out: Destination,
    accelerator: Accelerator,
) -> TrainingState:
    # What all processes do that train the fold.
    config, task = prepared.config, prepared.task
    evaluate = _evaluation(prepared, number, accelerator)
    settings = _settings(prepared, number)
    with team.computing():
        if in_parts(model):
            check_update(config, prepared.code, accelerator)
        return fit(model, task, rows, update, evaluate, out, accelerator, settings)


def _steps(rows: TrainingRows, config: Config) -> int:
    return sum(len(rows.sampler.windows(epoch)) for epoch in range(config.training.passes))


def _build_update(
    model: nn.Module, config: Config, code: UserCode, steps: int, accelerator: Accelerator
) -> Update:
    optimizer = build_optimizer(model, config.optimizer, code)
    schedule = build_schedule(optimizer, config.schedule, steps, code)
    average = WeightAverage(model, newest_share(config.training.average, steps))
    return Update(optimizer, schedule, average, build_scaler(accelerator))


def _measure(
    prepared: Prepared, fold: FoldFolder, model: nn.Module, console: Console | None
) -> Footprint:
    # Told once a run, and checked against the disk before every fold.
    size = footprint(model, prepared.config.optimizer, prepared.code)
    if console is not None and not any(prepared.fold(n).trained.exists() for n in prepared.folds):
        console.print(str(size), highlight=False)
    _check_space(prepared, fold, size)
    return size


def _check_space(prepared: Prepared, fold: FoldFolder, size: Footprint) -> None:
    # At the most two checkpoints that can be gone on from and three of weights alone lie there
    # while one more is written; the folds to come keep their best weights.
    whole = size.checkpoint_bytes + size.state_bytes
    if prepared.config.training.average is not None:
        whole += size.training_bytes - size.state_bytes  # the weights beside their average
    need = (checkpoints.KEEP + 1) * (whole + size.checkpoint_bytes)
    need -= sum(path.stat().st_size for path in fold.checkpoints.glob("step-*/*.safetensors"))
    others = [prepared.fold(number) for number in prepared.folds if number != fold.number]
    need += size.checkpoint_bytes * sum(not other.trained.exists() for other in others)
    if need > free_bytes(fold.path):
        raise RunInterrupted(f"{fold.title} isn't begun: {no_space(fold.path, need)}")


def _log_start(
    prepared: Prepared, number: int, rows: TrainingRows, steps: int, size: Footprint, update: Update
) -> None:
    tokens, padding = rows.sampler.padding(rows.sampler.windows(0))
    prepared.fold(number).append_log(
        STARTS,
        rows=len(rows.positions),
        steps=steps,
        **asdict(size),
        **({"parts": team.size()} if prepared.config.training.shard else {}),
        tokens_an_epoch=tokens,
        padding_share=padding / max(1, tokens + padding),
        **_truncation(prepared.dataset, rows.positions),
        groups=[
            {
                "name": group.get("name"),
                "parameters": sum(p.numel() for p in group["params"]),
                "lr": group.get("initial_lr", group["lr"]),
                "decay": group["weight_decay"],
            }
            for group in update.optimizer.param_groups
        ],
    )


def _tracker(
    prepared: Prepared, number: int, rows: TrainingRows, steps: int, console: Console | None
) -> Tracker:
    config = prepared.config
    fold = prepared.fold(number)
    title = fold.title if fold.for_all else f"{fold.title} of {prepared.assignment.n_folds}"
    opening = partial(build_trackers, config, prepared.code, prepared.run, number)
    chosen = config.selection.metric
    shown = show_progress(console, title, steps, config.training.passes, chosen)
    return Tracker(fold.history, opening, rows.sampler.lengths, shown)


def _settings(prepared: Prepared, number: int) -> Settings:
    config, metric = prepared.config, selection_metric(prepared)
    return Settings(
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
        recipe={
            "lr": config.optimizer.lr,
            "head_lr": config.optimizer.head_lr,
            "schedule": config.schedule.model_dump(),
        },
        adversarial=config.training.adversarial,
    )


def _finish(prepared: Prepared, fold: FoldFolder, outcome: TrainingState) -> None:
    release_freed_memory()
    _draw_curves(prepared, fold, outcome.best_step)
    ended = {
        "steps": outcome.step,
        "best_step": outcome.best_step,
        "best": outcome.best,
        "elapsed_s": round(outcome.elapsed_s, 1),
        "peak_memory_bytes": peak_memory_bytes(prepared.config.training.device),
    }
    fold.append_log("training ended", **ended)
    weights = checkpoints.pointed(fold) / WEIGHTS
    left = [fold.encoders, fold.best, fold.history, *([fold.asked] if fold.for_all else [])]
    commit(fold.path, "trained", left, fold.trained, to_json(ended), weights)
    checkpoints.settle(fold, prepared.config.training.keep)


def _draw_curves(prepared: Prepared, fold: FoldFolder, best_step: int | None) -> None:
    history = read_history(fold.history)
    # Imported only now: nothing before the end of a training draws.
    from foldwise.charts.learning_curves import learning_curves

    learning_curves(
        [line for line in history if line["split"] != "step"]
        or [{**line, "split": "training"} for line in history],
        [metric.name for metric in prepared.task.metrics()],
        best_step,
        fold.curves,
        f"{prepared.config.run.name}, {fold.title}",
    )


def begin_fold(
    prepared: Prepared, number: int, accelerator: Accelerator
) -> tuple[nn.Module, TrainingRows]:
    """Fit a fold's task state and build its untrained model; nothing is written.

    Returns:
        The model on its device, and its training rows.
    """
    config, task = prepared.config, prepared.task
    train = prepared.positions(prepared.assignment.training(number))
    task.fit_rows(prepared.frame[train])
    reseed(config.run.seed, number)
    make = partial(build_fold_model, task, config, prepared.fold(number))
    model = build(make, config.training)
    check_parallel(model)
    if config.training.adversarial is not None:
        words_of(model)  # which refuses a model without any
    place(model, config.training, accelerator)
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
        shares=config.training.pieces,
    )
    return model, TrainingRows(prepared.dataset, train, sampler)


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


def _evaluation(prepared: Prepared, number: int, accelerator: Accelerator) -> Evaluate | None:
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
    metrics = task.metrics()
    splits = {"training": sample, "validation": picking}

    def evaluate(model: nn.Module) -> dict[str, dict[str, float]]:
        check_alike(model, prepared.fold(number).title)
        release_freed_memory()  # what training's steps have left is of other sizes
        scores = {}
        for split, chosen in splits.items():
            positions = prepared.positions(chosen)
            # In silence: the training's own progress stands there.
            logits, target = infer(
                model, dataset, positions, task.collate, accelerator, title=None, together=True
            )
            with torch.inference_mode():
                placed = torch.from_numpy(logits).to(accelerator.device)
                batch = to_device({"target": torch.as_tensor(target)}, accelerator.device)
                loss = task.loss(placed, batch).double().mean().item()
            table = to_table(task, prepared.frame[positions], logits, None, number)
            values = score(metrics, *task.to_arrays(table))
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


def tell_fold(
    prepared: Prepared, number: int, scores: dict[str, float], console: Console | None
) -> None:
    """Say in one line, which stays, what a fold has come to.

    Args:
        prepared: rows and folds of the run.
        number: the fold, trained and validated.
        scores: its scores by metric.
        console: where; None for silence.
    """
    if console is None:
        return
    config, fold = prepared.config, prepared.run.fold(number)
    chosen = config.selection.metric
    name = chosen if chosen in scores else next(iter(scores))
    ended = read_json(fold.trained, Training)
    epoch = best_epoch(fold.history, ended["best_step"])
    best = [] if epoch is None else [f"best epoch {epoch:.3g} of {config.training.epochs}"]
    told = ", ".join([f"{name} {scores[name]:.3f}", *best, f"{ended['elapsed_s']:.0f} s"])
    say(console, f"fold {number} of {prepared.assignment.n_folds}: {told}")
