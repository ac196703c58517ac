"""Backbone folders that somebody might send: each function spoils a sound one."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from hostile.runs import OVERLAPPING, PICKLE, header


class Case(NamedTuple):
    """One spoiled backbone.

    Attributes:
        spoil: changes the folder.
        names: what the message must name.
        harmless: the right result is right as well: what was changed isn't looked at.
        weights: the weights are spoiled, which a run keeps elsewhere.
    """

    spoil: Callable[[Path], Any]
    names: str
    harmless: bool = False
    weights: bool = False


def keys(name: str, **changes: Any) -> Callable[[Path], None]:
    """Set keys of a JSON file."""

    def spoil(folder: Path) -> None:
        path = folder / name
        values = json.loads(path.read_text("utf-8")) if path.exists() else {}
        path.write_text(json.dumps(values | changes), "utf-8")

    return spoil


def content(name: str, text: str | bytes) -> Callable[[Path], None]:
    """Replace a file's content."""
    return lambda folder: (folder / name).write_bytes(
        text.encode() if isinstance(text, str) else text
    )


def vocabulary(number: Any) -> Callable[[Path], None]:
    """Give a word another id."""

    def spoil(folder: Path) -> None:
        path = folder / "tokenizer.json"
        values = json.loads(path.read_text("utf-8"))
        values["model"]["vocab"]["card"] = number
        path.write_text(json.dumps(values), "utf-8")

    return spoil


def added(number: Any) -> Callable[[Path], None]:
    """Add a special token with an id."""

    def spoil(folder: Path) -> None:
        path = folder / "tokenizer.json"
        values = json.loads(path.read_text("utf-8"))
        values["added_tokens"].append(values["added_tokens"][0] | {"id": number, "content": "<x>"})
        path.write_text(json.dumps(values), "utf-8")

    return spoil


def padding(folder: Path) -> None:
    path = folder / "tokenizer.json"
    values = json.loads(path.read_text("utf-8"))
    values["padding"] = {
        "strategy": {"Fixed": 10**9},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "[PAD]",
    }
    path.write_text(json.dumps(values), "utf-8")


def moved(name: str) -> Callable[[Path], None]:
    """Replace a file by a link to where it lies now, outside the folder."""

    def spoil(folder: Path) -> None:
        away = folder.parent / f"away-{name}"
        shutil.move(folder / name, away)
        (folder / name).symlink_to(away)

    return spoil


def piped(name: str) -> Callable[[Path], None]:
    """Put a pipe where a file was."""

    def spoil(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return spoil


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"a": 1}))


