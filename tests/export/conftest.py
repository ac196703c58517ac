"""A trained run to export, and what was exported of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from conftest import HOSTILE, make_table, save_backbone
from foldwise.cli import app
from foldwise.config.schema import Config
from foldwise.run.folder import RunFolder
from foldwise.workflow import cross_validate


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, table_path: Path) -> RunFolder:
    """Two folds of a model that maps onto BERT's own head; all columns stand in the text."""
    folder = tmp_path_factory.mktemp("exported")
    table = pl.read_csv(table_path).with_columns(
        pl.col("label").replace({"debt": HOSTILE}), pl.col("amount").cast(pl.Float64)
    )
    table.write_csv(folder / "table.csv")
    values: dict[str, Any] = {
        "run": {"name": "test", "dir": str(folder / "runs"), "seed": 7},
        "data": {
            "path": str(folder / "table.csv"),
            "target": "label",
            "text": ["text"],
            "categorical": ["kind"],
            "numeric": ["amount"],
        },
        "holdout": {"fraction": 0.2},
        "folds": {"n": 2, "duplicates": "ignore"},
        "selection": {"rows": "last"},
        "text": {"max_length": 16},
        "model": {
            "backbone": str(save_backbone(folder / "backbone", layers=1)),
            "pooling": "cls",
            "head": {"hidden": [32], "activation": "tanh"},
        },
        "optimizer": {"lr": 3e-3, "head_lr": 1e-2},
        "training": {"epochs": 1, "batch_size": 8, "device": "cpu", "precision": "float32"},
        "trackers": [],
        "baselines": False,
        "ensemble": ["linear"],
    }
    return cross_validate(Config.model_validate(values))


@pytest.fixture(scope="session")
def new_rows() -> pl.DataFrame:
    """30 rows that no fold has seen, with gaps, odd characters and a category that is new."""
    table = make_table(rows=30, seed=5).with_columns(pl.col("amount").cast(pl.Float64))
    at = pl.int_range(pl.len())
    return table.drop("label").with_columns(
        kind=pl.when(at == 0).then(pl.lit("unseen")).when(at == 1).then(None).otherwise("kind"),
        text=pl.when(at == 2)
        .then(None)
        .when(at == 4)
        .then(pl.lit('a [SEP] "bank"\x00\r\n\u0644\u0627 \U0001f4b3 ' + "loan card " * 400))
        .otherwise("text"),
        amount=pl.when(at == 3).then(None).when(at == 5).then(1234567.5).otherwise("amount"),
    )


@pytest.fixture(scope="session")
def bundle(run: RunFolder) -> Path:
    """Fold 1 as ONNX, as the command leaves it."""
    folder = run.path.parent / "bundle"
    found = CliRunner().invoke(app, ["export", str(run.path), "-o", str(folder)])
    assert found.exit_code == 0, found.output
    return folder
