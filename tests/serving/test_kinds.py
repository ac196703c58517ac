"""A served run of label sets, and one of numbers: labels and why, in JSON."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from conftest import make_table
from foldwise.predictor import Predictor

from .conftest import tiny
from .test_app import rows_of, served

SETS = {"card": "card;bank", "loan": "bank", "debt": "other"}
NUMBERS = {"card": 100.0, "loan": 130.0, "debt": 190.0}


@pytest.fixture(scope="module", params=["multilabel", "regression"])
def run(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, backbone: Path
) -> Predictor:
    """A tiny run of either kind, whose answer is a blend if that is better."""
    folder = tmp_path_factory.mktemp(request.param)
    table = make_table(48, seed=1)
    told = SETS if request.param == "multilabel" else NUMBERS
    table = table.with_columns(label=pl.col("label").replace_strict(told))
    table.write_csv(folder / "table.csv")
    return tiny(
        folder,
        folder / "table.csv",
        backbone,
        task=request.param,
        folds={"n": 2, "duplicates": "ignore", "strategy": "kfold"},
        ensemble=["model", "linear"],
    )


def test_labels_are_predicts_and_each_that_is_said_is_explained(
    run: Predictor, client: Callable[..., Any]
) -> None:
    rows, asking = rows_of(6), client(served(run))
    expected = run.predict(pl.DataFrame(rows))
    found = asking.post("/predict", json={"rows": rows}).json()["rows"]
    assert [row["prediction"] for row in found] == expected["prediction"].to_list()
    numbers = run.config.task == "regression"
    assert {row["confidence"] is None for row in found} == {numbers}
    for row, said in zip(rows, found, strict=True):
        answer = asking.post("/explain", json={"rows": [row]})
        assert answer.status_code == 200, answer.text
        explained = answer.json()["explanations"]
        if numbers:
            assert [each["of"] for each in explained] == [None]
            assert explained[0]["value"] == pytest.approx(said["prediction"])
        else:
            labels = set(filter(None, said["prediction"].split(";")))
            assert labels in ({each["of"] for each in explained}, set())
            for each in explained:
                assert each["value"] == pytest.approx(said["probabilities"][each["of"]], abs=1e-5)
        assert {effect["column"] for effect in explained[0]["columns"]} == {
            "text",
            "kind",
            "amount",
        }
