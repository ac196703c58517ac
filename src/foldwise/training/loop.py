"""The training loop: any `nn.Module`, any batches, plain PyTorch, in the order in which it happens.

In: a model, rows, an optimizer. Out: checkpoints on disk and the outcome. Order and dropout follow
from (seed, fold, epoch, step), reseeded for every batch, never from what happened before; so a run
that was killed goes on from its last checkpoint and ends with the same weights, bit for bit.

A *window* is the micro-batches of one optimizer step. The loss is summed over the window's rows and
divided by their number, so accumulated gradients are those of the big batch, in a last window that
doesn't fill as in any other. With `tokens_per_batch` windows hold more rows or fewer, and all of an
epoch are divided by their mean number: every row weighs the same (`Sampler.divisors`). What is
logged is the mean over rows either way.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from foldwise.errors import RunInterrupted
from foldwise.run import checkpoints
from foldwise.run.folder import NOT_FINITE, FoldFolder
from foldwise.training.averaging import Share, WeightAverage
from foldwise.training.batching import Sampler
from foldwise.training.loading import load_batches, reseed, to_device
from foldwise.training.resume import Progress, capture, resume
from foldwise.training.schedules import Plateau
from foldwise.training.tracking import Tracker


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
        average: how much the weights after each step count in their average, which is what is
            scored and kept; None: the weights themselves are.
        recipe: what the learning rates follow from, to notice that a run goes on by another.
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
    average: Share | None = None
    recipe: dict[str, Any] | None = None


# split -> {"loss": ..., metric: ...}; must have "validation".
Evaluate = Callable[[nn.Module], dict[str, dict[str, float]]]


def fit(
    model: nn.Module,
    task: Any,
    dataset: Any,
    sampler: Sampler,
    rows: np.ndarray,
    optimizer: Optimizer,
    schedule: LRScheduler,
    evaluate: Evaluate | None,
    fold: FoldFolder,
    tracker: Tracker,
    accelerator: Accelerator,
    settings: Settings,
) -> Progress:
    """Train a model, from its last checkpoint if the fold has one.

    Args:
        model: on the accelerator's device; called with the batch's tensors but `target` by keyword.
        task: gives `collate(rows)` and `loss(outputs, batch) -> (B,)`.
        dataset: `dataset[position]` is one row.
        sampler: forms the windows out of `range(len(rows))`.
        rows: positions in the dataset of the training rows, int64 (n,).
        optimizer: over the model's trainable parameters.
        schedule: stepped after every optimizer step; a Plateau hears of evaluations too.
        evaluate: scores the model on rows set aside; None: nothing is evaluated, best is last.
        fold: where checkpoints go.
        tracker: where losses and scores go.
        accelerator: device, precision, backward.
        settings: the numbers.

    Returns:
        Where the training ended.

    Raises:
        RunInterrupted: a loss or gradient wasn't finite; nothing was updated or saved in that step.
    """
    model.train()
    average = WeightAverage(model, settings.average)
    done = resume(fold, model, optimizer, schedule, average, settings.recipe)
    started = time.monotonic() - done.elapsed_s
    saved = time.monotonic()
    tracker.start(done.step)
    loss_sum = torch.tensor(done.loss_sum, dtype=torch.float64, device=_double(accelerator))
    stopped = _stale(done, settings)

    for epoch in range(done.epoch, settings.epochs):
        if stopped:
            break
        windows = sampler.windows(epoch)
        divisors = sampler.divisors(windows)
        first = done.window if epoch == done.epoch else 0
        batches = load_batches(
            dataset,
            rows,
            windows,
            first,
            task.collate,
            (*settings.seed, epoch),
            settings.workers,
        )
        micro = sum(len(window) for window in windows[:first])

        for number in range(first, len(windows)):
            window = windows[number]
            window_rows = sum(len(batch) for batch in window)
            window_loss = torch.zeros((), dtype=torch.float64, device=loss_sum.device)
            for _ in window:
                batch = to_device(next(batches), accelerator.device)
                reseed(*settings.seed, epoch, micro, 1)
                micro += 1
                with accelerator.autocast():
                    outputs = model(**{k: v for k, v in batch.items() if k != "target"})
                loss = task.loss(outputs.float(), batch).sum()
                accelerator.backward(loss / divisors[number])
                window_loss += loss.detach().to(window_loss)

            norm = nn.utils.clip_grad_norm_(_trainable(model), settings.clip or math.inf)
            at = epoch + (number + 1) / len(windows)
            numbers = window_loss.item() / window_rows, norm.item()
            _check_finite(
                *numbers, fold, tracker, optimizer, done.step + 1, at, rows[np.concatenate(window)]
            )
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
            average.update(done.step + 1)

            loss_sum += window_loss
            epoch_ends = number + 1 == len(windows)
            done = replace(
                done,
                step=done.step + 1,
                epoch=epoch + epoch_ends,
                window=0 if epoch_ends else number + 1,
                loss_rows=done.loss_rows + window_rows,
                elapsed_s=time.monotonic() - started,
            )
            tracker.advance(done.step, window)
            last_step = epoch_ends and epoch + 1 == settings.epochs

            if done.step % settings.log_every == 0 or last_step:
                rates = [group["lr"] for group in optimizer.param_groups]
                tracker.log_step(
                    done.step, at, loss_sum.item() / done.loss_rows, max(rates), norm.item()
                )
                loss_sum.zero_()
                done = replace(done, loss_rows=0)

            improved = False
            if evaluate is not None and _due(
                done.step, epoch_ends, settings.evaluate_every, last_step
            ):
                with average.applied():
                    scores = evaluate(model)
                done, improved = _judge(done, scores["validation"][settings.metric], settings)
                tracker.log_scores(done.step, at, scores, improved)
                if isinstance(schedule, Plateau):
                    schedule.evaluated(improved)
                stopped = _stale(done, settings)

            ends = stopped or last_step
            save_last = ends or time.monotonic() - saved >= settings.save_seconds
            # Nothing evaluated, or no score was ever a number: the last weights are the best known.
            save_best = improved or (ends and done.best is None)
            if save_last or save_best:
                done = replace(done, loss_sum=loss_sum.item())
                with average.applied():
                    state = capture(
                        done,
                        model,
                        optimizer,
                        schedule,
                        average,
                        whole=save_last,
                        recipe=settings.recipe,
                    )
                    checkpoints.save(fold, state, best=save_best, last=save_last)
                saved = time.monotonic() if save_last else saved
            if stopped:
                break
    return done


def _due(step: int, epoch_ends: bool, every: int | None, last_step: bool) -> bool:
    return last_step or (epoch_ends if every is None else step % every == 0)


def _judge(done: Progress, score: float, settings: Settings) -> tuple[Progress, bool]:
    # A score that isn't a number is never the best, in whichever direction.
    better = not math.isnan(score) and (
        done.best is None
        or (score > done.best if settings.greater_is_better else score < done.best)
    )
    if better:
        return replace(done, best=score, best_step=done.step, stale=0), True
    return replace(done, stale=done.stale + 1), False


def _stale(done: Progress, settings: Settings) -> bool:
    return settings.patience is not None and done.stale >= settings.patience


def _check_finite(
    loss: float,
    norm: float,
    fold: FoldFolder,
    tracker: Tracker,
    optimizer: Optimizer,
    step: int,
    at: float,
    rows: np.ndarray,
) -> None:
    if math.isfinite(loss) and math.isfinite(norm):
        return
    # The numbers go where all others go (null in the files), and in words into the run's log: what
    # the history has past the checkpoint is cut off when training goes on.
    positions = sorted(rows.tolist())
    tracker.log_step(step, at, loss, max(group["lr"] for group in optimizer.param_groups), norm)
    fold.run.append_log(
        NOT_FINITE,
        fold=fold.number,
        step=step,
        epoch=at,
        loss=str(loss),
        grad_norm=str(norm),
        rows=positions,
    )
    raise RunInterrupted(
        f"fold {fold.number}, epoch {math.ceil(at)}, step {step}: the loss is {loss} and the "
        f"gradient norm {norm}; no weight was changed and nothing saved in this step. Give the "
        "same command again with a lower --set optimizer.lr=..., with training.clip or another "
        f"schedule, and it goes on from its last checkpoint; or look at the batch's rows "
        f"(positions among the kept rows): {positions[:64]}"
    )


def _trainable(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _double(accelerator: Accelerator) -> torch.device:
    # MPS has no float64; losses are summed on the CPU there.
    return torch.device("cpu") if accelerator.device.type == "mps" else accelerator.device
