"""The learning-rate range test: a model and batches in, the loss at rising rates out.

One short training in which the rate grows from step to step (Smith 2017, "Cyclical learning rates
for training neural networks", section 3.3): too small, and the loss stays where it is; right, and
it falls; too large, and it diverges. The model is spent afterwards: it is the caller's copy, made
for the test, and nothing of it is kept. Any `nn.Module`, any batches, and the same windows, loss,
clipping and precision as the training itself.

The few steps go over the same few windows again and again: the losses of other rows differ more
than a step moves them, and that hid the fall on half of the tables that were tried.

For a run (`optimizer.lr: range_test`, `foldwise lr-find`) one fold lends its training rows, and the
rows that score it are not touched.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import cycle, islice
from typing import Any

import numpy as np
from accelerate import Accelerator
from rich.console import Console
from scipy.ndimage import gaussian_filter1d
from torch import Tensor, nn
from torch.optim import Optimizer

from foldwise.config.training import Optimizer as OptimizerConfig
from foldwise.errors import FoldwiseError
from foldwise.hardware.device import build_scaler
from foldwise.models.copies import copies_of
from foldwise.preparation.choose import usual_rate
from foldwise.preparation.prepare import Prepared
from foldwise.progress.shown import show_progress
from foldwise.training.fold import begin_fold
from foldwise.training.loading import TrainingRows, reseed, steps_left, to_device
from foldwise.training.optimizers import build_optimizer

# What `optimizer.lr: range_test` and `lr-find` try: ten steps a decade around the backbone's usual
# rate. Lower ones hardly move the loss, and at higher ones it has risen again.
BELOW, ABOVE, STEPS = 4.0, 40.0, 22
_WINDOWS = 4  # that the steps go over; the smoothing window spans two rounds of them
_DIVERGED = 4.0  # times the lowest mean of a round
_FELL = 0.9  # of the first round's mean: lower than that, it has fallen
_WIDTH = 0.24  # standard deviation, in decades of the rate, of the window that smooths the curve


@dataclass(frozen=True)
class RangeTest:
    """What a range test saw.

    Attributes:
        rates: learning rate of each step, rising.
        losses: mean loss of each step's rows.
        smoothed: the losses under a Gaussian window that reaches to both sides, so that the curve
            doesn't lag behind the rates as a running mean would.
        ended: why the test stopped: "steps", "diverged" or "not finite".
        steepest: the rate at which the smoothed loss falls fastest in the logarithm of the rate;
            what `optimizer.lr: range_test` takes.
        minimum_tenth: a tenth of the rate of the lowest smoothed loss.
        valley: the rate in the middle of the longest stretch over which the loss keeps falling.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    ended: str
    steepest: float
    minimum_tenth: float
    valley: float

    def as_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
        }


def try_rates(
    prepared: Prepared,
    number: int,
    accelerator: Accelerator,
    rates: np.ndarray,
    console: Console | None = None,
) -> RangeTest:
    """Run the range test on a fold's training rows.

    Args:
        prepared: rows and folds, encoded.
        number: the fold, from 1.
        accelerator: device and precision.
        rates: (steps,) rising learning rates of the top block; the other groups keep their ratios.
        console: where progress is shown; None for silence.
    """
    config = prepared.config
    model, rows = begin_fold(prepared, number, accelerator)
    model = copies_of(model)[0]  # of several, each learns as if it were alone
    shown = show_progress(console, "finding the learning rate", len(rates))
    shown.start(0)
    try:
        return range_test(
            model,
            prepared.task,
            rows,
            build_optimizer(model, config.optimizer, prepared.code),
            accelerator,
            rates,
            base=config.optimizer.rate,
            seed=(config.run.seed, number),
            clip=config.training.clip,
            advance=shown.advance,
        )
    finally:
        shown.stop()


def usual_range(prepared: Prepared) -> tuple[float, float]:
    """Return the first and last rate to try, around what `optimizer.lr: auto` takes."""
    usual = usual_rate(prepared.config, prepared.task)
    return usual / BELOW, usual * ABOVE


def find_rate(
    prepared: Prepared, accelerator: Accelerator, console: Console | None = None
) -> tuple[Prepared, dict[str, Any]]:
    """Put the range test's suggestion where the config says `optimizer.lr: range_test`.

    The first of the run's folds lends its training rows; the rows that score it are not touched.

    Returns:
        The run with a number for its learning rate, and what to write down of the test.
    """
    fold = prepared.folds[0]
    rates = np.geomspace(*usual_range(prepared), STEPS)
    found = try_rates(prepared, fold, accelerator, rates, console)
    rate = float(f"{found.steepest:.2g}")
    if console is not None:
        console.print(f"learning rate: {rate:g}, found on fold {fold}'s training rows")
    optimizer = prepared.config.optimizer.at(rate)
    return with_optimizer(prepared, optimizer), {"lr": rate, "fold": fold, **found.as_json()}


def with_optimizer(prepared: Prepared, optimizer: OptimizerConfig) -> Prepared:
    """Return the same run with another optimizer section."""
    return replace(prepared, config=prepared.config.model_copy(update={"optimizer": optimizer}))


