"""Where the numbers of a training go: `metrics.jsonl`, TensorBoard and the progress bar.

In: losses and scores, as the loop has them. Out: one JSON line an event. After a resume the lines
past the checkpoint are cut off before new ones are written, so no step stands there twice.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from foldwise.runfolder import append_line, finite, write_text


class Tracker:
    """One fold's numbers.

    Args:
        history: the fold's metrics.jsonl.
        tensorboard: folder for the fold's event files, or None for none.
        steps: optimizer steps of the whole training, for the bar.
        sizes: tokens of each training row, int64 (rows,), or None: the bar counts rows.
        title: what the bar says ("fold 1").
        console: where the bar is drawn; None draws none.
    """

    def __init__(
        self,
        history: Path,
        tensorboard: Path | None,
        steps: int,
        sizes: np.ndarray | None,
        title: str,
        console: Console | None,
    ) -> None:
        self.history = history
        self.tensorboard = tensorboard
        self.sizes = sizes
        self.unit = "rows" if sizes is None else "tokens"
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
        self.writer: Any = None
        self.seen = 0
        self.since = time.monotonic()

    def start(self, step: int) -> None:
        """Begin, or go on after `step`: whatever was logged past it is dropped."""
        kept = [line for line in read_history(self.history) if line["step"] <= step]
        write_text(self.history, "".join(json.dumps(line) + "\n" for line in kept))
        if self.tensorboard is not None:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(self.tensorboard, purge_step=step + 1)
        self.bar.start()
        self.bar.update(self.line, completed=step)
        self.since = time.monotonic()

    def advance(self, step: int, window: Sequence[np.ndarray]) -> None:
        """Count a finished step and the rows or tokens in its window."""
        self.seen += sum(
            len(batch) if self.sizes is None else int(self.sizes[batch].sum()) for batch in window
        )
        self.bar.update(self.line, completed=step)

    def log_step(self, step: int, epoch: float, loss: float, rate: float, norm: float) -> None:
        """Write a training loss (mean over the rows since the last), rate and gradient norm."""
        speed = self.seen / max(time.monotonic() - self.since, 1e-9)
        self.seen, self.since = 0, time.monotonic()
        self._write(
            {
                "split": "step",
                "step": step,
                "epoch": epoch,
                "loss": loss,
                "lr": rate,
                "grad_norm": norm,
            }
        )
        self._plot(step, {"step/loss": loss, "step/lr": rate, "step/grad_norm": norm})
        self._plot(step, {f"step/{self.unit}_per_s": speed})
        self.bar.update(
            self.line, numbers=f"loss {loss:.3f}  lr {rate:.1e}  {speed:,.0f} {self.unit}/s"
        )

    def log_scores(
        self, step: int, epoch: float, scores: dict[str, dict[str, float]], improved: bool
    ) -> None:
        """Write the scores of an evaluation, split by split."""
        for split, values in scores.items():
            entry = {"split": split, "step": step, "epoch": epoch, **values}
            if split == "validation":
                entry["best"] = improved
            self._write(entry)
            self._plot(step, {f"{split}/{name}": value for name, value in values.items()})
        self.since = time.monotonic()  # the time spent evaluating isn't training speed

    def finish(self) -> None:
        """Close the bar and the event file."""
        self.bar.stop()
        if self.writer is not None:
            self.writer.close()

    def _write(self, entry: dict[str, Any]) -> None:
        append_line(self.history, json.dumps(finite(entry)))

    def _plot(self, step: int, values: dict[str, float]) -> None:
        if self.writer is not None:
            for name, value in values.items():
                self.writer.add_scalar(name, value, step)


def read_history(path: Path) -> list[dict[str, Any]]:
    """Read metrics.jsonl; a last line that a kill left half written is not there yet."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1] if line]
