"""What a person sees of long work: a bar on a terminal, plain lines where there is none.

In: how far it is, and a training's losses and scores, as the tracker has them. Out: a bar that goes
when it ends; or, in a file (cron, CI), one line a minute and one an evaluation, each with its time,
so that the file reads as a log. What takes no longer than a few seconds shows nothing, unless it is
a training.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import Protocol

import rich
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from foldwise.run.files import now

EVERY_S = 60.0  # seconds between two plain lines of a training that evaluates nothing
QUICK_S = 5.0  # seconds that work without a start of its own takes before it is shown


class Shown(Protocol):
    """What shows long work: the bar, or the lines."""

    def start(self, step: int) -> None:
        """Begin, or go on after `step`; without it `advance` begins, once that took QUICK_S."""

    def advance(self, step: int) -> None:
        """Take a finished step."""

    def log_step(self, loss: float, rate: float, speed: str) -> None:
        """Take a training loss, its learning rate and what was done in a second."""

    def log_speed(self, speed: str) -> None:
        """Take what was done in a second."""

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
    *,
    unit: str = "step",
) -> Shown:
    """Return what shows long work on a console.

    Args:
        console: None for silence.
        title: what is under way ("fold 1 of 5").
        steps: of the whole work; of a training, optimizer steps.
        epochs: that they are; None where nobody counts epochs.
        metric: that picks the epoch; None where nothing does.
        unit: what a step is called.
    """
    drawn = console is None or console.is_jupyter or console.is_terminal
    if console is None or (drawn and not console.is_dumb_terminal):
        return Bar(console, title, steps)
    return Lines(console, title, steps, epochs, metric, unit)


_SHOWN: ContextVar[bool] = ContextVar("shown", default=False)  # parts of shown work are silent


@contextmanager
def rows_shown(title: str | None, rows: int) -> Iterator[Callable[[int], None]]:
    """Show work over rows that no console was handed down to: on rich's own, in a command.

    A command makes that console stderr's, silent with --quiet. In a script and in a notebook it is
    stdout's, which is left to them.

    Args:
        title: what is under way ("tokenizing"); None for silence.
        rows: of the whole work.

    Yields:
        What is to be told how many rows are done.
    """
    if _whole:
        yield _whole[-1].part(title, rows)
        return
    console = rich.get_console()
    heard = title is not None and not console.quiet and console.stderr and not _SHOWN.get()
    shown = show_progress(console if heard else None, title or "", rows, unit="row")
    before = _SHOWN.set(_SHOWN.get() or title is not None)
    try:
        yield shown.advance
    finally:
        _SHOWN.reset(before)
        shown.stop()


class Whole:
    """Work over many rows, chunk by chunk, of which `rows_shown` inside tells how far a chunk is.

    Args:
        shown: the bar, or the lines.
        title: what is under way; work under other titles inside is not told.
        passes: over the rows of a chunk under that title.
    """

    def __init__(self, shown: Shown, title: str, passes: int) -> None:
        self.shown, self.title, self.passes = shown, title, max(1, passes)
        self.first = self.done = self.height = self.passed = 0
        self.began = time.monotonic()

    def skip(self, done: int) -> None:
        """Go on after rows that an earlier call has done."""
        self.first = done
        self.shown.start(done)

    def begin(self, done: int, height: int) -> None:
        """Begin a chunk of so many rows, after so many that are done."""
        if done:
            self._tell(done)
        self.done, self.height, self.passed = done, height, 0

    def part(self, title: str | None, rows: int) -> Callable[[int], None]:
        """Return what is to be told how many of a chunk's rows a pass has done."""
        if title != self.title:
            return lambda done: None
        before, self.passed = self.passed, self.passed + 1

        def advance(done: int) -> None:
            share = (before + done / max(1, rows)) / self.passes
            self._tell(self.done + int(min(1.0, share) * self.height))

        return advance

    def _tell(self, done: int) -> None:
        elapsed_s = time.monotonic() - self.began
        if done > self.first and elapsed_s > 0:
            self.shown.log_speed(f"{(done - self.first) / elapsed_s:,.0f} rows/s")
        self.shown.advance(done)


