"""A fold's scores come from the weights on disk; the model is linear, so numpy can say them too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from accelerate import Accelerator
from safetensors.numpy import load_file
from sklearn.datasets import load_iris
from sklearn.metrics import f1_score, precision_recall_fscore_support

from foldwise.config.schema import Config
from foldwise.config.training import Training
from foldwise.errors import FoldwiseError
from foldwise.evaluation.validate import load_fold, validate_fold
from foldwise.hardware.device import build_accelerator
from foldwise.parts.usercode import UserCode
from foldwise.preparation.build import build_task
from foldwise.preparation.prepare import Prepared, encode_rows, prepare
from foldwise.run import checkpoints
from foldwise.run.readers import read_json
from foldwise.tasks.predictions import to_table
from foldwise.workflow import cross_validate

LINEAR = """
import numpy as np
import polars as pl
import torch
from sklearn.datasets import load_iris
from torch import nn

from foldwise.tasks.multiclass import Multiclass


class Linear(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.noise = nn.Dropout(0.5)
        self.linear = nn.Linear(4, outputs)

    def forward(self, x):
        return self.linear(self.noise(x))


class Iris(Multiclass):
    def rows(self):
        iris = load_iris()
        names = np.array(iris.target_names)[iris.target].astype(str)
        return pl.DataFrame({**{f"x{i}": iris.data[:, i] for i in range(4)}, "target": names})

    def dataset(self, frame):
        return list(zip(frame.select("^x.$").to_numpy(), self.target_ids(frame).tolist()))

    def collate(self, rows):
        x = np.stack([x for x, _ in rows]).astype(np.float32)
        return {"x": torch.from_numpy(x), "target": torch.tensor([y for _, y in rows])}

    def build_model(self):
        return Linear(len(self.classes))
"""


@pytest.fixture(scope="module")
def accelerator() -> Accelerator:
    return build_accelerator(Training(device="cpu", precision="float32"))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """A run of two folds of which the first is trained."""
    folder = tmp_path_factory.mktemp("validate")
    (folder / "my_parts.py").write_text(LINEAR)
    values: dict[str, Any] = {
        "run": {"name": "iris", "dir": str(folder / "runs")},
        "code": [str(folder / "my_parts.py")],
        "task": "my_parts.Iris",
        "holdout": {"fraction": 0.1},
        "folds": {"n": 2},
        "selection": {"rows": "last"},
        "optimizer": {"lr": 0.05},
        "training": {"epochs": 3, "batch_size": 8, "device": "cpu", "precision": "float32"},
        "trackers": [],
    }
    run = cross_validate(Config.model_validate(values), [1])
    config = Config.model_validate(values)
    code = UserCode(config.code)
    return encode_rows(prepare(config, code, run, build_task(config, code)))


def by_hand(prepared: Prepared, rows: list[int]) -> np.ndarray:
    """Logits from the weights' file and the rows' numbers, without Foldwise or torch."""
    folder = checkpoints.pointed(prepared.run.fold(1), "best")
    weights = load_file(folder / "model.safetensors")
    x = load_iris().data[rows].astype(np.float32)
    logits: np.ndarray = x @ weights["linear.weight"].T + weights["linear.bias"]
    return logits


def test_predictions_are_the_weights_on_disk_applied_in_row_order(prepared: Prepared) -> None:
    for path, rows in (
        (prepared.run.fold(1).predictions, prepared.assignment.scored(1)),
        (prepared.run.fold(1).holdout, prepared.assignment.holdout()),
    ):
        table = pl.read_parquet(path)
        assert table["row"].to_list() == rows.tolist()
        logits = table.select("^logit_.*$").to_numpy()
        np.testing.assert_allclose(logits, by_hand(prepared, rows.tolist()), atol=1e-5)
        names = load_iris().target_names
        assert table["target"].to_list() == names[load_iris().target[rows]].tolist()
        assert table["prediction"].to_list() == names[logits.argmax(axis=1)].tolist()


def test_validation_names_its_checkpoint_and_scores(prepared: Prepared) -> None:
    fold = prepared.run.fold(1)
    result = read_json(fold.validation)
    table = pl.read_parquet(fold.predictions)
    assert result["checkpoint"] == checkpoints.pointed(fold, "best").name
    assert result["step"] == read_json(fold.trained)["steps"]
    assert result["rows"] == table.height
    target, prediction = table["target"].to_list(), table["prediction"].to_list()
    expected = f1_score(target, prediction, average="macro")
    assert result["scores"]["f1_macro"] == pytest.approx(expected, abs=1e-6)
    names = ["setosa", "versicolor", "virginica"]
    by_class = precision_recall_fscore_support(target, prediction, labels=names, zero_division=0)
    for i, entry in enumerate(result["per_class"]):
        assert entry["label"] == names[i]
        found = [entry[key] for key in ("precision", "recall", "f1", "support")]
        assert found == pytest.approx([column[i] for column in by_class], abs=1e-6)


def test_validating_again_writes_the_same_bytes(
    prepared: Prepared, accelerator: Accelerator
) -> None:
    fold = prepared.run.fold(1)
    paths = (fold.predictions, fold.holdout, fold.validation)
    before = [path.read_bytes() for path in paths]
    scores = validate_fold(prepared, 1, accelerator)
    assert [path.read_bytes() for path in paths] == before
    assert scores == read_json(fold.validation)["scores"]


def test_model_is_loaded_in_evaluation_mode_with_the_step_of_its_weights(
    prepared: Prepared, accelerator: Accelerator
) -> None:
    _, model, step = load_fold(prepared, prepared.run.fold(1), accelerator)
    assert not any(module.training for module in model.modules())
    assert step == read_json(prepared.run.fold(1).trained)["steps"]


def test_fold_that_is_not_trained_is_refused(prepared: Prepared, accelerator: Accelerator) -> None:
    with pytest.raises(FoldwiseError, match=r"fold-2.seal\.json: doesn't vouch for training"):
        validate_fold(prepared, 2, accelerator)


def test_holdout_table_has_neither_repeat_nor_fold(prepared: Prepared) -> None:
    part = prepared.part(prepared.assignment.scored(1)[:2])
    table = to_table(prepared.task, part, np.eye(3)[:2], None, None)
    assert table["repeat"].to_list() == table["fold"].to_list() == [None, None]
    assert table.schema["repeat"] == table.schema["fold"] == pl.Int32
    unlabelled = to_table(prepared.task, part.drop("target"), np.eye(3)[:2], None, None)
    assert "target" not in unlabelled.columns


def test_damaged_fold_file_is_named(
    prepared: Prepared, accelerator: Accelerator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    encoders = prepared.run.fold(1).encoders
    content = encoders.read_bytes()
    encoders.write_bytes(content[:-5])
    try:
        with pytest.raises(FoldwiseError, match=r"fold-1.encoders\.json: has changed"):
            validate_fold(prepared, 1, accelerator)
    finally:
        encoders.write_bytes(content)
