"""What the one model's probabilities are worth, by what a target holds, and how it is shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from foldwise.condense import measure as module
from foldwise.config.schema import Config
from foldwise.metrics.metric import evaluate
from foldwise.parts.usercode import UserCode
from foldwise.preparation.build import build_task
from foldwise.report.one_model import lines, table


def test_sets_of_labels_have_log_loss_and_calibration_over_rows_and_labels(
    make_config: Callable[..., Config],
) -> None:
    task: Any = build_task(make_config(task="multilabel"), UserCode([]))
    task.classes = ["a", "b"]
    # "c" is a label of the holdout alone, which no model knows.
    answered = pl.DataFrame(
        {
            "row": [0, 1, 2],
            "target": ["a", "a;b", "c"],
            "prediction": ["a", "a", ""],
            "prob_a": [0.9, 0.8, 0.3],
            "prob_b": [0.1, 0.4, 0.2],
        }
    )
    (loss,) = (metric for metric in module._metrics(task) if metric.name == "log_loss")
    true = np.array([0.9, 1 - 0.1, 0.8, 0.4, 1 - 0.3, 1 - 0.2])
    assert evaluate(loss, *task.to_arrays(answered)) == pytest.approx(-np.log(true).mean())
    assert not loss.greater_is_better
    # Each of six decisions is a bin of its own: its confidence against right (1) or wrong (0).
    sure, right = np.array([0.9, 0.9, 0.8, 0.6, 0.7, 0.8]), np.array([1, 1, 1, 0, 1, 1])
    assert module._error(task, answered) == pytest.approx(np.abs(sure - right).mean())


def test_numbers_have_no_columns_of_probabilities() -> None:
    interval = {"value": 1.5, "low": 1.0, "high": 2.0}
    result = {
        "model": "refit",
        "rows": 12,
        "folds": 3,
        "scores": {"all": {"rmse": interval}, "refit": {"rmse": interval}},
        "difference": {"rmse": interval},
        "calibration_error": {"all": None, "refit": None},
        "ms_a_row": {"all": 3.0, "refit": 1.0},
    }
    headings, rows = lines([result], "rmse")
    assert headings == ["", "score", "difference", "ms/row"]
    assert rows[0] == ["all 3 folds", "1.500 [1.000, 2.000]", "", "3"]
    assert "ECE" not in str(table(result, "rmse").caption)
