"""Where the numbers of a training go: `metrics.jsonl`, trackers, and what a person sees.

In: losses and scores, as the loop has them. Out: one JSON line an event. After a resume the lines
past the checkpoint are cut off before new ones are written, so no step stands there twice; trackers
are told the step they go on from. TensorBoard is one of them, a class of yours another.
"""

from __future__ import annotations

import inspect
import json
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError
from foldwise.parts.registry import build_part, find_part, match_part
from foldwise.parts.usercode import UserCode
from foldwise.progress.shown import Shown
from foldwise.run.files import append_line, finite, write_text
from foldwise.run.folder import RunFolder
from foldwise.run.history import read_history


class NumberTracker(Protocol):
    """What `trackers` names: one object a fold; its constructor takes any of what is offered.

    Offered by name: `folder` (a folder of its own, made), `step` (the step it goes on after: 0, or
    that of the checkpoint; whatever it was told past it comes again), `fold`, `run` (its name) and
    `config` (every key with its value, as plain maps and lists).
    """

    def log(self, step: int, values: dict[str, float], split: str) -> None:
        """Take the numbers of a step; split is step, training or validation."""

    def close(self) -> None:
        """End, once the fold is trained or the run stops."""


OFFERED = ("folder", "step", "fold", "run", "config")


class TensorBoard:
    """Event files for TensorBoard.

    Args:
        folder: where they go.
        step: events past it are hidden; new ones take their place.
    """

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer: Any = SummaryWriter(folder, purge_step=step + 1)

    def log(self, step: int, values: dict[str, float], split: str) -> None:
        """Write one scalar a value, named `split/value`."""
        for name, value in values.items():
            self.writer.add_scalar(f"{split}/{name}", value, step)

    def close(self) -> None:
        """Close the event file."""
        self.writer.close()

    @staticmethod
    def summarize(folder: Path, scores: dict[str, Any]) -> None:
        """Write the cross-validated scores, and each fold's."""
        from torch.utils.tensorboard import SummaryWriter

        writer: Any = SummaryWriter(folder)
        for name in scores["mean"]:
            writer.add_scalar(f"cross_validation/mean_{name}", scores["mean"][name], 0)
            writer.add_scalar(f"cross_validation/oof_{name}", scores["oof"][name]["value"], 0)
            for number, values in scores["folds"].items():
                if values[name] is not None:
                    writer.add_scalar(f"cross_validation/fold_{name}", values[name], int(number))
        writer.close()


def check_trackers(config: Config, code: UserCode) -> None:
    """Check the trackers without building them: that could open files, or a connection.

    Raises:
        FoldwiseError: no such class, other arguments than its constructor's, or methods that can't
            be called as NumberTracker's are.
    """
    for number, part in enumerate(config.trackers):
        where = f"trackers[{number}]"
        offered = dict.fromkeys(OFFERED)
        found, _ = match_part("tracker", part.name, part.arguments, code, where, **offered)
        for method, arguments in {"log": (1, {"loss": 0.5}, "step"), "close": ()}.items():
            try:
                inspect.signature(getattr(found, method)).bind(None, *arguments)
            except (AttributeError, TypeError) as error:
                raise FoldwiseError(
                    f"{where}: {part.name} must be a class with log(self, step, values, split) and "
                    f"close(self): {error}"
                ) from None


def build_trackers(
    config: Config, code: UserCode, run: RunFolder, fold: int, step: int
) -> list[NumberTracker]:
    """Build the trackers that the config names, for one fold.

    Args:
        config: resolved.
        code: the user's files.
        run: each tracker gets a folder of its own in it.
        fold: the fold, from 1.
        step: the last step that stands.

    Raises:
        FoldwiseError: a constructor fails.
    """
    trackers = []
    for number, part in enumerate(config.trackers):
        folder = run.tracker(part.name, fold)
        folder.mkdir(parents=True, exist_ok=True)
        tracker: NumberTracker = build_part(
            "tracker",
            part.name,
            part.arguments,
            code,
            f"trackers[{number}]",
            folder=folder,
            step=step,
            fold=fold,
            run=config.run.name,
            config=config.model_dump(),
        )
        trackers.append(tracker)
    return trackers