_whole: list[Whole] = []  # what is under way around `rows_shown`, the innermost last


@contextmanager
def whole_shown(console: Console | None, title: str, rows: int, passes: int = 1) -> Iterator[Whole]:
    """Show work over rows that come in chunks, with what is done in a second and the time left.

    Args:
        console: None for silence.
        title: what is under way, as `rows_shown` inside calls it.
        rows: of the whole work.
        passes: of `rows_shown` over each chunk.
    """
    shown = show_progress(console, title, rows, unit="row")
    _whole.append(Whole(shown, title, passes))
    try:
        yield _whole[-1]
    finally:
        _whole.pop()
        shown.stop()


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
        self.due = time.monotonic() + QUICK_S

    def start(self, step: int) -> None:
        """Draw it."""
        self.bar.start()
        self.bar.update(self.line, completed=step)

    def advance(self, step: int) -> None:
        """Move it."""
        if not self.bar.live.is_started and time.monotonic() >= self.due:
            self.bar.start()
        self.bar.update(self.line, completed=step)

    def log_step(self, loss: float, rate: float, speed: str) -> None:
        """Write the numbers beside it."""
        self.bar.update(self.line, numbers=f"loss {loss:.3f}  lr {rate:.1e}  {speed}")

    def log_speed(self, speed: str) -> None:
        """Write it beside it."""
        self.bar.update(self.line, numbers=speed)

    def log_scores(self, epoch: float, scores: dict[str, float], improved: bool) -> None:
        """Change nothing: the fold's line has the best of them."""

    def stop(self) -> None:
        """Remove it, and give the terminal its cursor back."""
        self.bar.stop()


class Lines:
    """Plain lines, for a file."""

    def __init__(
        self,
        console: Console,
        title: str,
        steps: int,
        epochs: int | None,
        metric: str | None,
        unit: str,
    ) -> None:
        self.console, self.title, self.metric = console, title, metric
        self.steps, self.epochs, self.unit = steps, epochs, unit
        self.step = self.first = 0
        self.numbers: list[str] = []
        self.began = time.monotonic()
        self.due = self.began + QUICK_S

    def start(self, step: int) -> None:
        """Say how much there is to do."""
        self.step = self.first = step
        self.began = time.monotonic()
        whole = f"{self.steps} {self.unit}s" + (f" in {self.epochs} epochs" if self.epochs else "")
        self._tell(f"goes on after step {step} of {whole}" if step else f"starts, {whole}")

    def advance(self, step: int) -> None:
        """Say where it is, once a minute."""
        self.step = step
        if time.monotonic() >= self.due:
            share = step / self.steps
            self._tell(*self._place(self.epochs and share * self.epochs), *self.numbers)

    def log_step(self, loss: float, rate: float, speed: str) -> None:
        """Keep the numbers for the next line."""
        self.numbers = [f"loss {loss:.3f}", speed]

    def log_speed(self, speed: str) -> None:
        """Keep it for the next line."""
        self.numbers = [speed]

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
        return [*at, f"{self.unit} {self.step:,} of {self.steps:,}"]

    def _tell(self, *parts: str) -> None:
        told = time.monotonic()
        self.due = told + EVERY_S
        done = self.step - self.first
        left = (told - self.began) / done * (self.steps - self.step) if done else 0
        # What is left is at most this: training may stop earlier.
        ending = [f"{timedelta(seconds=round(left))} left"] if done and left else []
        say(self.console, f"{self.title}: " + ", ".join([*parts, *ending]))


def say(console: Console, line: str) -> None:
    """Print a line in one piece; in a file with its time in front, as `log.jsonl` has it."""
    interactive = console.is_terminal or console.is_jupyter
    console.print(
        line if interactive else f"{now()} {line}", highlight=False, markup=False, soft_wrap=True
    )