def range_test(
    model: nn.Module,
    task: Any,
    rows: TrainingRows,
    optimizer: Optimizer,
    accelerator: Accelerator,
    rates: np.ndarray,
    *,
    base: float,
    seed: tuple[int, int],
    clip: float | None,
    advance: Callable[[int], None] = lambda step: None,
) -> RangeTest:
    """Train with rising rates until they are used up or the loss diverges.

    The steps go over the first few windows, in turn.

    Args:
        model: fresh, on the accelerator's device; it is trained and of no use afterwards.
        task: gives `collate(rows)` and `loss(outputs, batch) -> (B,)`.
        rows: that it is trained on; where they make fewer windows, of the next epochs too.
        optimizer: over the model's parameters; its groups keep the ratios of their rates.
        accelerator: device and precision.
        rates: (steps,) of the group whose rate is `base` now.
        base: what the groups' present rates are relative to.
        seed: run.seed and fold, that order and dropout follow from.
        clip: largest gradient norm, or None.
        advance: told each finished step, from 1.

    Raises:
        FoldwiseError: the loss was not finite within the first steps, so nothing can be said.
    """
    model.train()
    scaler = build_scaler(accelerator)
    starts = [group["lr"] for group in optimizer.param_groups]
    first = islice(steps_left(rows, task.collate, seed), _WINDOWS)
    windows = [(step, list(step.batches)) for step in first]
    losses: list[float] = []
    ended = "steps"
    for number, (rate, (step, batches)) in enumerate(zip(rates, cycle(windows), strict=False)):
        for group, start in zip(optimizer.param_groups, starts, strict=True):
            group["lr"] = start / base * float(rate)
        loss_sum = 0.0
        for micro, (_, batch) in enumerate(batches):
            placed = to_device(batch, accelerator.device)
            reseed(*seed, number, micro, 2)
            with accelerator.autocast():
                outputs: Tensor = model(**{k: v for k, v in placed.items() if k != "target"})
            loss = task.loss(outputs.float(), placed).sum()
            scaler.scale(loss / step.divisor).backward()
            loss_sum += loss.item()
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(trainable, clip or math.inf)
        tried = math.isfinite(norm.item()) or scaler.get_scale() > 1  # float16: half of it is next
        if not (math.isfinite(loss_sum) and tried):
            ended = "not finite"
            break
        losses.append(loss_sum / step.rows)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        advance(len(losses))
        if len(losses) > 10 and _has_diverged(losses):
            ended = "diverged"
            break
    if len(losses) < 10:
        raise FoldwiseError(
            f"the loss was not finite after {len(losses)} steps of the range test; begin it at a "
            "lower rate, or look at the rows and the loss"
        )
    return suggest(rates[: len(losses)], np.array(losses), ended)


def suggest(rates: np.ndarray, losses: np.ndarray, ended: str = "steps") -> RangeTest:
    """Smooth a curve and read three rates off it.

    `steepest` is where Smith's curve falls fastest; `minimum_tenth` the practice of stepping back a
    decade from the lowest point (Gugger 2018); `valley` the middle of the longest falling stretch
    (as fastai documents it); a noisy plateau lengthens that to the left. On three tables and two or
    three seeds each `steepest` was 0.9 to 1.3 times as high under half the smoothing, 0.4 to 0.8
    times under twice that.

    Args:
        rates: (n,) rising.
        losses: (n,) one a step.
        ended: why the test stopped.
    """
    per_decade = (len(rates) - 1) / math.log10(rates[-1] / rates[0])
    # A diverged end would reach back through the window: it is cut off where nothing is read.
    cut = np.minimum(losses, _DIVERGED * losses[:10].mean()) if losses.min() > 0 else losses
    smoothed = gaussian_filter1d(cut, _WIDTH * per_decade, mode="nearest")
    lowest = int(smoothed.argmin())
    falling = smoothed[: lowest + 1]
    slopes = np.gradient(falling, np.log10(rates[: lowest + 1])) if lowest else np.zeros(1)
    return RangeTest(
        rates=tuple(map(float, rates)),
        losses=tuple(map(float, losses)),
        smoothed=tuple(map(float, smoothed)),
        ended=ended,
        steepest=float(rates[int(slopes.argmin())]),
        minimum_tenth=float(rates[lowest]) / 10,
        valley=float(rates[_valley(smoothed)]),
    )


def _has_diverged(losses: Sequence[float]) -> bool:
    # Beyond the lowest point nothing is read off the curve: once all that was won is lost again,
    # the steps that are left would only cost time. Rounds are compared, for windows differ.
    rounds = np.convolve(losses, np.full(_WINDOWS, 1 / _WINDOWS), mode="valid")
    first, lowest, now = rounds[0], rounds.min(), rounds[-1]
    return bool(now > _DIVERGED * lowest or (lowest < _FELL * first and now > first))


def _valley(smoothed: np.ndarray) -> int:
    """Return the middle of the longest decreasing subsequence of a curve, by its steps."""
    length = np.ones(len(smoothed), dtype=np.int64)
    before = np.full(len(smoothed), -1)
    for i in range(1, len(smoothed)):
        higher = np.flatnonzero(smoothed[:i] > smoothed[i])
        if higher.size:
            best = higher[length[higher].argmax()]
            length[i], before[i] = length[best] + 1, best
    end = start = int(length.argmax())
    while before[start] >= 0:
        start = int(before[start])
    return (start + end) // 2
