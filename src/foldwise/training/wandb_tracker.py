"""Weights & Biases: one of its runs a fold, in a group named after the run; offline by default."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any, Literal

import wandb

from foldwise.training.remote import Told, summary_numbers


class WandB:
    """Numbers of a fold, written for Weights & Biases.

    Offline everything stays in the run's folder until `wandb sync` is called on it; nothing is sent
    unless `mode: online` says so.

    Args:
        folder: where its files go and its id is kept.
        fold: the fold.
        run: name of the whole run.
        config: every key with its value.
        mode: offline or online.
        project: its name.
    """

    def __init__(
        self,
        folder: Path,
        fold: int,
        run: str,
        config: dict[str, Any],
        mode: Literal["offline", "online"] = "offline",
        project: str = "foldwise",
    ) -> None:
        self.told = Told(folder)
        self.opening = {"mode": mode, "project": project, "group": run, "config": config}
        self.opening |= {"name": f"{run}, fold {fold}", "dir": str(folder)}
        self.wandb: Any = None

    def log(self, step: int, values: dict[str, float], split: str) -> None:
        """Write a step's numbers, named `split/value`."""
        if self.wandb is None:
            self.wandb = _begin(self.told, self.opening)
        if self.told.is_new(step, split):
            self.wandb.log({f"{split}/{name}": value for name, value in values.items()}, step=step)
            self.told.keep(step, split)

    def close(self) -> None:
        """Close its files."""
        if self.wandb is not None:
            self.wandb.finish()

    @staticmethod
    def summarize(
        folder: Path,
        run: str,
        config: dict[str, Any],
        scores: dict[str, Any],
        mode: Literal["offline", "online"] = "offline",
        project: str = "foldwise",
    ) -> None:
        """Write the finished run's scores as a run of their own, once."""
        told = Told(folder)
        if not told.is_new(1, "summary"):
            return
        opening = {"mode": mode, "project": project, "group": run, "config": config}
        opened = _begin(told, opening | {"name": run, "dir": str(folder)})
        opened.summary.update(summary_numbers(scores))
        opened.finish()
        told.keep(1, "summary")


def _begin(told: Told, opening: dict[str, Any]) -> Any:
    if told.id is None:
        told.keep_id(secrets.token_hex(8))
    settings = wandb.Settings(silent=True, disable_git=True, x_disable_stats=True, console="off")
    return wandb.init(id=told.id, resume="allow", settings=settings, reinit="create_new", **opening)
