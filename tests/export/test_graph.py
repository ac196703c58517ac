"""Whatever a config can put together computes the same as a graph; the runner reads rows the same.

Each graph takes seconds to make: two, of one layer, hold most of what differs between configs, and
the rest are marked slow.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from conftest import make_table, save_backbone
from foldwise.config.schema import Config
from foldwise.encoding.text import plain_tokenizer
from foldwise.errors import FoldwiseError
from foldwise.export.bundle import spec
from foldwise.export.graph import write_graph
from foldwise.export.runner import Model
from foldwise.hardware.device import build_accelerator
from foldwise.models.copies import build_copies
from foldwise.parts.usercode import UserCode
from foldwise.preparation.build import build_task
from foldwise.run.files import write_json, write_text
from foldwise.tasks.predictions import to_table
from foldwise.training.inference import infer

LONG = "loan card fee " * 30
MIXED = {"text": ["text"], "categorical": ["kind"], "numeric": ["amount"]}
COLUMNS = {
    "categorical": {"hash_above": 2, "buckets": 3},
    "numeric": {"scale": "quantile", "embedding": "piecewise_linear", "bins": 4},
    "prefixes": {"kind": 1},
}


def table(task: str) -> pl.DataFrame:
    """60 rows with every kind of gap, for a kind of target."""
    made = make_table(60).with_columns(pl.col("amount").cast(pl.Float64))
    at = pl.int_range(pl.len())
    label = {
        "regression": pl.col("amount") * 50 + 1000,
        "multilabel": pl.when(at % 2 == 0).then("label").otherwise(pl.lit("card;loan")),
    }.get(task, pl.col("label"))
    return made.with_row_index("row").with_columns(
        label=label,
        text=pl.when(at == 0).then(None).when(at % 5 == 1).then(pl.lit(LONG)).otherwise("text"),
        kind=pl.when(at == 2).then(None).when(at == 3).then(pl.lit("new")).otherwise("kind"),
        amount=pl.when(at == 4).then(None).when(at == 5).then(1e9).otherwise("amount"),
    )


def both(config: Config, folder: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Label rows by a model in PyTorch, and by its exported folder."""
    rows = table(config.task)
    task: Any = build_task(config, UserCode(config.code))
    task.fit_target(rows.drop_nulls())
    task.fit_rows(rows[10:])
    model = build_copies(task.build_model, config.training.seeds).eval()
    write_graph(task, model, folder / "model.onnx")
    made = SimpleNamespace(task=task, config=config, models=[(task, model)])
    write_json(folder / "foldwise.json", spec(made, ["model.onnx"]))
    if task.columns:
        backend = plain_tokenizer(task.tokenizer.backend_tokenizer)
        write_text(folder / "tokenizer.json", backend.to_str())
    dataset = task.dataset(rows.with_columns(pl.col("kind").fill_null("missing")))
    accelerator = build_accelerator(config.training)
    logits, _ = infer(model, dataset, np.arange(rows.height), task.collate, accelerator)
    expected = to_table(task, rows, logits, None, None)
    return expected, pl.DataFrame(Model(folder, 1).predict(rows.to_dicts()))


def same(expected: pl.DataFrame, found: pl.DataFrame) -> None:
    """Check that labels are equal and numbers nearly so."""
    for name in found.columns:
        if expected[name].dtype.is_float():
            scale = max(1.0, float(expected[name].std() or 0))
            near = {"atol": 1e-5 * scale, "rtol": 0}
            np.testing.assert_allclose(found[name].to_numpy(), expected[name].to_numpy(), **near)
        else:
            assert found[name].to_list() == expected[name].to_list()


def test_chunks_columns_and_a_gate_are_in_the_graph(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    config = make_config(
        task="multilabel",
        data=MIXED | {"separator": ";"},
        text={"max_length": 12, "long": "chunks", "max_chunks": 4, "chunk_pooling": "attention"},
        model={
            "backbone": str(save_backbone(tmp_path / "backbone", layers=1)),
            "pooling": "mean_max",
            "fusion": "gated",
            "tabular": COLUMNS,
        },
        metrics=["f1_macro"],
    )
    (tmp_path / "out").mkdir()
    same(*both(config, tmp_path / "out"))


def test_columns_alone_and_the_mean_of_two_copies_are_a_graph_too(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    config = make_config(
        task="regression",
        data={**MIXED, "text": []},
        text={},
        model={"fusion": "concat", "tabular": {"numeric": {"embedding": "periodic"}}},
        training={"seeds": 2},
        metrics=["rmse"],
    )
    same(*both(config, tmp_path))


SLOW: list[dict[str, Any]] = [
    {"kind": "gpt2", "model": {"pooling": "last"}},
    {"kind": "distilbert", "model": {"pooling": "attention"}, "text": {"long": "head_tail"}},
    {"kind": "bert", "model": {"pooling": "max", "fusion": "tokens"}, "data": MIXED},
    {"kind": "bert", "model": {"pooling": "queries", "layers": 2}},
    {"kind": "bert", "model": {"lora": {"r": 4, "variant": "dora"}}},
    {
        "kind": "bert",
        "text": {"long": "chunks", "max_chunks": 4},
        "training": {"seeds": 2},
    },
    {"kind": "bert", "task": "ordinal", "data": {"order": ["card", "debt", "loan"]}},
    {"kind": "bert", "data": {**MIXED, "text": ["text", "kind"], "categorical": []}},
]


@pytest.mark.slow
@pytest.mark.parametrize("given", SLOW, ids=range(len(SLOW)))
def test_other_configs_are_graphs_too(
    make_config: Callable[..., Config], tmp_path: Path, given: dict[str, Any]
) -> None:
    kind = save_backbone(tmp_path / "backbone", given["kind"])
    config = make_config(
        **({"task": given["task"]} if "task" in given else {}),
        data=given.get("data", {}),
        text={"max_length": 12, **given.get("text", {})},
        model={"backbone": str(kind), **given.get("model", {})},
        training=given.get("training", {}),
    )
    (tmp_path / "out").mkdir()
    same(*both(config, tmp_path / "out"))


def test_tokens_in_front_of_chunks_are_refused(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    config = make_config(
        data=MIXED,
        text={"max_length": 12, "long": "chunks"},
        model={"fusion": "tokens"},
    )
    with pytest.raises(FoldwiseError, match="use text, concat or gated"):
        both(config, tmp_path)
