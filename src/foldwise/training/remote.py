"""What a dashboard has been told, so that a run that goes on after a stop tells it nothing twice.

MLflow and Weights & Biases keep every point they are sent. A continued training passes its last
steps again, with the same numbers (it is exact), so those are simply left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from foldwise.run.files import write_json
from foldwise.run.readers import read_json


class Told:
    """The dashboard's id of a fold's run, and the last step it was told of each split.

    Args:
        folder: the tracker's own; `told.json` lies in it.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "told.json"
        found = read_json(self.path) if self.path.exists() else {}
        self.id: str | None = found.get("id")
        self.steps: dict[str, int] = found.get("steps", {})

    def keep_id(self, run_id: str) -> None:
        """Write down the dashboard's id of the run."""
        self.id = run_id
        self._write()

    def is_new(self, step: int, split: str) -> bool:
        """Say whether a step of a split has not been told yet."""
        return step > self.steps.get(split, 0)

    def keep(self, step: int, split: str) -> None:
        """Write down that a step has been told."""
        self.steps[split] = step
        self._write()

    def _write(self) -> None:
        write_json(self.path, {"id": self.id, "steps": self.steps})


def flat(config: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Return a config's values by dotted key."""
    values: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict) and value:
            values |= flat(value, f"{above}{key}.")
        else:
            values[f"{above}{key}"] = value
    return values


def summary_numbers(scores: dict[str, Any]) -> dict[str, float]:
    """Return a finished run's scores by name: oof_, mean_, std_ and holdout_ of each metric."""
    numbers = {f"oof_{name}": entry["value"] for name, entry in scores["oof"].items()}
    for kind in ("mean", "std"):
        numbers |= {f"{kind}_{name}": value for name, value in scores[kind].items()}
    if scores["holdout"]:
        numbers |= {f"holdout_{name}": e["value"] for name, e in scores["holdout"].items()}
    return {name: float(value) for name, value in numbers.items() if value is not None}
