"""Whether a model that says the same of every row is told, and one that doesn't isn't."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from foldwise.config.schema import Config
from foldwise.evaluation.constant import constant_share
from foldwise.report.terminal import results_table
from foldwise.workflow import cross_validate

IDS = np.array([0, 1, 2, 0] * 25)
SETS = np.array([[1, 0], [0, 1], [1, 1], [0, 0]] * 25)
NUMBERS = np.linspace(10, 20, 100)


@pytest.mark.parametrize(
    ("target", "prediction", "share"),
    [
        (IDS, np.zeros(100, dtype=int), 1.0),
        (IDS, (np.arange(100) == 7).astype(int), 0.99),
        (IDS, (np.arange(100) < 3).astype(int), None),
        (np.zeros(100, dtype=int), np.zeros(100, dtype=int), None),  # and right
        (SETS, np.zeros((100, 2), dtype=int), 1.0),
        (SETS, SETS[::-1], None),
        (NUMBERS, np.full(100, 15.0), 1.0),
        (NUMBERS, 15 + NUMBERS / 100, 1.0),
        (NUMBERS, 15 + NUMBERS / 10, None),
    ],
)
def test_one_prediction_for_nearly_all_rows_is_told(
    target: np.ndarray, prediction: np.ndarray, share: float | None
) -> None:
    assert constant_share(target, prediction) == share


def test_a_run_says_which_of_its_models_are_constant(make_config: Callable[..., Config]) -> None:
    still: dict[str, Any] = {"optimizer": {"lr": 1e-9, "head_lr": 1e-9}, "training": {"epochs": 1}}
    run = cross_validate(make_config(**still))
    metrics = json.loads(run.metrics.read_text())
    constant = metrics["constant_predictions"]
    assert constant, "an untrained model predicts one class"
    number, told = next(iter(constant.items()))
    validation = json.loads(run.fold(int(number)).validation.read_text())
    assert validation["constant"] == told
    assert told["share"] >= 0.98
    events = [e for e in run.events() if e["event"] == "constant predictions"]
    assert str(events[0]["fold"]) in constant
    caption = str(results_table(metrics, "test").caption)
    assert "Warning: the model" in caption
    assert "the same for nearly every row" in caption
    assert f"{told['prediction']!r}" in caption
