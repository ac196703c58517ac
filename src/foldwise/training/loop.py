"""The training loop: any `nn.Module`, any batches, plain PyTorch, in the order in which it happens.

In: a model, rows, what moves its weights. Out: checkpoints on disk and the outcome. Order and
dropout follow from (seed, fold, epoch, step), reseeded for every batch, never from what happened
before; so a run that was killed goes on from its last checkpoint and ends with the same weights,
bit for bit.

`fit` is the order of things; what stands below it only says when each is due and what is written.
Where a model is several copies (`training.seeds`) each goes forward and backward by itself, so that
the activations of one are held at a time, and its gradient and the clipping are those of one alone.

A *window* is the micro-batches of one optimizer step. The loss is summed over the window's rows and
divided by their number, so accumulated gradients are those of the big batch, in a last window that
doesn't fill as in any other. With `tokens_per_batch` windows hold more rows or fewer, and all of an
epoch are divided by their mean number: every row weighs the same (`Sampler.divisors`). What is
logged is the mean over rows either way.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from foldwise.errors import RunInterrupted
from foldwise.hardware import team
from foldwise.models.copies import copies_of
from foldwise.run import checkpoints
from foldwise.run.folder import NOT_FINITE, FoldFolder
from foldwise.storage.mirror import push_fold
from foldwise.training.adversarial import learn
from foldwise.training.loading import Step, TrainingRows, reseed, steps_left, to_device
from foldwise.training.resume import TrainingState, capture
from foldwise.training.shards import in_parts, whole
from foldwise.training.together import add_up_gradients, check_alike, start_alike
from foldwise.training.tracking import Tracker
from foldwise.training.update import Update


@dataclass(frozen=True)
class Settings:
    """What the loop reads of the config.

    Attributes:
        seed: run.seed and the fold; with epoch and micro-batch all that randomness follows from.
        epochs: passes over the rows.
        clip: largest gradient norm, or None.
        evaluate_every: steps between evaluations; None: at the end of each epoch.
        patience: evaluations without improvement before stopping, or None.
        save_seconds: seconds between saves of `last`.
        log_every: steps between logged losses.
        metric: key of the validation scores that picks the best weights.
        greater_is_better: its direction.
        workers: processes that prepare batches.
        recipe: what the learning rates follow from, to notice that a run goes on by another.
        adversarial: length of the move of the words in a second pass, or None.
    """

    seed: tuple[int, int]
    epochs: int
    clip: float | None
    evaluate_every: int | None
    patience: int | None
    save_seconds: float
    log_every: int
    metric: str
    greater_is_better: bool
    workers: int
    recipe: dict[str, Any] | None = None
    adversarial: float | None = None


@dataclass(frozen=True)
class Destination:
    """Where the outcome of a training goes.

    Attributes:
        fold: where checkpoints go.
        tracker: where losses and scores go.
        writes: whether anything is written; of several processes only the one that leads does.
    """

    fold: FoldFolder
    tracker: Tracker
    writes: bool = True


# A step's summed loss, float64 (), and gradient norm, (), still on the device.
Unread = tuple[Step, Tensor, Tensor]
# split -> {"loss": ..., metric: ...}; must have "validation".
Evaluate = Callable[[nn.Module], dict[str, dict[str, float]]]


def fit(
    model: nn.Module,
    task: Any,
    rows: TrainingRows,
    update: Update,
    evaluate: Evaluate | None,
    out: Destination,
    accelerator: Accelerator,
    settings: Settings,
) -> TrainingState:
    """Train a model, from its last checkpoint if the fold has one, and say where that ended.

    Args:
        model: on the accelerator's device; called with the batch's tensors but `target` by keyword.
        task: gives `collate(rows)` and `loss(outputs, batch) -> (B,)`.
        rows: that it is trained on.
        update: over its trainable parameters.
        evaluate: scores the model on rows set aside; None: nothing is evaluated, best is last.
        out: where checkpoints, losses and scores go.
        accelerator: device and precision.
        settings: the numbers.

    Raises:
        RunInterrupted: a loss or gradient wasn't finite; nothing was updated or saved in that step.
    """
    copies = copies_of(model.train())
    done = start_alike(out.fold, model, update, settings.recipe)
    started, saved = time.monotonic() - done.elapsed_s, time.monotonic()
    out.tracker.start(done.step)
    unread: list[Unread] = []
    for step in _steps_left(done, task, rows, accelerator, settings, in_parts(model)):
        loss_sum = torch.zeros((), dtype=torch.float64, device=_double(accelerator))
        for micro, batch in step.batches:
            batch = to_device(batch, accelerator.device)
            reseed(*settings.seed, step.epoch, micro, 1)
            for copy in copies:  # one, or each as if it were alone
                backward = partial(_backward, copy, task, batch, micro, step, update, accelerator)
                loss_sum += learn(copy, backward, settings.adversarial).to(loss_sum) / len(copies)
        norm = _whole_gradient(model, loss_sum, update, settings)
        done = _after(step, done, time.monotonic() - started)
        unread.append((step, loss_sum, norm))
        if (saves := _saves(saved, model, settings)) or _is_read(done, step, accelerator, settings):
            done = _read(unread, done, rows, update, out)
        update.step(done.step)
        done = _log(done, step, norm, update, out, settings)
        if evaluate is not None and _due(done, step, settings):
            with update.average.applied():
                scores = team.agreed(evaluate(model))
            done = _judge(done, step, scores, update, out, settings)
        ends = step.last or _stale(done, settings)
        if (last := ends or saves) or _improved(done):
            _save(done, model, update, out, settings, last=last, ends=ends)
            saved = time.monotonic() if last else saved
        if ends:
            break
    return done


def _steps_left(
    done: TrainingState,
    task: Any,
    rows: TrainingRows,
    accelerator: Accelerator,
    settings: Settings,
    evenly: bool,
) -> Iterable[Step]:
    if _stale(done, settings):
        return ()
    return steps_left(
        rows,
        task.collate,
        settings.seed,
        settings.epochs,
        epoch=done.epoch,
        window=done.window,
        workers=settings.workers,
        mine=team.mine(),
        evenly=evenly,
        pinned=accelerator.device.type == "cuda",
    )


def _backward(
    model: nn.Module,
    task: Any,
    batch: dict[str, Tensor],
    micro: int,
    step: Step,
    update: Update,
    accelerator: Accelerator,
) -> Tensor:
    with accelerator.autocast():
        outputs = model(**{k: v for k, v in batch.items() if k != "target"})
    loss = task.loss(outputs.float(), batch).sum() * (micro in step.mine)
    update.scaler.scale(loss / step.divisor).backward()
    summed: Tensor = loss.detach()
    return summed


def _whole_gradient(
    model: nn.Module, loss_sum: Tensor, update: Update, settings: Settings
) -> Tensor:
    # Of all processes, and each copy's clipped; returns the largest norm before that.
    trainable = [_trainable(copy) for copy in copies_of(model)]
    add_up_gradients([parameter for copy in trainable for parameter in copy], loss_sum)
    update.scaler.unscale_(update.optimizer)
    most = settings.clip or math.inf
    return torch.stack([whole(nn.utils.clip_grad_norm_(copy, most)) for copy in trainable]).max()


def _trainable(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _after(step: Step, done: TrainingState, elapsed_s: float) -> TrainingState:
    return replace(
        done,
        step=done.step + 1,
        epoch=step.epoch + step.ends_epoch,
        window=0 if step.ends_epoch else step.number + 1,
        loss_rows=done.loss_rows + step.rows,
        elapsed_s=elapsed_s,
    )


def _saves(saved: float, model: nn.Module, settings: Settings) -> bool:
    now = time.monotonic() - saved >= settings.save_seconds
    # All processes put a model in parts together, so all do when the one that leads finds it time.
    return bool(team.agreed(now)) if in_parts(model) else now


def _is_read(done: TrainingState, step: Step, accelerator: Accelerator, settings: Settings) -> bool:
    # Reading waits for the GPU, so it is done where something is logged, evaluated or saved.
    # Elsewhere there is nothing to wait for.
    if accelerator.device.type != "cuda" or done.step % settings.log_every == 0:
        return True
    return step.ends_epoch or _due(done, step, settings)


def _read(
    unread: list[Unread], done: TrainingState, rows: TrainingRows, update: Update, out: Destination
) -> TrainingState:
    # All in one transfer, added up in the order of the steps.
    numbers = torch.stack([torch.stack([loss, norm.to(loss)]) for _, loss, norm in unread])
    first = done.step - len(unread) + 1
    for number, ((step, _, _), (loss, norm)) in enumerate(
        zip(unread, numbers.tolist(), strict=True), first
    ):
        _check_finite(loss / step.rows, norm, number, done.step, step, rows, update, out)
        done = replace(done, loss_sum=done.loss_sum + loss)
    unread.clear()
    return done


def _log(
    done: TrainingState,
    step: Step,
    norm: Tensor,
    update: Update,
    out: Destination,
    settings: Settings,
) -> TrainingState:
    out.tracker.advance(done.step, step.window)
    if done.step % settings.log_every and not step.last:
        return done
    loss = done.loss_sum / done.loss_rows
    out.tracker.log_step(done.step, step.at, loss, update.rate, norm.item())
    return replace(done, loss_sum=0.0, loss_rows=0)


def _due(done: TrainingState, step: Step, settings: Settings) -> bool:
    every = settings.evaluate_every
    return step.last or (step.ends_epoch if every is None else done.step % every == 0)


def _judge(
    done: TrainingState,
    step: Step,
    scores: dict[str, dict[str, float]],
    update: Update,
    out: Destination,
    settings: Settings,
) -> TrainingState:
    score = scores["validation"][settings.metric]
    # A score that isn't a number is never the best, in whichever direction.
    better = not math.isnan(score) and (
        done.best is None
        or (score > done.best if settings.greater_is_better else score < done.best)
    )
    if better:
        done = replace(done, best=score, best_step=done.step, stale=0)
    else:
        done = replace(done, stale=done.stale + 1)
    out.tracker.log_scores(done.step, step.at, scores, better)
    update.evaluated(better)
    return done


def _improved(done: TrainingState) -> bool:
    return done.best_step == done.step


def _stale(done: TrainingState, settings: Settings) -> bool:
    return settings.patience is not None and done.stale >= settings.patience


def _save(
    done: TrainingState,
    model: nn.Module,
    update: Update,
    out: Destination,
    settings: Settings,
    *,
    last: bool,
    ends: bool,
) -> None:
    if ends:
        check_alike(model, out.fold.title)
    if not (out.writes or in_parts(model)):
        return
    # Nothing evaluated, or no score was ever a number: the last weights are the best known.
    best = _improved(done) or (ends and done.best is None)
    with update.average.applied():
        state = capture(done, model, update, whole=last, recipe=settings.recipe)
        if out.writes:
            checkpoints.save(out.fold, state, best=best, last=last)
    if out.writes:
        push_fold(out.fold)


def _check_finite(
    loss: float,
    norm: float,
    number: int,
    now: int,
    step: Step,
    rows: TrainingRows,
    update: Update,
    out: Destination,
) -> None:
    if math.isfinite(loss) and (math.isfinite(norm) or update.passes_over):
        return
    # The numbers go where all others go (null in the files), and in words into the run's log: what
    # the history has past the checkpoint is cut off when training goes on.
    fold = out.fold
    positions = sorted(rows.positions[np.concatenate(step.window)].tolist())
    if out.writes:
        out.tracker.log_step(number, step.at, loss, update.rate, norm)
        told = {"loss": str(loss), "grad_norm": str(norm)}
        fold.append_log(NOT_FINITE, step=number, epoch=step.at, **told, rows=positions)
    remedy = (
        "Give the same command again with a lower --set optimizer.lr=..., with training.clip or "
        "another schedule, and it goes on from its last checkpoint; or look"
    )
    if fold.for_all:  # it has the run's rates, which no option changes
        remedy = "Train the run with a lower optimizer.lr, or with training.clip; or look"
    kept = "no weight was changed and nothing saved in this step"
    if now > number:  # the weights that it has spoiled are nowhere but in memory
        kept = f"it was read after step {now}, and nothing was saved since"
    raise RunInterrupted(
        f"{fold.title}, epoch {math.ceil(step.at)}, step {number}: the loss is {loss} and "
        f"the gradient norm {norm}; {kept}. "
        f"{remedy} at the batch's rows (positions among the kept rows): {positions[:64]}"
    )


def _double(accelerator: Accelerator) -> torch.device:
    # MPS has no float64; losses are summed on the CPU there.
    return torch.device("cpu") if accelerator.device.type == "mps" else accelerator.device
