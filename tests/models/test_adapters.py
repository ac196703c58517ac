"""Adapters: on the layers asked for, scaled as the papers say, saved alone, reloaded beside the
weights they were trained on, quantized ones too."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import nn

from conftest import PRECISION, ROUNDING
from foldwise.config.model import Lora
from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError
from foldwise.evaluation.validate import load_fold
from foldwise.hardware.device import build_accelerator
from foldwise.models.adapters import add_adapters, linear_layers, merge_adapters
from foldwise.models.backbone import load_backbone
from foldwise.models.quantize import keep_layout, quantization
from foldwise.predictor import Predictor
from foldwise.preparation.build import build_task, open_run
from foldwise.preparation.prepare import encode_rows, prepare
from foldwise.run import checkpoints
from foldwise.run.folder import RunFolder
from foldwise.run.readers import read_json
from foldwise.run.weights import load_weights, saved_weights
from foldwise.training.fold import train_fold
from foldwise.workflow import cross_validate, validate

IDS = torch.tensor([[5, 9, 11, 7], [8, 6, 10, 12]])


def load(folder: Path, **options: Any) -> nn.Module:
    return load_backbone(folder, weights=True, attention_dropout=0.0, **options).eval()


def states(backbone: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = backbone(input_ids=IDS).last_hidden_state
    return found


def move_adapters(backbone: nn.Module) -> None:
    torch.manual_seed(3)
    for name, parameter in backbone.named_parameters():
        if "lora_" in name:
            nn.init.normal_(parameter, std=0.3)


def test_all_linear_layers_of_the_blocks_are_adapted_and_no_others(backbone: Path) -> None:
    layers = linear_layers(load(backbone))
    assert len(layers) == 2 * 6  # query, key, value and three dense layers a block
    assert all(name.startswith("encoder.layer.") for name in layers)


def test_named_targets_are_adapted_in_every_block(backbone: Path) -> None:
    model = load(backbone)
    add_adapters(model, Lora(targets=["query", "output.dense"]))
    adapted = {name.partition(".lora_A")[0] for name, _ in model.named_parameters() if "_A" in name}
    ends = ("attention.self.query", "attention.output.dense", "output.dense")
    assert adapted == {f"encoder.layer.{number}.{end}" for number in (0, 1) for end in ends}


def test_a_target_that_is_not_there_is_refused_with_those_that_are(backbone: Path) -> None:
    with pytest.raises(FoldwiseError) as caught:
        add_adapters(load(backbone), Lora(targets=["query", "q_proj"]))
    assert str(caught.value) == (
        "model.lora.targets: BertModel has no linear layer 'q_proj'; there are: dense, key, query, "
        "value"
    )


@pytest.mark.parametrize(("variant", "scale"), [("lora", 12 / 4), ("rslora", 12 / 4**0.5)])
def test_an_adapter_adds_its_product_scaled_by_the_rank_or_its_root(
    backbone: Path, variant: Any, scale: float
) -> None:
    model = load(backbone)
    name = "encoder.layer.1.attention.self.query"
    before = model.get_parameter(f"{name}.weight").clone()
    add_adapters(model, Lora(r=4, alpha=12, targets=["query"], variant=variant))
    move_adapters(model)
    up = model.get_parameter(f"{name}.lora_B.default.weight")
    down = model.get_parameter(f"{name}.lora_A.default.weight")
    expected = before + scale * up @ down
    merge_adapters(model)
    torch.testing.assert_close(model.get_parameter(f"{name}.weight"), expected)


def test_dora_learns_magnitudes_apart_from_directions(backbone: Path) -> None:
    model = load(backbone)
    name = "encoder.layer.0.attention.self.query"
    before = model.get_parameter(f"{name}.weight").clone()
    add_adapters(model, Lora(r=4, alpha=8, targets=["query"], variant="dora"))
    move_adapters(model)
    magnitude = model.get_parameter(f"{name}.lora_magnitude_vector.default.weight")
    nn.init.uniform_(magnitude, 0.5, 2.0)
    up = model.get_parameter(f"{name}.lora_B.default.weight")
    down = model.get_parameter(f"{name}.lora_A.default.weight")
    direction = before + 2 * up @ down
    expected = magnitude[:, None] * direction / direction.norm(dim=1, keepdim=True)
    assert any("lora_magnitude_vector" in key for key in saved_weights(model))
    merge_adapters(model)
    torch.testing.assert_close(model.get_parameter(f"{name}.weight"), expected)


def test_adapters_of_minilms_size_take_less_than_a_twentieth_of_its_checkpoint() -> None:
    config = transformers.BertConfig(
        vocab_size=30522,
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=12,
        intermediate_size=1536,
    )
    with torch.device("meta"):
        model = transformers.AutoModel.from_config(config)
        model.pooler = None
        full = sum(tensor.nbytes for tensor in saved_weights(model).values())
        add_adapters(model, Lora())  # the defaults
        adapters = sum(tensor.nbytes for tensor in saved_weights(model).values())
    per_block = 16 * (4 * (384 + 384) + 2 * (384 + 1536))
    assert adapters == 4 * 6 * per_block
    assert adapters / full < 0.05


def quantized(folder: Path, width: str) -> nn.Module:
    pytest.importorskip("bitsandbytes")
    model = load(folder, quantization=quantization(width, "float32", "cpu"))
    keep_layout(model)
    return model


@pytest.mark.parametrize(("width", "most"), [("8bit", 0.02), ("4bit", 0.15)])
def test_quantized_blocks_compute_nearly_the_same_beside_embeddings_in_float32(
    backbone: Path, width: str, most: float
) -> None:
    full, small = load(backbone), quantized(backbone, width)
    expected, found = states(full), states(small)
    assert 0 < (found - expected).abs().mean() < most * expected.abs().mean()
    kept = {name for name, p in small.named_parameters() if p.dtype == torch.float32}
    assert {name for name, _ in full.named_parameters()} - kept == {
        f"{name}.weight" for name in linear_layers(full)
    }


def test_4bit_weights_are_normal_float_with_scales_quantized_once_more(backbone: Path) -> None:
    state = quantized(backbone, "4bit").get_parameter("encoder.layer.0.output.dense.weight")
    assert state.quant_state.quant_type == "nf4"  # type: ignore[attr-defined]
    assert state.quant_state.nested  # type: ignore[attr-defined]
    assert state.nbytes == 32 * 64 // 2


@pytest.mark.parametrize(
    ("width", "variant"), [("8bit", "rslora"), ("4bit", "lora"), ("4bit", "dora")]
)
def test_adapters_learn_beside_quantized_weights_and_reload(
    backbone: Path, width: str, variant: Any
) -> None:
    model = quantized(backbone, width)
    add_adapters(model, Lora(r=2, variant=variant))
    move_adapters(model)
    model.train()
    model(input_ids=IDS).last_hidden_state.square().sum().backward()
    learning = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert all(p.grad is not None and p.grad.any() for p in learning.values())
    model.eval()
    assert saved_weights(model).keys() == learning.keys()
    fresh = quantized(backbone, width)
    add_adapters(fresh, Lora(r=2, variant=variant))
    load_weights(fresh.eval(), saved_weights(model))
    assert torch.equal(states(fresh), states(model))
    merge_adapters(fresh)  # left as they are: rounding the sum would change the weights
    assert saved_weights(fresh).keys() == learning.keys()


def test_evaluation_keeps_the_4bit_layout_that_training_needs(backbone: Path) -> None:
    model = quantized(backbone, "4bit")
    layers = [module for module in model.modules() if type(module).__name__ == "Linear4bit"]
    assert len(layers) == 12
    assert not any(layer.support_avx512bf16_for_cpu for layer in layers)


def test_quantizing_says_what_to_install_and_where_it_works(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "bitsandbytes", None)
    with pytest.raises(FoldwiseError, match=r"model\.quantize: needs the package bitsandbytes"):
        quantization("4bit", "float32", "cpu")
    with pytest.raises(FoldwiseError, match="works on cpu and cuda, not on mps"):
        quantization("4bit", "float32", "mps")


def test_adapters_say_what_to_install(backbone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(FoldwiseError, match=r"model\.lora: needs the package peft .*pip install"):
        add_adapters(load(backbone), Lora())


@pytest.mark.parametrize(
    "model",
    [
        {"lora": {"r": 4, "variant": "rslora"}},
        {"lora": {"r": 4}, "quantize": "4bit", "checkpoint_activations": True},
    ],
    ids=["lora", "qlora"],
)
def test_a_run_with_adapters_is_validated_and_predicts_from_its_checkpoints(
    make_config: Callable[..., Config], backbone: Path, tmp_path: Path, model: dict[str, Any]
) -> None:
    if "quantize" in model:
        pytest.importorskip("bitsandbytes")
    folder = shutil.copytree(backbone, tmp_path / "backbone")
    config = make_config(model={"backbone": str(folder), **model}, folds={"n": 2})
    run = cross_validate(config)
    scores, predictions = read_json(run.metrics), pl.read_parquet(run.out_of_fold)
    assert validate(run.path, precision=PRECISION)["oof"] == scores["oof"]

    weights = load_file(checkpoints.pointed(run.fold(1)) / "model.safetensors")
    outside = {name for name in weights if "lora_" not in name}
    assert outside == {"head.layers.1.weight", "head.layers.1.bias"}
    stored = read_json(run.manifest)["versions"]
    assert "peft" in stored
    assert ("bitsandbytes" in stored) == ("quantize" in model)

    predictor = Predictor(run.path, folds=[1], device="cpu", precision=PRECISION)
    labelled = predictor.predict(predictor.read(str(config.data.path), labelled=False))
    merged = labelled.join(predictions.filter(fold=1), on="row", suffix="_validated", how="inner")
    assert merged.height == predictions.filter(fold=1).height
    for label in ("card", "loan", "debt"):
        found, expected = merged[f"prob_{label}"], merged[f"prob_{label}_validated"]
        np.testing.assert_allclose(found, expected, atol=ROUNDING)

    tensors = load_file(folder / "model.safetensors")
    save_file({name: t + 1 for name, t in tensors.items()}, folder / "model.safetensors")
    with pytest.raises(FoldwiseError, match=f"weights of {folder} in {folder} have changed"):
        Predictor(run.path, device="cpu")
    shutil.rmtree(folder)
    with pytest.raises(FoldwiseError, match=f"{run.path} holds adapters alone and needs"):
        validate(run.path)


def test_a_reloaded_fold_gives_the_logits_of_the_trained_model(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(
        model={"lora": {"r": 4}}, selection={"rows": "last"}, training={"epochs": 1}
    )
    run = cross_validate(config, only=[1])
    stored, code = open_run(run, trust_code=False)
    prepared = encode_rows(prepare(stored, code, run, build_task(stored, code, run=run)))
    accelerator = build_accelerator(stored.training)
    _, model, step = load_fold(prepared, run.fold(1), accelerator)

    # The same training once more, to have its model in memory.
    trained: list[nn.Module] = []
    again = RunFolder(run.path.with_name("again"))
    again.create()
    fresh = build_task(stored, code)
    twin = encode_rows(prepare(stored, code, again, fresh))
    build = fresh.build_model
    monkeypatch.setattr(fresh, "build_model", lambda: trained.append(build()) or trained[-1])
    train_fold(twin, 1, accelerator)
    assert step == read_json(again.fold(1).trained)["steps"]
    rows = [prepared.dataset[i] for i in range(12)]
    batch = {k: v for k, v in prepared.task.collate(rows).items() if k != "target"}
    with torch.no_grad():
        expected = trained[-1].eval()(**batch)
        torch.testing.assert_close(model(**batch), expected, atol=1e-6, rtol=0)
