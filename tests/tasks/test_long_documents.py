"""Long documents in a whole run: chunks are trained on, saved, loaded back, and logged."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from conftest import PRECISION, make_table
from foldwise.config.load import load_config
from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError
from foldwise.run import checkpoints
from foldwise.run.folder import RunFolder
from foldwise.workflow import cross_validate, validate


def test_a_run_on_chunks_is_validated_to_the_same_bytes(
    make_config: Callable[..., Config],
) -> None:
    model = make_config().model.model_dump()
    config = make_config(
        data={"categorical": ["kind"]},
        folds={"n": 2, "run": [1]},
        text={"max_length": 10, "long": "chunks", "max_chunks": 3, "chunk_pooling": "attention"},
        model={**model, "fusion": "concat"},
        loss={"name": "r_drop"},
        training={"epochs": 1, "batch_size": None, "tokens_per_batch": 120},
        selection={"rows": "last"},
        trackers=[],
    )
    run = cross_validate(config)
    weights = checkpoints.load(checkpoints.pointed(run.fold(1))).model
    assert weights["chunks.pooling.query.weight"].abs().sum() > 0  # it starts at zero
    stored = load_config(run.config).text
    assert (stored.stride, stored.max_chunks) == (1, 3)
    before = run.fold(1).predictions.read_bytes()
    validate(run.path, precision=PRECISION)
    assert run.fold(1).predictions.read_bytes() == before
    check_log(run)


def check_log(run: RunFolder) -> None:
    events = [json.loads(line) for line in run.log.read_text().splitlines()]
    (started,) = (event for event in events if event["event"] == "training starts")
    assert started["rows"] == len(training_rows(run))
    # A word is a token; windows hold 8 of them beside [CLS] and [SEP], neighbours share one.
    words = np.array([len(text.split()) for text in make_table()["text"]])[training_rows(run)]
    chunks = np.where(words <= 8, 1, np.where(words <= 15, 2, 3))
    cut = np.maximum(0, words - (8 + 7 + 7))
    assert started["chunks"] == chunks.sum()
    assert started["rows_truncated"] == (cut > 0).sum() > 0
    assert started["tokens_cut_share"] == pytest.approx(cut.sum() / (words + 2).sum())


def training_rows(run: RunFolder) -> list[int]:
    table = pl.read_parquet(run.folds)
    return table.filter(pl.col("fold") != 1)["row"].sort().to_list()


@pytest.mark.parametrize(
    ("columns", "stride", "expected"),
    [
        ([], 10, "may hold no more than 10 tokens of text; lower the stride"),
        (["kind"], 5, "may hold no more than 5 tokens of text, beside categories and numbers"),
    ],
)
def test_a_stride_that_leaves_no_step_is_refused(
    make_config: Callable[..., Config], columns: list[str], stride: int, expected: str
) -> None:
    text = {"max_length": 12, "long": "chunks", "stride": stride}
    config = make_config(text=text, data={"categorical": columns})
    with pytest.raises(FoldwiseError) as refused:
        cross_validate(config)
    start = f"text.stride is {stride}, but a chunk of text.max_length 12 "
    assert str(refused.value).startswith(start)
    assert expected in str(refused.value)


def test_chunks_without_a_text_column_are_refused(make_config: Callable[..., Config]) -> None:
    with pytest.raises(
        ValueError, match=r"chunks are cut out of data\.text, which names no column"
    ):
        make_config(data={"text": [], "categorical": ["kind"]}, text={"long": "chunks"})
