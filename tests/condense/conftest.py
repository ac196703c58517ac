"""A finished run with a holdout and a blended answer, and the models made of it, trained once."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from conftest import make_table
from foldwise.condense.distill import distill
from foldwise.condense.refit import refit
from foldwise.config.schema import Config
from foldwise.run.folder import RunFolder
from foldwise.workflow import cross_validate


@pytest.fixture(scope="package")
def plain(tmp_path_factory: pytest.TempPathFactory, backbone: Path) -> RunFolder:
    """The run as its training left it, which no test changes."""
    folder = tmp_path_factory.mktemp("condense")
    make_table(90).write_csv(folder / "table.csv")
    make_table(12, seed=3).write_csv(folder / "more.csv")
    values: dict[str, Any] = {
        "run": {"name": "test", "dir": str(folder / "runs"), "seed": 7},
        "data": {
            "path": str(folder / "table.csv"),
            "target": "label",
            "text": ["text"],
            "categorical": ["kind"],
        },
        "holdout": {"fraction": 0.2},
        "folds": {"n": 2, "duplicates": "ignore"},
        "selection": {"rows": "inner"},
        "text": {"max_length": 16},
        "model": {"backbone": str(backbone)},
        "optimizer": {"lr": 3e-3, "head_lr": 1e-2},
        "training": {
            "epochs": 2,
            "batch_size": 8,
            "device": "cpu",
            "precision": "float32",
            "save_minutes": 0,
        },
        "trackers": [],
        "baselines": False,
        "ensemble": ["model", "lookup"],
    }
    return cross_validate(Config.model_validate(values))


@pytest.fixture(scope="package")
def run(plain: RunFolder) -> RunFolder:
    """A copy with both models, which no test changes."""
    shutil.copytree(plain.path, plain.path.with_name("both"))
    run = RunFolder(plain.path.with_name("both"))
    refit(run.path)
    distill(run.path)
    return run


@pytest.fixture
def copy(plain: RunFolder, tmp_path: Path) -> RunFolder:
    """A copy of the run that a test may change, without either."""
    shutil.copytree(plain.path, tmp_path / "runs" / "test")
    return RunFolder(tmp_path / "runs" / "test")
