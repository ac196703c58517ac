"""A backbone's folder, looked at before transformers reads it: files by strangers.

In: a folder that a config names, or a run's backbone/. Out: nothing, the values of its config.json,
or a FoldwiseError that names the file. transformers would load another model where
adapter_config.json says so, build whatever size config.json asks for, and count to the highest id
of a vocabulary; each of that is bounded here by what the folder holds.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from foldwise.errors import FoldwiseError

TEXT_BYTES = 64 * 2**20  # the largest tokenizer.json in use (Gemma's) has 33 MB
READ = (".json", ".txt", ".model", ".jinja", ".safetensors")
# Keys by which a config.json could make transformers fetch and run code (CVE-2026-4372), or answer
# in another form than the model of ours reads; and counts of labels, for which it makes up names.
IGNORED = frozenset(
    (
        *("auto_map", "trust_remote_code", "custom_pipelines", "attn_implementation"),
        *("_attn_implementation", "_attn_implementation_internal", "experts_implementation"),
        *("_experts_implementation", "_experts_implementation_internal"),
        *("return_dict", "use_return_dict", "output_attentions", "output_hidden_states"),
        *("torchscript", "num_labels", "id2label", "label2id"),
    )
)
# What transformers makes a list or a loop of while it reads the config, before any weight.
_COUNTED = re.compile(r"^(?!.*(size|dim)).*(layer|depth|expert|group|heads|stages|blocks)")
_MOST = 10_000
_SPARE_IDS = 1_000  # holes that a vocabulary may have
_DEEPEST = 50


def check_folder(folder: Path) -> None:
    """Check that the files which would be read are plain ones of a fit size, in this folder.

    Raises:
        FoldwiseError: a link out of the folder, a pipe or device, a text file of more than 64 MB,
            or an adapter, which would name another model to load.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix in READ)
        for path in paths:
            _check_file(path, folder)
    except OSError as error:
        raise FoldwiseError(f"model.backbone: {folder}: can't be read: {error.strerror}") from None
    if (adapter := folder / "adapter_config.json").exists():
        raise FoldwiseError(
            f"model.backbone: {adapter}: an adapter, which needs another model beside it; merge it "
            "into that model and give the result, or remove the file"
        )


def read_values(folder: Path) -> dict[str, Any]:
    """Return what config.json says, without the keys that could make it run code.

    Raises:
        FoldwiseError: it is absent, damaged, or asks for more than a model has.
    """
    check_folder(folder)
    path = folder / "config.json"
    values = _read_object(path)
    for key in ("quantization_config", "compression_config"):
        if values.get(key):
            raise FoldwiseError(
                f"model.backbone: {path}: {key}: its weights are quantized already; give those of "
                "full precision, and set model.quantize"
            )
    for key, value in _numbers(values):
        if _COUNTED.search(key) and abs(value) > _MOST:
            raise FoldwiseError(
                f"model.backbone: {path}: {key} is {_short(value)}; no model has more "
                f"than {_MOST:,}"
            )
    cleaned: dict[str, Any] = _without(values, IGNORED)
    return cleaned


def check_tokenizer(folder: Path, vocab_size: int) -> None:
    """Check the ids in the tokenizer's files: transformers counts up to the highest.

    Args:
        folder: the backbone's.
        vocab_size: how many tokens the model knows.

    Raises:
        FoldwiseError: a file isn't what it should be, or an id is far from the others.
    """
    ids: dict[Path, list[Any]] = {}
    for name in ("tokenizer.json", "tokenizer_config.json", "added_tokens.json"):
        path = folder / name
        if path.is_file():
            ids[path] = list(_ids(path, _read_object(path)))
    for name in ("special_tokens_map.json", "generation_config.json"):
        if (folder / name).is_file():
            _read_object(folder / name)
    most = max([vocab_size, *map(len, ids.values())]) + _SPARE_IDS
    for path, found in ids.items():
        for number in found:
            if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < most:
                raise FoldwiseError(
                    f"model.backbone: {path}: {_short(number)} isn't the id of a token: they go "
                    f"from 0 to at most {most - 1:,} here"
                )


