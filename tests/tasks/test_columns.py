"""Mixed columns from config to predictions: fusions, columns alone, new rows, what is fitted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from pydantic import ValidationError

from conftest import make_table
from foldwise.config.schema import Config
from foldwise.encoding.text import Frame
from foldwise.errors import FoldwiseError
from foldwise.models.trial_calls import fused_width
from foldwise.parts.usercode import UserCode
from foldwise.predictor import Predictor
from foldwise.run.readers import read_json
from foldwise.tasks.columns import build_beside, fit_encoders, made_up_rows
from foldwise.tasks.text_classification import TextClassification
from foldwise.workflow import cross_validate

Make = Callable[..., Config]


def write_table(path: Path, kind_of_row: dict[int, str] | None = None) -> Path:
    """Write 90 rows whose `amount` is missing in every seventh; some kinds may be replaced."""
    row = pl.int_range(pl.len())
    kinds = (kind_of_row or {}).items()
    table = make_table().with_columns(
        amount=pl.when(row % 7 == 0).then(None).otherwise("amount"),
        kind=pl.coalesce(
            *(pl.when(row == at).then(pl.lit(kind)) for at, kind in kinds), pl.col("kind")
        ),
    )
    table.write_csv(path)
    return path


@pytest.fixture
def mixed(make_config: Make, tmp_path: Path) -> Make:
    """Two folds of a text, a category, its prefix and a number."""
    path = write_table(tmp_path / "mixed.csv")

    def make(fusion: Any, **sections: Any) -> Config:
        data = {"path": str(path), "target": "label", "text": ["text"]}
        columns = {"categorical": ["kind"], "numeric": ["amount"]}
        given: dict[str, Any] = {
            "data": data | columns,
            "model": {"fusion": fusion, "tabular": {"prefixes": {"kind": 1}}},
            "folds": {"n": 2},
            "training": {"epochs": 1},
        }
        for section, value in sections.items():
            given[section] = {**given.get(section, {}), **value}
        return make_config(**given)

    return make


NEW_ROWS = pl.DataFrame(
    {
        "row": [0, 1],
        "text": ["credit card fee", "loan payment"],
        "kind": ["never seen", None],
        "amount": [None, 3.0],
    },
    schema_overrides={"amount": pl.Float64},
)


@pytest.mark.parametrize("fusion", ["concat", "gated", "tokens"])
def test_fusion_trains_validates_and_labels_rows_with_new_values(mixed: Make, fusion: str) -> None:
    run = cross_validate(mixed(fusion))
    assert set(read_json(run.path / "metrics.json")["folds"]) == {"1", "2"}
    table = Predictor(run.path).predict(NEW_ROWS)
    total = table.select(pl.sum_horizontal("prob_card", "prob_debt", "prob_loan")).to_series()
    assert total.to_list() == pytest.approx([1, 1])
    # The text alone was tokenized, once: another fusion would find it in the store.
    assert len([path for path in run.token_stores.iterdir() if path.is_dir()]) == 1


def test_columns_alone_need_no_backbone(mixed: Make) -> None:
    config = mixed(
        "concat",
        data={"text": []},
        holdout={"fraction": 0.2},
        model={"backbone": "/no/such/folder"},
        optimizer={"lr": 0.03},
        selection={"rows": "last"},
        training={"epochs": 12},
    )
    run = cross_validate(config)
    # `kind` starts with the label's first letter: its embedding must have learnt that.
    scores = read_json(run.path / "metrics.json")
    assert scores["mean"]["f1_macro"] > 0.9
    assert scores["holdout"]["f1_macro"]["value"] > 0.9
    frame = make_table(6, seed=5).with_row_index("row").with_columns(pl.col("amount").cast(float))
    assert Predictor(run.path).predict(frame)["prediction"].to_list() == frame["label"].to_list()


def test_a_scored_rows_values_do_not_reach_the_encoders(mixed: Make, tmp_path: Path) -> None:
    def encoders(config: Config) -> dict[str, Any]:
        run = cross_validate(config, only=[1])
        return dict(read_json(run.fold(1).encoders)["columns"])

    alone = {"data": {"text": []}, "folds": {"n": 2, "strategy": "kfold"}}
    before = mixed("concat", run={"name": "before"}, **alone)
    first = encoders(before)
    scored = pl.read_parquet(Path(before.run.dir) / "before" / "fold-1" / "predictions.parquet")
    write_table(tmp_path / "mixed.csv", {scored["row"][0]: "only here", scored["row"][1]: "there"})
    assert encoders(mixed("concat", run={"name": "after"}, **alone)) == first
    assert [column["name"] for column in first["categories"]] == ["kind", "kind[:1]"]
    assert {*first["categories"][1]["values"]} == {"c", "l", "d"}


def test_a_model_is_built_as_large_as_its_encoders_say(mixed: Make) -> None:
    task = TextClassification(mixed("concat"), UserCode([]))
    task.load_state({"target": {"classes": ["a", "b"]}, "rows": {}})
    with pytest.raises(FoldwiseError, match="sizes of embeddings follow from training rows"):
        task.build_model()
    frame = pl.DataFrame({"text": ["x"] * 5, "kind": list("vwxyz"), "amount": [1.0, 2, 3, 4, 5]})
    task.encoders = fit_encoders(frame, task.config)
    assert task.categories_known() == {"kind": list("vwxyz")}
    model = task.build_model()
    dataset = task.dataset(frame)
    batch = task.collate([dataset[i] for i in range(5)])
    assert batch["categorical"].shape == (5, 2)
    assert batch["numeric"].shape == (5, 1)
    assert model.inputs.categories.tables[0].num_embeddings == 7  # type: ignore[union-attr]
    model.passes = 2  # type: ignore[assignment]
    assert model(**batch).shape == (10, 2)
    assert model.eval()(**batch).shape == (5, 2)


def test_tokens_count_towards_what_the_backbone_reads(mixed: Make) -> None:
    with pytest.raises(FoldwiseError, match="reads 64 tokens at most, 3 of them for the columns"):
        TextClassification(mixed("tokens", text={"max_length": 62}), UserCode([]))
    TextClassification(mixed("tokens", text={"max_length": 61}), UserCode([]))


def test_tokens_are_refused_where_the_padding_stands_in_front(mixed: Make) -> None:
    config = mixed("tokens")
    encoders = fit_encoders(made_up_rows(config), config)
    left = Frame(before=(2,), after=(3,), separator=(3,), pad=0, padding_side="left")
    with pytest.raises(FoldwiseError, match="has its padding; use concat or gated"):
        build_beside(encoders, config, UserCode([]), 32, left)


class Sums(torch.nn.Module):
    def forward(self, pooled: torch.Tensor, tabular: torch.Tensor) -> torch.Tensor:
        return pooled.sum(1) + tabular.sum(1)


class Adds(torch.nn.Module):
    def forward(self, pooled: torch.Tensor, tabular: torch.Tensor) -> torch.Tensor:
        return pooled + tabular


@pytest.mark.parametrize(
    ("fusion", "message"),
    [
        (Sums(), r"Sums must return \(batch, width\) .* it returned \(2,\) for a batch of 2"),
        (Adds(), r"Adds fails on pooled texts and columns \(2, 4\) and \(2, 3\): RuntimeError"),
    ],
)
def test_a_fusion_that_does_not_join_is_refused(fusion: torch.nn.Module, message: str) -> None:
    with pytest.raises(FoldwiseError, match=f"model.fusion: {message}"):
        fused_width(fusion, 4, 3)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"model": {"freeze": 1}}, "freeze: does nothing without data.text: there is no backbone"),
        ({"model": {"pooling": "cls"}}, "pooling: does nothing without data.text"),
        ({"model": {"fusion": "gated"}}, "fusion: gated needs a text under data.text; set it to"),
        (
            {"training": {"tokens_per_batch": 64, "batch_size": None}},
            "tokens_per_batch: does nothing without data.text",
        ),
    ],
)
def test_keys_of_a_backbone_are_refused_where_there_is_none(
    mixed: Make, sections: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        mixed("concat", data={"text": []}, **sections)


@pytest.mark.parametrize("fusion", ["concat", "tokens"])
def test_chunks_and_adapters_go_with_columns_beside_the_text(mixed: Make, fusion: str) -> None:
    config = mixed(fusion, text={"long": "chunks", "max_length": 12}, model={"lora": {"r": 2}})
    task = TextClassification(config, UserCode([]))
    frame = make_table(8).with_columns(pl.col("amount").cast(float))
    task.fit_target(frame)
    task.check()
    task.fit_rows(frame)
    dataset = task.dataset(frame)
    batch = task.collate([dataset[i] for i in range(8)])
    assert len(batch["input_ids"]) > 8
    model = task.build_model()
    target = batch.pop("target")
    task.loss(model(**batch), {"target": target}).sum().backward()
    learnt = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert learnt == {"backbone", "inputs", "head"}
    assert {"input_ids", "attention_mask", "chunk_row", "categorical", "numeric"} == batch.keys()
