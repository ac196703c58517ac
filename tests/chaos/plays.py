"""What can be disturbed: a run of the model alone; one whose answer is a blend, and its refit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conftest import PRECISION

RUN = Path("runs/run")


@dataclass(frozen=True)
class Play:
    """A config, and what is given on it.

    Attributes:
        config: of the run.
        calls: the words of each command, in the order in which an undisturbed run is given them.
        kinds: of what befalls them; as many seeds in a row meet all.
        drawn: the commands to draw from, those that are drawn more often several times.
    """

    config: dict[str, Any]
    calls: dict[str, tuple[str, ...]]
    kinds: tuple[str, ...]
    drawn: tuple[str, ...]


TRAIN = ("train", "config.yaml")
CONFIG: dict[str, Any] = {
    "run": {"name": "run", "dir": "runs", "seed": 7},
    "data": {"path": "table.csv", "target": "label", "text": ["text"]},
    "folds": {"n": 2, "duplicates": "identical"},
    "selection": {"rows": "inner"},  # so that a best checkpoint is chosen and can be lost
    "text": {"max_length": 16},
    "model": {"backbone": "bert"},
    "optimizer": {"lr": 3e-3, "head_lr": 1e-2},
    "training": {
        "epochs": 2,
        "batch_size": 8,
        "device": "cpu",
        "precision": PRECISION,
        "save_minutes": 0,
        "log_every": 3,
    },
    "metrics": ["f1_macro"],
    "trackers": [],
    "baselines": False,
    "ensemble": "model",
}
ALONE = Play(
    CONFIG,
    {
        "train": TRAIN,
        "predict": ("predict", str(RUN), "table.csv", "-o", "labels.parquet"),
        "evaluate": ("evaluate", str(RUN), "table.csv"),
    },
    ("KILL", "ended", "second", "STOP", "ENOSPC", "EIO", "NaN", "damage"),
    ("train", "train", "train", "predict", "evaluate"),
)
BLENDED = Play(
    CONFIG
    | {
        "data": CONFIG["data"] | {"categorical": ["kind"]},
        "holdout": {"fraction": 0.2},  # so that a refit is measured
        "baselines": True,
        "ensemble": ["model", "linear", "embedding", "boosting", "lookup"],
    },
    {"train": TRAIN, "refit": ("refit", str(RUN))},
    ("KILL", "ended", "second", "STOP", "ENOSPC", "EIO"),
    ("train", "refit"),
)
