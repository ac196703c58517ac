"""The learning rate of a run whose config says `auto`, and what `foldwise lr-find` does.

In: a prepared run. Out: the range test on one fold's training rows. Model and optimizer are the
test's own, made like the fold's and dropped afterwards; nothing is written into a run.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from accelerate import Accelerator
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from foldwise.config import schema
from foldwise.preparation.prepare import Prepared
from foldwise.training.fold import begin_fold
from foldwise.training.lr_finder import RangeTest, range_test
from foldwise.training.optimizers import build_optimizer

LOWEST, HIGHEST, STEPS = 1e-6, 1.0, 100


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
    model, train, sampler, _ = begin_fold(prepared, number, accelerator)
    columns = (TextColumn("finding the learning rate"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=console is None, transient=True) as bar:
        task = bar.add_task("", total=len(rates))
        return range_test(
            model,
            prepared.task,
            prepared.dataset,
            sampler,
            train,
            build_optimizer(model, config.optimizer, prepared.code),
            accelerator,
            rates,
            base=config.optimizer.rate,
            seed=(config.run.seed, number),
            clip=config.training.clip,
            advance=lambda: bar.advance(task),
        )


def find_rate(
    prepared: Prepared, accelerator: Accelerator, console: Console | None = None
) -> tuple[Prepared, dict[str, Any]]:
    """Put the range test's suggestion where the config says `optimizer.lr: auto`.

    The first of the run's folds lends its training rows; the rows that score it are not touched.

    Returns:
        The run with a number for its learning rate, and what to write down of the test.
    """
    fold = prepared.folds[0]
    found = try_rates(prepared, fold, accelerator, np.geomspace(LOWEST, HIGHEST, STEPS), console)
    rate = float(f"{found.steepest:.2g}")
    if console is not None:
        console.print(f"learning rate: {rate:g}, found on fold {fold}'s training rows")
    optimizer = prepared.config.optimizer.at(rate)
    return with_optimizer(prepared, optimizer), {"lr": rate, "fold": fold, **found.as_json()}


def with_optimizer(prepared: Prepared, optimizer: schema.Optimizer) -> Prepared:
    """Return the same run with another optimizer section."""
    return replace(prepared, config=prepared.config.model_copy(update={"optimizer": optimizer}))
