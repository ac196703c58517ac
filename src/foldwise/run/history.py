"""A fold's metrics.jsonl: training losses and evaluations, one a line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from foldwise.run.contents import Logged
from foldwise.run.readers import read_lines


def read_history(path: Path) -> list[dict[str, Any]]:
    """Read metrics.jsonl; a last line that a kill left half written is not there yet."""
    return read_lines(path, Logged) if path.exists() else []
