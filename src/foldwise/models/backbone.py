"""Load a backbone, find its blocks, freeze the lower ones.

In: a folder with config.json and, for training, weights. Out: a transformers model with float32
master weights. Blocks are found by structure, not by name: the module list as long as the config
says the model is deep.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.utils import logging

from foldwise.errors import FoldwiseError
from foldwise.models.attention import DROPOUT, IMPLEMENTATIONS
from foldwise.models.counted import no_larger_than
from foldwise.models.folder import check_tokenizer, read_values


def load_backbone(
    folder: Path,
    *,
    weights: bool | Path,
    attention_dropout: float | None,
    checkpoint_activations: bool = False,
    attention: str | None = None,
    quantization: Any = None,
    device: str = "cpu",
) -> nn.Module:
    """Build a backbone and, for training, load its pretrained weights.

    Args:
        folder: holds config.json, and model.safetensors where `weights` is true.
        weights: load them, or from which other folder; else they are random, to be replaced by a
            checkpoint's.
        attention_dropout: dropout of attention probabilities; None keeps the config's.
        checkpoint_activations: recompute activations in the backward pass.
        attention: flash, sdpa or eager; None leaves the choice to transformers.
        quantization: transformers' description of it, or None.
        device: where quantized weights are to lie; others are loaded on the CPU.

    Returns:
        The model in float32 whatever the checkpoint's dtype, without its pooler.

    Raises:
        FoldwiseError: transformers can't build it, or its weights are another model's.
    """
    try:
        config = read_config(folder)
        if attention_dropout is not None:
            for key in DROPOUT:
                if hasattr(config, key):
                    setattr(config, key, attention_dropout)
        config.use_cache = False  # keys and values are kept for generating text only
        options: dict[str, Any] = {}
        if attention is not None:
            options["attn_implementation"] = IMPLEMENTATIONS[attention]
        if weights:
            if quantization is not None:
                options |= {"quantization_config": quantization, "device_map": {"": device}}
            with _without_bars():
                model, found = AutoModel.from_pretrained(
                    weights if isinstance(weights, Path) else folder,
                    config=config,
                    dtype=torch.float32,
                    local_files_only=True,
                    trust_remote_code=False,
                    use_safetensors=True,
                    output_loading_info=True,
                    **options,
                )
        else:
            model = AutoModel.from_config(
                config, dtype=torch.float32, trust_remote_code=False, **options
            )
            found = {"missing_keys": ()}
        if checkpoint_activations:
            _recompute_activations(model)
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


def check_size(config: Any, size_bytes: int, tensors: int, path: Path) -> None:
    """Refuse a config that describes more than the weights could fill; nothing is allocated.

    Built for good, such a model might take all memory before it is refused.

    Args:
        config: the backbone's.
        size_bytes: of the files of its weights.
        tensors: that they hold.
        path: of config.json, for the message.

    Raises:
        FoldwiseError: it is too large, or transformers can't build it.
    """
    what = f"model.backbone: {path}:"
    try:
        with no_larger_than(size_bytes, tensors, what), torch.device("meta"):
            AutoModel.from_config(config, dtype=torch.float32, trust_remote_code=False)
    except FoldwiseError:
        raise
    except Exception as error:  # each architecture checks its values in its own way
        raise FoldwiseError(
            f"{what} transformers can't build it: {type(error).__name__}: "
            f"{' '.join(str(error).split())}"
        ) from error


@contextmanager
def _without_bars() -> Iterator[None]:
    # A bar for every fold would stand between the lines that a notebook shows of a run.
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _recompute_activations(model: Any) -> None:
    # transformers renamed it in 5.23 and drops the old name in 6.
    name = "activation_checkpointing_enable"
    enable = getattr(model, name, None) or model.gradient_checkpointing_enable
    try:
        enable({"use_reentrant": False})
    except ValueError:
        raise FoldwiseError(
            f"model.checkpoint_activations: transformers can't recompute {type(model).__name__}'s "
            "activations; set it to false, and training.accumulate higher where memory is short"
        ) from None


def read_config(folder: Path) -> Any:
    """Read a backbone's config.json, without the keys that could make it run code.

    Raises:
        FoldwiseError: the file is absent, damaged, of a model type transformers doesn't know, or
            of a model that isn't an encoder or decoder of text.
    """
    path = folder / "config.json"
    values = read_values(folder)
    model_type = values.pop("model_type", None)
    if not isinstance(model_type, str):
        raise FoldwiseError(f"model.backbone: {path}: not a model's config (it has no model_type)")
    try:
        config = AutoConfig.for_model(model_type, **values)
    except Exception as error:  # each model type checks its values in its own way
        raise FoldwiseError(f"model.backbone: {path}: {' '.join(str(error).split())}") from None
    if getattr(config, "is_encoder_decoder", False):
        raise FoldwiseError(
            f"model.backbone: {path}: {model_type} is an encoder-decoder, whose vectors are made "
            "to generate a text from; choose an encoder (BERT, DeBERTa) or a decoder (GPT-2, Qwen)"
        )
    if not hasattr(config, "hidden_size") or not hasattr(config, "vocab_size"):
        raise FoldwiseError(
            f"model.backbone: {path}: {model_type} isn't a model of text alone (its config has no "
            "hidden_size or no vocab_size); choose an encoder or decoder of text"
        )
    for key in ("hidden_size", "vocab_size"):
        if not isinstance(getattr(config, key), int) or getattr(config, key) < 1:
            raise FoldwiseError(
                f"model.backbone: {path}: {key} is {getattr(config, key)!r}, not a whole number of "
                "1 or more"
            )
    return config


def load_tokenizer(folder: Path) -> Any:
    """Load the fast tokenizer of a backbone's folder.

    Raises:
        FoldwiseError: there is none, or only a slow one.
    """
    config = read_config(folder)
    check_tokenizer(folder, config.vocab_size)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, config=config, local_files_only=True, trust_remote_code=False
        )
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of tokenizers, written in Rust, is no Exception
        words = " ".join(str(error).split())[:500]
        raise FoldwiseError(
            f"model.backbone: {folder}: no usable tokenizer in tokenizer.json and "
            f"tokenizer_config.json: {type(error).__name__}: {words}"
        ) from error
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

    Whatever is registered before the first block counts as embeddings, and so do relative positions
    that all blocks read (DeBERTa, MPNet); what comes after the last (a final norm) is in no layer.
    A backbone without a list of blocks is one layer: where they share their weights (ALBERT) they
    cannot learn at different rates.
    """
    try:
        blocks = blocks_of(backbone)
    except FoldwiseError:
        return [list(backbone.parameters())]
    inside = {id(p): number for number, block in enumerate(blocks) for p in block.parameters()}
    read_by_all = _read_by_all(backbone, blocks)
    layers: list[list[nn.Parameter]] = [[] for _ in range(len(blocks) + 1)]
    started = False
    for parameter in backbone.parameters():
        if id(parameter) in inside:
            started = True
            layers[inside[id(parameter)] + 1].append(parameter)
        elif not started or id(parameter) in read_by_all:
            layers[0].append(parameter)
    return layers


def _read_by_all(backbone: nn.Module, blocks: nn.ModuleList) -> set[int]:
    # An embedding that stands behind the blocks in one module with them is input to each; what
    # stands beside it there (DeBERTa's norm of its relative positions) works on it.
    for module in backbone.modules():
        children = list(module.children())
        if blocks in children:
            behind = children[children.index(blocks) + 1 :]
            if any(isinstance(child, nn.Embedding) for child in behind):
                return {id(p) for child in behind for p in child.parameters()}
    return set()


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
