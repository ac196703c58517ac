"""Backbones that learn through adapters: small matrices beside weights that stay as they are.

In: a backbone and `model.lora`. Out: the same backbone with adapters put into its linear layers by
peft, everything else in it frozen. It says by `saved_names` which of its tensors a checkpoint has
to hold (weights.py reads that): the pretrained ones are loaded again from where they came from.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

from foldwise.config.model import Lora as LoraConfig
from foldwise.config.model import Model as ModelConfig
from foldwise.config.training import Training as TrainingConfig
from foldwise.errors import FoldwiseError
from foldwise.hardware.device import placement
from foldwise.models.backbone import blocks_of, freeze, load_backbone
from foldwise.models.empty import is_sent, without_memory
from foldwise.models.quantize import keep_layout, quantization

INSTALL = "pip install peft"


def build_backbone(
    model: ModelConfig,
    training: TrainingConfig,
    folder: Path,
    weights: Path | None,
    attention: str,
) -> nn.Module:
    """Load a backbone as the config has it: frozen, quantized, with adapters, or as it is.

    Args:
        model: what to do with it.
        training: device and precision.
        folder: holds config.json.
        weights: folder of the pretrained weights; None: a checkpoint's will replace them. Where
            another process sends all weights (`sent_backbones`) nothing is loaded.
        attention: flash, sdpa or eager.

    Raises:
        FoldwiseError: it can't be loaded, a package isn't installed, or nothing fits the targets.
    """
    device, precision = placement(training)
    quantized = None
    if model.quantize is not None:
        quantized = quantization(model.quantize, precision, device)
    sent = is_sent()
    with without_memory() if sent else nullcontext():
        backbone = load_backbone(
            folder,
            weights=False if sent or weights is None else weights,
            attention_dropout=model.attention_dropout,
            checkpoint_activations=model.checkpoint_activations,
            attention=attention,
            quantization=quantized,
            device=device,
        )
        keep_layout(backbone)
        freeze(backbone, model.freeze)
        if model.lora is not None:
            add_adapters(backbone, model.lora)
    return backbone


def add_adapters(backbone: nn.Module, lora: LoraConfig) -> None:
    """Put low-rank adapters into a backbone, and freeze all else in it.

    LoRA (Hu et al. 2022), with scaling by the root of the rank (rsLoRA, Kalajdzievski 2023), or
    with magnitude and direction apart (DoRA, Liu et al. 2024). At first they change nothing.

    Args:
        backbone: a transformers model; its linear layers are replaced in place.
        lora: rank, scale, dropout, targets and variant.

    Raises:
        FoldwiseError: peft isn't installed, or a target isn't among the linear layers.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise FoldwiseError(f"model.lora: needs the package peft ({error}): {INSTALL}") from None
    layers = linear_layers(backbone)
    names = _targets(list(layers), lora.targets, type(backbone).__name__)
    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=names,
        use_rslora=lora.variant == "rslora",
        use_dora=lora.variant == "dora",
        fan_in_fan_out=isinstance(layers[names[0]], Conv1D),  # GPT-2 holds its weights transposed
    )
    inject_adapter_in_model(config, backbone)
    learning = (name for name, parameter in backbone.named_parameters() if parameter.requires_grad)
    backbone.saved_names = frozenset(learning)  # type: ignore[assignment]


def linear_layers(backbone: nn.Module) -> dict[str, nn.Module]:
    """Return the linear layers inside a backbone's blocks by name, bottom first.

    A backbone without a list of blocks (ALBERT) gives all it has.
    """
    inside: set[int] = set()
    try:
        inside = {id(module) for module in blocks_of(backbone).modules()}
    except FoldwiseError:
        inside = {id(module) for module in backbone.modules()}
    return {
        name: module
        for name, module in backbone.named_modules()
        if id(module) in inside and isinstance(module, nn.Linear | Conv1D)
    }


def merge_adapters(model: nn.Module) -> None:
    """Add the adapters of a model to the weights they stand beside, for quicker predictions.

    The logits stay the same up to rounding. Quantized weights are left alone: rounding the sum
    again would change them.
    """
    for backbone in [module for module in model.modules() if hasattr(module, "saved_names")]:
        from peft.tuners.tuners_utils import BaseTunerLayer

        if getattr(backbone, "is_quantized", False):
            continue
        adapted: list[tuple[str, Any]] = [
            (name, layer)
            for name, layer in backbone.named_modules()
            if isinstance(layer, BaseTunerLayer)
        ]
        for name, layer in adapted:
            layer.merge()
            backbone.set_submodule(name, layer.get_base_layer())
        del backbone.saved_names


def _targets(layers: list[str], wanted: str | list[str], architecture: str) -> list[str]:
    if wanted == "all-linear":
        if not layers:
            raise FoldwiseError(f"model.lora: {architecture} has no linear layers to adapt")
        return layers
    found = []
    for target in wanted:
        matching = [name for name in layers if f".{name}".endswith(f".{target}")]
        if not matching:
            last = sorted({name.rpartition(".")[2] for name in layers})
            raise FoldwiseError(
                f"model.lora.targets: {architecture} has no linear layer {target!r}; there are: "
                + ", ".join(last)
            )
        found += matching
    return list(dict.fromkeys(found))