def index(*names: str) -> Callable[[Path], None]:
    """Let an index name files of weights."""

    def spoil(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        found = {"weight_map": {f"tensor{i}": name for i, name in enumerate(names)}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(found), "utf-8")

    return spoil


def halved(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def adapters(folder: Path) -> None:
    values = {"base_model_name_or_path": "org/other", "peft_type": "LORA"}
    (folder / "adapter_config.json").write_text(json.dumps(values), "utf-8")


EVIL = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model", "AutoTokenizer": ["evil.T", None]}
CONFIG, TOKENIZER, SETTINGS = "config.json", "tokenizer.json", "tokenizer_config.json"
CASES: dict[str, Case] = {
    "adapters": Case(adapters, "adapter_config.json"),
    "layers": Case(keys(CONFIG, num_hidden_layers=10**8), CONFIG),
    "thin-layers": Case(keys(CONFIG, num_hidden_layers=9_999, intermediate_size=1), CONFIG),
    "hidden": Case(keys(CONFIG, hidden_size=10**9), CONFIG),
    "hidden-and-heads": Case(keys(CONFIG, hidden_size=10**9, num_attention_heads=1), CONFIG),
    "inner": Case(keys(CONFIG, intermediate_size=10**12), CONFIG),
    "vocabulary": Case(keys(CONFIG, vocab_size=4 * 10**9), CONFIG),
    "positions": Case(keys(CONFIG, max_position_embeddings=10**10), CONFIG),
    "positions-not-learned": Case(
        keys(CONFIG, model_type="gptj", max_position_embeddings=10**6, n_positions=10**6), CONFIG
    ),
    "huge-number": Case(keys(CONFIG, hidden_size=10**400), CONFIG),
    "labels": Case(keys(CONFIG, num_labels=10**9), CONFIG, True),
    "negative": Case(keys(CONFIG, hidden_size=-32), CONFIG),
    "none": Case(keys(CONFIG, hidden_size=0), CONFIG),
    "text-for-a-number": Case(keys(CONFIG, hidden_size="abc"), CONFIG),
    "list-for-a-number": Case(keys(CONFIG, vocab_size=[1, 2]), CONFIG),
    "map-for-a-text": Case(keys(CONFIG, hidden_act={"a": 1}), CONFIG),
    "no-activation": Case(keys(CONFIG, hidden_act="os.system"), CONFIG),
    "model-type-a-list": Case(keys(CONFIG, model_type=["bert"]), CONFIG),
    "model-type-unknown": Case(keys(CONFIG, model_type="nonesuch"), CONFIG),
    "encoder-decoder": Case(keys(CONFIG, is_encoder_decoder=True), CONFIG),
    "config-a-list": Case(content(CONFIG, "[]"), CONFIG),
    "config-deep": Case(content(CONFIG, "[" * 200_000), CONFIG),
    "config-deep-map": Case(content(CONFIG, '{"a":' * 900 + "1" + "}" * 900), CONFIG),
    "config-no-text": Case(content(CONFIG, b"\xff\xfe\x00"), CONFIG),
    "config-empty": Case(content(CONFIG, b""), CONFIG),
    "config-large": Case(content(CONFIG, b"{" + b" " * 100_000_000 + b"}"), CONFIG),
    "config-away": Case(moved(CONFIG), CONFIG),
    "config-piped": Case(piped(CONFIG), CONFIG),
    "quantized": Case(keys(CONFIG, quantization_config={"quant_method": "fp8"}), CONFIG),
    "code": Case(keys(CONFIG, auto_map=EVIL, trust_remote_code=True), CONFIG, True),
    "kernels": Case(
        keys(
            CONFIG, _attn_implementation_internal="org/kernels", attn_implementation="org/kernels"
        ),
        CONFIG,
        True,
    ),
    "other-answers": Case(
        keys(CONFIG, return_dict=False, output_hidden_states=True, torchscript=True), CONFIG, True
    ),
    "code-of-a-tokenizer": Case(keys(SETTINGS, auto_map=EVIL, tokenizer_class="T"), SETTINGS, True),
    "tokenizer-a-list": Case(content(TOKENIZER, "[]"), TOKENIZER),
    "tokenizer-of-nothing": Case(content(TOKENIZER, '{"model": {"vocab": null}}'), TOKENIZER),
    "tokenizer-no-model": Case(content(TOKENIZER, '{"version": "1.0"}'), TOKENIZER),
    "tokenizer-large": Case(content(TOKENIZER, b"[" + b"0," * 50_000_000 + b"0]"), TOKENIZER),
    "tokenizer-deep": Case(content(TOKENIZER, "[" * 200_000), TOKENIZER),
    "tokenizer-piped": Case(piped(TOKENIZER), TOKENIZER),
    "tokenizer-away": Case(moved(TOKENIZER), TOKENIZER),
    "tokenizer-padding": Case(padding, TOKENIZER, True),
    "id-of-4e9": Case(vocabulary(4 * 10**9), TOKENIZER),
    "id-of-1e30": Case(vocabulary(10**30), TOKENIZER),
    "id-below-0": Case(vocabulary(-1), TOKENIZER),
    "id-a-text": Case(vocabulary("7"), TOKENIZER),
    "id-beyond-the-model": Case(vocabulary(900), "tokenizer"),
    "added-id-of-4e9": Case(added(4 * 10**9), TOKENIZER),
    "added-tokens-no-list": Case(keys(TOKENIZER, added_tokens=7), TOKENIZER),
    "settings-a-list": Case(content(SETTINGS, "[1]"), SETTINGS),
    "settings-of-wrong-types": Case(
        keys(SETTINGS, pad_token=[1], model_max_length="x", added_tokens_decoder=[]),
        "backbone",
        True,
    ),
    "settings-decoder": Case(keys(SETTINGS, added_tokens_decoder={"4000000000": {}}), SETTINGS),
    "settings-files": Case(
        keys(SETTINGS, fast_tokenizer_files=["../tokenizer.9.json"], vocab_file="/etc/passwd"),
        SETTINGS,
        True,
    ),
    "special-tokens-a-list": Case(content("special_tokens_map.json", "[]"), "special_tokens_map"),
    "special-tokens-of-wrong-types": Case(
        keys("special_tokens_map.json", pad_token={"content": 7}, cls_token=[[]]), "backbone", True
    ),
    "added-tokens-file": Case(keys("added_tokens.json", x=4 * 10**9), "added_tokens.json"),
    "pickled": Case(pickled, "model.safetensors", weights=True),
    "pickle-renamed": Case(content("model.safetensors", PICKLE), "model.safetensors", weights=True),
    "header-of-2^40": Case(
        content("model.safetensors", header(2**40)), "model.safetensors", weights=True
    ),
    "overlapping": Case(
        content("model.safetensors", OVERLAPPING), "model.safetensors", weights=True
    ),
    "halved": Case(halved, "model.safetensors", weights=True),
    "weights-away": Case(moved("model.safetensors"), "model.safetensors", weights=True),
    "weights-piped": Case(piped("model.safetensors"), "model.safetensors", weights=True),
    "index-above": Case(index("../outside/model.safetensors"), "index.json", weights=True),
    "index-of-nothing": Case(index(), "model.safetensors", weights=True),
    "index-a-list": Case(
        lambda folder: (
            (folder / "model.safetensors").unlink(),
            (folder / "model.safetensors.index.json").write_text("[" * 100_000),
        ),
        "index.json",
        weights=True,
    ),
}
