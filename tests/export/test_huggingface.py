"""A plain Hugging Face folder gives the run's logits, or is refused with what to change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
import torch
import transformers

from conftest import make_table, save_tokenizer
from foldwise.config.schema import Config
from foldwise.export.huggingface import write_huggingface
from foldwise.hardware.device import build_accelerator
from foldwise.parts.usercode import UserCode
from foldwise.preparation.build import build_task

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


MAPPED = [
    ("bert", "cls", {"hidden": [32], "activation": "tanh"}),
    ("bert", "cls", {}),
    ("albert", "cls", {}),
    ("roberta", "cls", {"hidden": [32], "activation": "tanh"}),
    ("xlm-roberta", "cls", {}),
    ("camembert", "cls", {}),
    ("mpnet", "cls", {}),
    ("ernie", "cls", {}),
    ("electra", "cls", {"hidden": [32], "activation": "gelu"}),
    ("distilbert", "cls", {"hidden": [32], "activation": "relu"}),
    ("deberta-v2", "cls", {}),
    ("deberta-v2", "cls", {"hidden": [32], "activation": "silu"}),
    ("gpt2", "last", {}),
]


@pytest.mark.parametrize(("kind", "pooling", "head"), MAPPED)
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
