"""What a person sees of a training: a bar on a terminal, plain lines where there is none.

In: steps, losses and scores, as the tracker has them. Out: a bar that goes when its fold ends; or,
in a file (cron, CI), one line a minute and one an evaluation, each with its time, so that the file
reads as a log. Either way one line a fold stays.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from foldwise.preparation.prepare import Prepared
from foldwise.run.contents import Training
from foldwise.run.files import now
from foldwise.run.history import read_history
from foldwise.run.readers import read_json

EVERY_S = 60.0  # seconds between two plain lines of a training that evaluates nothing


class Shown(Protocol):
    """What shows a training: the bar, or the lines."""

    def start(self, step: int) -> None:
        """Begin, or go on after `step`."""

    def advance(self, step: int) -> None:
        """Take a finished step."""

    def log_step(self, loss: float, rate: float, speed: str) -> None:
        """Take a training loss, its learning rate and what was done in a second."""

    def log_scores(self, epoch: float, scores: dict[str, float], improved: bool) -> None:
        """Take the scores of an evaluation, on the rows that pick the epoch."""

    def stop(self) -> None:
        """End, whether or not the training came to its end."""


def show_progress(
    console: Console | None,
    title: str,
    steps: int,
    epochs: int | None = None,
    metric: str | None = None,
) -> Shown:
    """Return what shows a training on a console.

    Args:
        console: None for silence.
        title: what is under way ("fold 1 of 5").
        steps: optimizer steps of the whole training.
        epochs: that they are; None where nobody counts epochs.
        metric: that picks the epoch; None where nothing does.
    """
    drawn = console is None or console.is_jupyter or console.is_terminal
    if console is None or (drawn and not console.is_dumb_terminal):
        return Bar(console, title, steps)
    return Lines(console, title, steps, epochs, metric)


class Bar:
    """A bar with step, loss, learning rate, speed and time left; without a console, none."""

    def __init__(self, console: Console | None, title: str, steps: int) -> None:
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=console is None,
        )
        self.line = self.bar.add_task(title, total=steps, numbers="")

    def start(self, step: int) -> None:
        """Draw it."""
        self.bar.start()
        self.bar.update(self.line, completed=step)

    def advance(self, step: int) -> None:
        """Move it."""
        self.bar.update(self.line, completed=step)

    def log_step(self, loss: float, rate: float, speed: str) -> None:
        """Write the numbers beside it."""
        self.bar.update(self.line, numbers=f"loss {loss:.3f}  lr {rate:.1e}  {speed}")

    def log_scores(self, epoch: float, scores: dict[str, float], improved: bool) -> None:
        """Change nothing: the fold's line has the best of them."""

    def stop(self) -> None:
        """Remove it, and give the terminal its cursor back."""
        self.bar.stop()


class Lines:
    """Plain lines, for a file."""

    def __init__(
        self, console: Console, title: str, steps: int, epochs: int | None, metric: str | None
    ) -> None:
        self.console, self.title, self.metric = console, title, metric
        self.steps, self.epochs = steps, epochs
        self.step = self.first = 0
        self.numbers: list[str] = []
        self.began = self.told = time.monotonic()

    def start(self, step: int) -> None:
        """Say how much there is to do."""
        self.step = self.first = step
        self.began = self.told = time.monotonic()
        whole = f"{self.steps} steps" + (f" in {self.epochs} epochs" if self.epochs else "")
        self._tell(f"goes on after step {step} of {whole}" if step else f"starts, {whole}")

    def advance(self, step: int) -> None:
        """Say where it is, once a minute."""
        self.step = step
        if time.monotonic() - self.told >= EVERY_S:
            share = step / self.steps
            self._tell(*self._place(self.epochs and share * self.epochs), *self.numbers)

    def log_step(self, loss: float, rate: float, speed: str) -> None:
        """Keep the numbers for the next line."""
        self.numbers = [f"loss {loss:.3f}", speed]

    def log_scores(self, epoch: float, scores: dict[str, float], improved: bool) -> None:
        """Say how an evaluation came out."""
        chosen = self.metric if self.metric in scores else next(iter(scores))
        names = dict.fromkeys([chosen, "loss"])
        told = [f"{name} {scores[name]:.3f}" for name in names if name in scores]
        best = ["best so far"] if improved else []
        training = [f"training {number}" for number in self.numbers[:1]] + self.numbers[1:]
        self._tell(*self._place(epoch), "evaluated: " + ", ".join([*told, *best]), *training)

    def stop(self) -> None:
        """End; every line stands already."""

    def _place(self, epoch: float | None) -> list[str]:
        at = [] if epoch is None else [f"epoch {epoch:.3g} of {self.epochs}"]
        return [*at, f"step {self.step} of {self.steps}"]

    def _tell(self, *parts: str) -> None:
        self.told = time.monotonic()
        done = self.step - self.first
        left = (self.told - self.began) / done * (self.steps - self.step) if done else 0
        # What is left is at most this: training may stop earlier.
        ending = [f"{timedelta(seconds=round(left))} left"] if done and left else []
        say(self.console, f"{self.title}: " + ", ".join([*parts, *ending]))


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
    epochs = [e["epoch"] for e in read_history(fold.history) if e["step"] == ended["best_step"]]
    best = [f"best epoch {epochs[-1]:.3g} of {config.training.epochs}"] if epochs else []
    told = ", ".join([f"{name} {scores[name]:.3f}", *best, f"{ended['elapsed_s']:.0f} s"])
    say(console, f"fold {number} of {prepared.assignment.n_folds}: {told}")


def say(console: Console, line: str) -> None:
    """Print a line in one piece; in a file with its time in front, as `log.jsonl` has it."""
    interactive = console.is_terminal or console.is_jupyter
    console.print(
        line if interactive else f"{now()} {line}", highlight=False, markup=False, soft_wrap=True
    )
