"""Classifier: a row's logits are its own, whatever shares its batch; the head starts small."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from conftest import make_table
from foldwise.config.schema import Config
from foldwise.encoding.batches import pad_batch
from foldwise.encoding.text import frame_of
from foldwise.errors import FoldwiseError
from foldwise.models.backbone import load_backbone, load_tokenizer
from foldwise.models.classifier import Classifier
from foldwise.models.head import Head
from foldwise.models.pooling import ClsPooling, MeanPooling
from foldwise.models.trial_calls import pooled_width
from foldwise.parts.usercode import UserCode
from foldwise.tasks.text_classification import TextClassification

Backbones = Callable[[str], Path]
TEXTS = ["fee", "credit card charge limit statement fee bank purchase refund", "loan payment"]


def classifier(folder: Path, pooling: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    backbone = load_backbone(folder, weights=True, attention_dropout=None)
    return Classifier(backbone, pooling, Head(32, 3, [], 0.1, 0.5)).eval()


def batch_of(folder: Path, texts: list[str], extra: int = 0) -> dict[str, torch.Tensor]:
    # Padded as in training, and by `extra` tokens more.
    tokenizer = load_tokenizer(folder)
    frame = frame_of(tokenizer)
    rows: list[Any] = [(np.array(tokenizer(text)["input_ids"]), None) for text in texts]
    batch = pad_batch(rows, frame)
    return {
        "input_ids": nn.functional.pad(batch["input_ids"], (0, extra), value=frame.pad),
        "attention_mask": nn.functional.pad(batch["attention_mask"], (0, extra)),
    }


@pytest.mark.parametrize("pooling", [MeanPooling(), ClsPooling()])
@pytest.mark.parametrize("kind", ["bert", "distilbert", "gpt2"])
def test_logits_in_a_padded_batch_are_those_of_the_row_alone(
    backbones: Backbones, kind: str, pooling: nn.Module
) -> None:
    folder = backbones(kind)
    model = classifier(folder, pooling)
    with torch.no_grad():
        together = model(**batch_of(folder, TEXTS, extra=5))
        alone = torch.cat([model(**batch_of(folder, [text])) for text in TEXTS])
    assert together.shape == (3, 3)
    assert together.std(dim=0).min() > 1e-3
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["bert", "distilbert", "gpt2"])
def test_a_row_of_padding_alone_gives_finite_logits_and_leaves_others_as_they_are(
    backbones: Backbones, kind: str
) -> None:
    folder = backbones(kind)
    model = classifier(folder, MeanPooling())
    batch = batch_of(folder, TEXTS)
    with torch.no_grad():
        before = model(**batch)
        batch["attention_mask"][0] = 0
        after = model(**batch)
    assert after.isfinite().all()
    torch.testing.assert_close(after[1:], before[1:], atol=1e-5, rtol=0)


def test_layers_are_the_backbones(backbone: Path) -> None:
    model = classifier(backbone, MeanPooling())
    inside = {id(p) for layer in model.layers() for p in layer}  # type: ignore[operator]
    outside = {name for name, p in model.named_parameters() if id(p) not in inside}
    assert outside == {"head.layers.1.weight", "head.layers.1.bias"}


@pytest.mark.parametrize("deviation", [0.02, 0.3])
def test_the_head_starts_with_the_range_it_is_given(deviation: float) -> None:
    torch.manual_seed(0)
    head = Head(200, 100, [150], 0.1, deviation)
    linear = [layer for layer in head.layers if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [(200, 150), (150, 100)]
    for layer in linear:
        # The deviation of n draws strays by 1/sqrt(2n) of itself: 0.6% of 15,000.
        assert layer.weight.std().item() == pytest.approx(deviation, rel=0.03)
        assert abs(layer.weight.mean().item()) < 4 * deviation / layer.weight.numel() ** 0.5
        assert layer.bias.abs().sum() == 0


def test_hidden_layers_have_dropout_and_gelu_between() -> None:
    head = Head(4, 2, [8, 6], 0.25, 0.02)
    names = [type(layer).__name__ for layer in head.layers]
    assert names == ["Dropout", "Linear", "GELU"] * 2 + ["Dropout", "Linear"]
    assert {layer.p for layer in head.layers if isinstance(layer, nn.Dropout)} == {0.25}
    assert head(torch.zeros(5, 4)).shape == (5, 2)


def test_a_model_takes_its_heads_range_from_the_backbones_config(
    make_config: Callable[..., Config], tmp_path: Path, backbone: Path
) -> None:
    folder = tmp_path / "wide"
    folder.mkdir()
    for path in backbone.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = (folder / "config.json").read_text()
    assert '"initializer_range": 0.02' in config
    (folder / "config.json").write_text(
        config.replace('"initializer_range": 0.02', '"initializer_range": 0.7')
    )
    chosen = make_config(model={"backbone": str(folder), "head": {"hidden": [256]}})
    task = TextClassification(chosen, UserCode())
    task.classes = ["a", "b", "c"]
    torch.manual_seed(0)
    model = task.build_model()
    weight = model.get_parameter("head.layers.1.weight")
    assert weight.shape == (256, 32)
    assert weight.std().item() == pytest.approx(0.7, rel=0.03)
    assert model.get_parameter("head.layers.4.weight").shape == (3, 256)


def test_a_tokenizer_of_another_model_is_told_with_what_to_do(
    make_config: Callable[..., Config], backbone: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "mixed"
    shutil.copytree(backbone, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 9}))
    task = TextClassification(make_config(model={"backbone": str(folder)}), UserCode())
    with pytest.raises(FoldwiseError) as refused:
        task.dataset(make_table(6).with_row_index("row"))
    told = str(refused.value)
    assert re.search(r"gives tokens ids from \d+ to \d\d+, but config.json's model knows 9; ", told)
    assert told.endswith("they belong to different models: put both files of one model there")


class Both(nn.Module):
    """Mean and first token side by side: twice as wide."""

    def forward(self, hidden_states: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        poolings = (MeanPooling(), ClsPooling())
        return torch.cat([pooling(hidden_states, attention_mask) for pooling in poolings], dim=1)


def test_a_poolings_width_is_read_from_a_call() -> None:
    assert pooled_width(MeanPooling(), 32) == 32
    assert pooled_width(Both(), 32) == 64