def tell_trackers(config: Config, code: UserCode, run: RunFolder, scores: dict[str, Any]) -> None:
    """Tell the trackers that want to know (`summarize`) what a finished run has come to.

    Args:
        config: resolved.
        code: the user's files.
        run: each tracker gets a folder `summary` in its own.
        scores: what metrics.json will hold.
    """
    for number, part in enumerate(config.trackers):
        tracker = find_part("tracker", part.name, code, f"trackers[{number}]")
        summarize = getattr(tracker, "summarize", None)
        if summarize is None:
            continue
        folder = run.path / part.name / "summary"
        folder.mkdir(parents=True, exist_ok=True)
        offered = {"run": config.run.name, "config": config.model_dump(), "scores": scores}
        taken = inspect.signature(summarize).parameters
        chosen = {key: value for key, value in offered.items() if key in taken}
        try:
            summarize(folder, **chosen, **part.arguments)
        except Exception as error:  # the scores are in metrics.json, whoever else hears of them
            _warn(tracker, "summarize", error)


class Tracker:
    """One fold's numbers.

    Args:
        history: the fold's metrics.jsonl; None in a process that doesn't lead: nothing is told.
        opening: builds the fold's trackers, given the step they go on after; None: none.
        sizes: tokens of each training row, int64 (rows,), or None: speed is in rows.
        shown: what shows them to a person.
    """

    def __init__(
        self,
        history: Path | None,
        opening: Callable[[int], list[NumberTracker]] | None,
        sizes: np.ndarray | None,
        shown: Shown,
    ) -> None:
        self.history = history
        self.opening = opening
        self.trackers: list[NumberTracker] = []
        self.sizes = sizes
        self.unit = "rows" if sizes is None else "tokens"
        self.shown = shown
        self.seen = 0
        self.since = time.monotonic()

    def start(self, step: int) -> None:
        """Begin, or go on after `step`: whatever was logged past it is dropped."""
        if self.history is not None:
            kept = [line for line in read_history(self.history) if line["step"] <= step]
            write_text(self.history, "".join(json.dumps(line) + "\n" for line in kept))
        if self.opening is not None:
            self.trackers = self.opening(step)
        self.shown.start(step)
        self.since = time.monotonic()

    def advance(self, step: int, window: Sequence[np.ndarray]) -> None:
        """Count a finished step and the rows or tokens in its window."""
        self.seen += sum(
            len(batch) if self.sizes is None else int(self.sizes[batch].sum()) for batch in window
        )
        self.shown.advance(step)

    def log_step(self, step: int, epoch: float, loss: float, rate: float, norm: float) -> None:
        """Write a training loss (mean over the rows since the last), rate and gradient norm."""
        speed = self.seen / max(time.monotonic() - self.since, 1e-9)
        self.seen, self.since = 0, time.monotonic()
        values = {"loss": loss, "lr": rate, "grad_norm": norm}
        self._write({"split": "step", "step": step, "epoch": epoch, **values})
        self._tell(step, {**values, f"{self.unit}_per_s": speed}, "step")
        self.shown.log_step(loss, rate, f"{speed:,.0f} {self.unit}/s")

    def log_scores(
        self, step: int, epoch: float, scores: dict[str, dict[str, float]], improved: bool
    ) -> None:
        """Write the scores of an evaluation, split by split."""
        for split, values in scores.items():
            entry = {"split": split, "step": step, "epoch": epoch, **values}
            if split == "validation":
                entry["best"] = improved
            self._write(entry)
            self._tell(step, values, split)
        self.shown.log_scores(epoch, scores["validation"], improved)
        self.since = time.monotonic()  # the time spent evaluating isn't training speed

    def finish(self) -> None:
        """Close what is shown and the trackers."""
        self.shown.stop()
        for tracker in self.trackers:
            try:
                tracker.close()
            except Exception as error:
                _warn(tracker, "close", error)
        self.trackers = []

    def _write(self, entry: dict[str, Any]) -> None:
        if self.history is not None:
            append_line(self.history, json.dumps(finite(entry)))

    def _tell(self, step: int, values: dict[str, float], split: str) -> None:
        for tracker in list(self.trackers):
            try:
                tracker.log(step, dict(values), split)
            except Exception as error:  # a dashboard that is down must not cost the training
                self.trackers.remove(tracker)
                _warn(tracker, "log", error)


def _warn(tracker: Any, method: str, error: Exception) -> None:
    name = (tracker if inspect.isclass(tracker) else type(tracker)).__name__
    warnings.warn(
        f"trackers: {name}.{method} fails ({type(error).__name__}: {error}); "
        "training goes on without it, metrics.jsonl has every number",
        stacklevel=3,
    )
