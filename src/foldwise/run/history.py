"""A fold's metrics.jsonl: training losses and evaluations, one a line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from foldwise.run.contents import Logged
from foldwise.run.readers import read_lines


def read_history(path: Path) -> list[dict[str, Any]]:
    """Read metrics.jsonl; a last line that a kill left half written is not there yet."""
    return read_lines(path, Logged) if path.exists() else []


def best_epoch(path: Path, best_step: int | None) -> float | None:
    """Return the epoch that a fold's best weights are of; None where none was evaluated."""
    epochs = [float(line["epoch"]) for line in read_history(path) if line["step"] == best_step]
    return epochs[-1] if epochs else None
