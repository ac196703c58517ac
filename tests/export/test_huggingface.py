"""A plain Hugging Face folder gives the run's logits, or is refused with what to change."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import polars.selectors as cs
import pytest
import torch
import transformers
from typer.testing import CliRunner

from conftest import make_table, save_tokenizer
from foldwise.cli import app
from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError
from foldwise.export.heads import check_fits
from foldwise.export.huggingface import texts_of, write_huggingface
from foldwise.hardware.device import build_accelerator
from foldwise.models.copies import Copies
from foldwise.parts.usercode import UserCode
from foldwise.predictor import Predictor
from foldwise.preparation.build import build_task
from foldwise.run.folder import RunFolder

SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}


def backbone(folder: Path, kind: str) -> Path:
    """Write a tiny random backbone of a model type."""
    settings = transformers.AutoConfig.for_model(kind, **SIZES)
    if kind in ("deberta-v2", "deberta"):
        settings.pooler_hidden_size = 32
    if kind in ("roberta", "xlm-roberta", "camembert", "mpnet"):
        settings.pad_token_id = 0
    folder.mkdir()
    settings.vocab_size = max(60, save_tokenizer(folder, with_separator=kind != "gpt2"))
    torch.manual_seed(0)
    transformers.AutoModel.from_config(settings).save_pretrained(folder)
    return folder


def source(config: Config) -> Any:
    """An untrained model of a config, with weights that make a difference, as a source."""
    table = make_table(40).with_columns(pl.col("amount").cast(pl.Float64))
    if config.task == "regression":
        table = table.with_columns(label=pl.col("amount") * 50 + 1000)
    task: Any = build_task(config, UserCode([]))
    task.fit_target(table)
    task.fit_rows(table)
    model = task.build_model().eval()
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter.normal_(std=0.5)
    rows = table.with_row_index("row").drop("label")
    return SimpleNamespace(
        config=config,
        models=[(task, model)],
        predictor=SimpleNamespace(accelerator=build_accelerator(config.training)),
        rows=SimpleNamespace(frame=rows, what="40 rows"),
    )


TANH = {"hidden": [32], "activation": "tanh"}
MAPPED = [
    ("bert", "cls", {}),
    ("distilbert", "cls", {"hidden": [32], "activation": "relu"}),
    ("deberta-v2", "cls", {"hidden": [32], "activation": "silu"}),
    ("gpt2", "last", {}),
]
OTHERS = [
    ("bert", "cls", TANH),
    ("albert", "cls", {}),
    ("ernie", "cls", {}),
    ("roberta", "cls", TANH),
    ("xlm-roberta", "cls", {}),
    ("camembert", "cls", {}),
    ("mpnet", "cls", {}),
    ("electra", "cls", {"hidden": [32], "activation": "gelu"}),
    ("deberta", "cls", {}),
    ("deberta-v2", "cls", {}),
]


@pytest.mark.parametrize(
    ("kind", "pooling", "head"),
    [*MAPPED, *(pytest.param(*each, marks=pytest.mark.slow) for each in OTHERS)],
)
def test_an_architectures_own_head_gives_the_same_logits(
    tmp_path: Path,
    make_config: Callable[..., Config],
    kind: str,
    pooling: str,
    head: dict[str, Any],
) -> None:
    config = make_config(
        model={"backbone": str(backbone(tmp_path / "b", kind)), "pooling": pooling, "head": head},
        text={"max_length": 16},
    )
    found = write_huggingface(source(config), tmp_path)
    assert found.largest < 1e-5
    assert found.differing == 0


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_numbers_come_in_their_own_units(
    tmp_path: Path, make_config: Callable[..., Config], kind: str
) -> None:
    config = make_config(
        task="regression",
        model={
            "backbone": str(backbone(tmp_path / "b", kind)),
            "pooling": "last" if kind == "gpt2" else "cls",
        },
        text={"max_length": 16},
        metrics=["rmse"],
    )
    made = source(config)
    write_huggingface(made, tmp_path)
    classify = transformers.pipeline("text-classification", model=str(tmp_path))
    score = classify("the loan was on credit", function_to_apply="none")[0]["score"]
    half = made.models[0][0].half
    assert abs(score - half.mean) < 20 * half.deviation


def test_copies_are_refused_with_what_makes_one_of_them(
    tmp_path: Path, make_config: Callable[..., Config]
) -> None:
    made = source(make_config(model={"pooling": "cls"}))
    ((task, model),) = made.models
    made.models = [(task, Copies([model, model]))]
    made.run = RunFolder(tmp_path / "run")
    with pytest.raises(FoldwiseError) as refused:
        write_huggingface(made, tmp_path)
    assert str(refused.value) == (
        "--to huggingface: training.seeds: the model is the mean of 2 networks, and "
        f"AutoModelForSequenceClassification is one; foldwise distill {tmp_path / 'run'} makes one "
        "of them (--model distilled), or export --to onnx, which carries any model"
    )
    assert not list(tmp_path.iterdir())


def test_labels_of_the_pipeline_are_the_runs(
    run: RunFolder, new_rows: pl.DataFrame, tmp_path: Path
) -> None:
    told = CliRunner().invoke(
        app, ["export", str(run.path), "-o", str(tmp_path / "hf"), "--to", "huggingface", "--json"]
    )
    assert told.exit_code == 0, told.output
    result = json.loads(told.stdout)
    assert result["checked"]["differing"] == 0
    assert result["model"] == "fold-1"
    classify = transformers.pipeline("text-classification", model=str(tmp_path / "hf"))
    rows = new_rows.filter(pl.int_range(pl.len()) != 4)  # whose text holds a special token
    predictor = Predictor(run.path, model="fold-1", member="model", device="cpu")
    expected = predictor.predict(rows)
    texts = texts_of(
        predictor.task, rows.with_columns(pl.col("kind").fill_null("missing")), "[SEP]"
    )
    found = classify(texts, truncation=True)
    assert [each["label"] for each in found] == expected["prediction"].to_list()
    best = expected.select(pl.max_horizontal(cs.starts_with("prob_"))).to_series()
    np.testing.assert_allclose([each["score"] for each in found], best, atol=1e-5)
    card = (tmp_path / "hf" / "README.md").read_text(encoding="utf-8")
    assert 'classify("...[SEP]...[SEP]...", truncation=True)' in card


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"model": {"pooling": "mean"}}, r"model.pooling: .*first token only; train with pooling: cls"),
    (
        {"model": {"pooling": "cls", "head": {"hidden": [8]}}},
        r"model.head: .*use hidden: .32., .*tanh",
    ),
    ({"model": {"pooling": "cls", "layers": 2}}, r"model.layers: .* the last layer alone"),
    ({"text": {"long": "chunks"}, "model": {"pooling": "cls"}}, r"text.long: .* use truncate"),
    (
        {"data": {"categorical": ["kind"]}, "model": {"pooling": "cls", "fusion": "concat"}},
        r"model.fusion: .* use text",
    ),
    (
        {"task": "ordinal", "data": {"order": ["card", "debt", "loan"]}},
        r"task: .* steps of an order",
    ),
]


@pytest.mark.parametrize(("given", "told"), REFUSED, ids=[told for _, told in REFUSED])
def test_what_transformers_has_no_head_for_is_refused_with_what_to_change(
    make_config: Callable[..., Config], given: dict[str, Any], told: str
) -> None:
    with pytest.raises(FoldwiseError, match=f"--to huggingface: {told}.*or export --to onnx"):
        check_fits(make_config(**given), "bert", 32)


@pytest.mark.parametrize("kind", ["llama", "modernbert"])
def test_a_backbone_whose_own_head_computes_otherwise_is_refused(
    make_config: Callable[..., Config], kind: str
) -> None:
    with pytest.raises(
        FoldwiseError, match=f"model.backbone: .*{kind}'s own head computes otherwise"
    ):
        check_fits(make_config(), kind, 32)


def test_one_head_layer_of_distilbert_names_the_head_to_train(
    make_config: Callable[..., Config],
) -> None:
    config = make_config(model={"pooling": "cls"})
    with pytest.raises(FoldwiseError, match=r"and relu; use hidden: .32., activation: relu"):
        check_fits(config, "distilbert", 32)