def weights_size(paths: Sequence[Path]) -> tuple[int, int]:
    """Return how many bytes and tensors some safetensors files hold, from their headers.

    Raises:
        FoldwiseError: one isn't a sound safetensors file; a pickle under its name, say.
    """
    from safetensors import SafetensorError, safe_open

    tensors = 0
    for path in paths:
        try:
            with safe_open(path, framework="np") as file:
                tensors += len(file.keys())
        except (SafetensorError, OSError, ValueError) as error:
            raise FoldwiseError(
                f"model.backbone: {path}: isn't a sound safetensors file: {error}"
            ) from None
    return sum(path.stat().st_size for path in paths), tensors


def largest_size(paths: Sequence[Path]) -> tuple[int, int]:
    """Return bytes and tensors of the largest sound file; a damaged one is told when it is read."""
    sizes = [(0, 0)]
    for path in paths:
        try:
            sizes.append(weights_size([path]))
        except FoldwiseError:
            continue
    return max(sizes)


def _check_file(path: Path, folder: Path) -> None:
    if path.is_symlink():
        target = Path(os.path.realpath(path))
        inside = [Path(os.path.realpath(folder))]
        if inside[0].parent.name == "snapshots":  # as the hub's cache lays them out
            inside.append(inside[0].parent.parent / "blobs")
        if not any(target.is_relative_to(place) for place in inside):
            raise FoldwiseError(
                f"model.backbone: {path}: is a link out of its folder (to {os.readlink(path)!r}); "
                "put the file itself there"
            )
    try:
        found = path.stat()
    except FileNotFoundError:
        raise FoldwiseError(f"model.backbone: {path}: a link to nothing") from None
    if stat.S_ISDIR(found.st_mode):
        return
    if not stat.S_ISREG(found.st_mode):
        raise FoldwiseError(f"model.backbone: {path}: is no plain file")
    if path.suffix != ".safetensors" and found.st_size > TEXT_BYTES:
        raise FoldwiseError(
            f"model.backbone: {path}: has {found.st_size:,} bytes; no model's is larger than "
            f"{TEXT_BYTES:,}"
        )


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FoldwiseError(f"model.backbone: {path}: no such file") from None
    except (OSError, ValueError, RecursionError) as error:
        raise FoldwiseError(f"model.backbone: {path}: can't be read: {error}") from None
    if not isinstance(value, dict):
        raise FoldwiseError(f"model.backbone: {path}: must be a map of keys, not {_short(value)}")
    if _depth(value) > _DEEPEST:
        raise FoldwiseError(f"model.backbone: {path}: nested more than {_DEEPEST} levels deep")
    return value


def _ids(path: Path, values: dict[str, Any]) -> Iterator[Any]:
    # Of tokenizer.json, tokenizer_config.json and added_tokens.json, each by its own form.
    try:
        if path.name == "added_tokens.json":
            yield from values.values()
        elif path.name == "tokenizer_config.json":
            yield from map(int, values.get("added_tokens_decoder") or {})
        else:
            vocabulary = values["model"].get("vocab") or {}
            pieces = isinstance(vocabulary, list)  # unigram: the place in the list is the id
            yield from range(len(vocabulary)) if pieces else vocabulary.values()
            yield from (token["id"] for token in values.get("added_tokens") or [])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise FoldwiseError(f"model.backbone: {path}: not a tokenizer's ({error!r})") from None


def _numbers(values: Any, key: str = "") -> Iterator[tuple[str, int | float]]:
    if isinstance(values, dict):
        for name, below in values.items():
            yield from _numbers(below, name)
    elif isinstance(values, list):
        for below in values:
            yield from _numbers(below, key)
    elif isinstance(values, int | float) and not isinstance(values, bool):
        yield key, values


def _without(value: Any, keys: frozenset[str]) -> Any:
    if isinstance(value, dict):
        return {key: _without(below, keys) for key, below in value.items() if key not in keys}
    if isinstance(value, list):
        return [_without(below, keys) for below in value]
    return value


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level and depth <= _DEEPEST:
        depth += 1
        below = [v.values() if isinstance(v, dict) else v for v in level]
        level = [v for part in below for v in part if isinstance(v, dict | list)]
    return depth


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
