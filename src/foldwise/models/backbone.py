"""Load a backbone, find its blocks, freeze the lower ones.

In: a folder with config.json and, for training, weights. Out: a transformers model with float32
master weights. Blocks are found by structure, not by name: the module list as long as the config
says the model is deep.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer

from foldwise.errors import FoldwiseError

_ATTENTION_DROPOUT = (
    "attention_probs_dropout_prob",
    "attention_dropout",
    "attn_pdrop",
    "attn_dropout",
)
# Keys by which a config.json could make transformers fetch and run code (CVE-2026-4372).
_CODE_KEYS = (
    "auto_map",
    "trust_remote_code",
    "custom_pipelines",
    "attn_implementation",
    "_attn_implementation",
    "_attn_implementation_internal",
)


def load_backbone(
    folder: Path,
    *,
    weights: bool,
    attention_dropout: float | None,
    checkpoint_activations: bool = False,
) -> nn.Module:
    """Build a backbone and, for training, load its pretrained weights.

    Args:
        folder: holds config.json, and model.safetensors where `weights`.
        weights: load them; else the weights are random, to be replaced by a checkpoint's.
        attention_dropout: dropout of attention probabilities; None keeps the config's.
        checkpoint_activations: recompute activations in the backward pass.

    Returns:
        The model in float32 whatever the checkpoint's dtype, without its pooler.

    Raises:
        FoldwiseError: transformers can't build it, or its weights are another model's.
    """
    try:
        config = read_config(folder)
        if attention_dropout is not None:
            for key in _ATTENTION_DROPOUT:
                if hasattr(config, key):
                    setattr(config, key, attention_dropout)
        if weights:
            model, found = AutoModel.from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
            )
        else:
            model = AutoModel.from_config(config, dtype=torch.float32, trust_remote_code=False)
            found = {"missing_keys": ()}
        if checkpoint_activations:
            # transformers renamed it in 5.23 and drops the old name in 6.
            name = "activation_checkpointing_enable"
            enable = getattr(model, name, None) or model.gradient_checkpointing_enable
            enable({"use_reentrant": False})
    except FoldwiseError:
        raise
    except Exception as error:  # files by strangers fail in many ways, safetensors' own among them
        raise FoldwiseError(
            f"model.backbone: {folder} can't be loaded as a transformers model: "
            f"{type(error).__name__}: {' '.join(str(error).split())}"
        ) from error
    # transformers makes up what the file lacks, and says so in a warning only.
    lacking = sorted(key for key in found["missing_keys"] if not key.startswith("pooler."))
    if lacking:
        raise FoldwiseError(
            f"model.backbone: the weights in {folder} lack {len(lacking)} tensors of its "
            f"config.json's {type(model).__name__}, such as {lacking[0]}; they belong to another "
            "model"
        )
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # ours replaces it; its weights would be trained for nothing
    return model  # type: ignore[no-any-return]


def read_config(folder: Path) -> Any:
    """Read a backbone's config.json, without the keys that could make it run code.

    Raises:
        FoldwiseError: the file is absent, damaged, or of a model type transformers doesn't know.
    """
    path = folder / "config.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        model_type = values.pop("model_type")
    except FileNotFoundError:
        raise FoldwiseError(f"model.backbone: {path}: no such file") from None
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise FoldwiseError(f"model.backbone: {path}: not a model's config ({error!r})") from None
    for key in _CODE_KEYS:
        values.pop(key, None)
    try:
        return AutoConfig.for_model(model_type, **values)
    except Exception as error:  # each model type checks its values in its own way
        raise FoldwiseError(f"model.backbone: {path}: {' '.join(str(error).split())}") from None


def load_tokenizer(folder: Path) -> Any:
    """Load the fast tokenizer of a backbone's folder.

    Raises:
        FoldwiseError: there is none, or only a slow one.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, config=read_config(folder), local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise FoldwiseError(f"model.backbone: {folder}: no usable tokenizer: {error}") from error
    files = getattr(tokenizer, "vocab_files_names", {}).values()
    if not any((folder / name).is_file() for name in files):
        # transformers makes an empty one up, to which every word is unknown.
        raise FoldwiseError(
            f"model.backbone: {folder}: holds no tokenizer ({' or '.join(files)}); copy it there"
        )
    if not getattr(tokenizer, "is_fast", False):
        raise FoldwiseError(f"model.backbone: {folder}: its tokenizer has no tokenizer.json")
    return tokenizer


def blocks_of(backbone: nn.Module) -> nn.ModuleList:
    """Return the list of a backbone's blocks, bottom first.

    Raises:
        FoldwiseError: no module list is as long as the config says the model is deep (ALBERT, for
            one, repeats a single shared block).
    """
    config: Any = backbone.config
    depth = getattr(config, "num_hidden_layers", None)
    for module in backbone.modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            return module
    raise FoldwiseError(
        f"model.freeze: no list of {depth} blocks found in {type(backbone).__name__}, so none can "
        "be frozen; set model.freeze: 0"
    )


def layers_of(backbone: nn.Module) -> list[list[nn.Parameter]]:
    """Return a backbone's parameters from the bottom up: embeddings first, then block by block.

    Whatever is registered before the first block counts as embeddings; what comes after the last
    (a final norm) is in no layer. A backbone without a list of blocks is one layer: where they
    share their weights (ALBERT) they cannot learn at different rates.
    """
    try:
        blocks = blocks_of(backbone)
    except FoldwiseError:
        return [list(backbone.parameters())]
    inside = {id(p): number for number, block in enumerate(blocks) for p in block.parameters()}
    layers: list[list[nn.Parameter]] = [[] for _ in range(len(blocks) + 1)]
    started = False
    for parameter in backbone.parameters():
        if id(parameter) in inside:
            started = True
            layers[inside[id(parameter)] + 1].append(parameter)
        elif not started:
            layers[0].append(parameter)
    return layers


def freeze(backbone: nn.Module, blocks: int) -> None:
    """Stop the lowest blocks, and the embeddings with them, from learning.

    Args:
        backbone: a transformers model.
        blocks: how many from the bottom; 0 freezes nothing, not even the embeddings.

    Raises:
        FoldwiseError: more blocks than there are, or no list of blocks to count them in.
    """
    if blocks == 0:
        return
    depth = len(blocks_of(backbone))
    if blocks > depth:
        raise FoldwiseError(
            f"model.freeze is {blocks}, but {type(backbone).__name__} has {depth} blocks"
        )
    for layer in layers_of(backbone)[: blocks + 1]:
        for parameter in layer:
            parameter.requires_grad_(False)


def window(config: Any) -> int | None:
    """Return the longest input that position embeddings allow; None where they set no limit."""
    limit = getattr(config, "max_position_embeddings", None)
    if not isinstance(limit, int) or limit <= 0:
        return None
    # RoBERTa and its kin number positions from the pad id on, so those places aren't usable.
    if config.model_type in ("roberta", "xlm-roberta", "camembert", "longformer", "mpnet"):
        return limit - (config.pad_token_id or 0) - 1
    return limit
