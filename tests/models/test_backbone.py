"""Backbone: float32 weights, blocks found and frozen, no code run for a stranger's config."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import nn

from foldwise.errors import FoldwiseError
from foldwise.models.backbone import (
    blocks_of,
    freeze,
    layers_of,
    load_backbone,
    load_tokenizer,
    read_config,
)
from foldwise.models.window import window

Backbones = Callable[[str], Path]
KINDS = ("bert", "distilbert", "gpt2")
# Which parameters lie below the first block and in block n, by name.
EMBEDDINGS = {"bert": r"embeddings\.", "distilbert": r"embeddings\.", "gpt2": r"w[tp]e\."}
BLOCK = {
    "bert": r"encoder\.layer\.{}\.",
    "distilbert": r"transformer\.layer\.{}\.",
    "gpt2": r"h\.{}\.",
}


def load(folder: Path, **options: Any) -> nn.Module:
    chosen: dict[str, Any] = {"weights": True, "attention_dropout": None} | options
    return load_backbone(folder, **chosen)


def named(backbone: nn.Module, pattern: str) -> set[str]:
    return {name for name, _ in backbone.named_parameters() if re.match(pattern, name)}


def copied(folder: Path, target: Path, **changes: Any) -> Path:
    # The same backbone with other keys in its config.json.
    shutil.copytree(folder, target)
    config = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(config | changes))
    return target


@pytest.mark.parametrize("kind", KINDS)
def test_layers_are_the_embeddings_and_the_blocks_bottom_first(
    backbones: Backbones, kind: str
) -> None:
    backbone = load(backbones(kind))
    names = {id(p): name for name, p in backbone.named_parameters()}
    layers = [{names[id(p)] for p in layer} for layer in layers_of(backbone)]
    assert layers == [
        named(backbone, EMBEDDINGS[kind]),
        named(backbone, BLOCK[kind].format(0)),
        named(backbone, BLOCK[kind].format(1)),
    ]
    assert all(layers)
    assert len(blocks_of(backbone)) == 2


def test_what_comes_after_the_last_block_is_in_no_layer(backbones: Backbones) -> None:
    backbone = load(backbones("gpt2"))
    inside = {id(p) for layer in layers_of(backbone) for p in layer}
    outside = {name for name, p in backbone.named_parameters() if id(p) not in inside}
    assert outside == {"ln_f.weight", "ln_f.bias"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("blocks", [0, 1, 2])
def test_freezing_stops_the_lowest_blocks_and_the_embeddings(
    backbones: Backbones, kind: str, blocks: int
) -> None:
    backbone = load(backbones(kind))
    freeze(backbone, blocks)
    expected = set().union(*(named(backbone, BLOCK[kind].format(i)) for i in range(blocks)))
    if blocks:
        expected |= named(backbone, EMBEDDINGS[kind])
    assert {n for n, p in backbone.named_parameters() if not p.requires_grad} == expected


def test_freezing_more_blocks_than_there_are_is_an_error(backbone: Path) -> None:
    with pytest.raises(FoldwiseError) as caught:
        freeze(load(backbone), 3)
    assert str(caught.value) == "model.freeze is 3, but BertModel has 2 blocks"


def test_a_backbone_with_shared_blocks_has_none_to_freeze() -> None:
    config = transformers.AlbertConfig(
        vocab_size=20, hidden_size=8, num_attention_heads=2, intermediate_size=8, embedding_size=8
    )
    albert = transformers.AutoModel.from_config(config)
    with pytest.raises(FoldwiseError, match="no list of 12 blocks found in AlbertModel"):
        blocks_of(albert)
    freeze(albert, 0)
    assert all(parameter.requires_grad for parameter in albert.parameters())


def test_weights_are_float32_whatever_the_files_type(backbone: Path, tmp_path: Path) -> None:
    folder = copied(backbone, tmp_path / "bf16", dtype="bfloat16", torch_dtype="bfloat16")
    tensors = load_file(folder / "model.safetensors")
    halves = {name: tensor.to(torch.bfloat16) for name, tensor in tensors.items()}
    save_file(halves, folder / "model.safetensors", metadata={"format": "pt"})
    loaded = load(folder)
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    for name, parameter in loaded.named_parameters():
        assert torch.equal(parameter, halves[name].float())
    assert {p.dtype for p in load(folder, weights=False).parameters()} == {torch.float32}


def test_weights_are_those_of_the_file_and_without_them_random(backbone: Path) -> None:
    tensors = load_file(backbone / "model.safetensors")
    name = "embeddings.word_embeddings.weight"
    assert torch.equal(load(backbone).get_parameter(name), tensors[name])
    random = load(backbone, weights=False).get_parameter(name)
    assert random.shape == tensors[name].shape
    assert not torch.equal(random, tensors[name])


def test_the_pooler_is_left_out(backbone: Path) -> None:
    assert "pooler.dense.weight" in load_file(backbone / "model.safetensors")
    assert named(load(backbone), "pooler") == set()


@pytest.mark.parametrize("kind", KINDS)
def test_attention_dropout_is_set_and_other_dropout_kept(backbones: Backbones, kind: str) -> None:
    backbone = load(backbones(kind), attention_dropout=0.37)
    config = vars(backbone.config)
    places = ("attention_probs_dropout_prob", "attention_dropout", "attn_pdrop")
    assert [config[key] for key in places if key in config] == [0.37]
    others = ("hidden_dropout_prob", "dropout", "resid_pdrop")
    assert [config[key] for key in others if key in config] == [0.1]


def test_attention_dropout_is_the_configs_own_where_none_is_given(backbone: Path) -> None:
    assert load(backbone).config.attention_probs_dropout_prob == 0.1  # type: ignore[union-attr]


def test_activations_are_recomputed_on_request(backbone: Path) -> None:
    def recomputing(model: nn.Module) -> bool:
        return any(getattr(module, "gradient_checkpointing", False) for module in model.modules())

    assert recomputing(load(backbone, checkpoint_activations=True))
    assert not recomputing(load(backbone))


CANARY = """
from pathlib import Path
Path({path!r}).write_text("ran")
from transformers import BertConfig as Config, BertModel as Model, PreTrainedTokenizerFast as Words
"""


@pytest.fixture
def hostile(backbone: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A backbone whose JSON files all point at code, and the file that the code would write."""
    canary = tmp_path / "canary"
    folder = copied(
        backbone,
        tmp_path / "hostile",
        auto_map={"AutoConfig": "evil.Config", "AutoModel": "evil.Model"},
        trust_remote_code=True,
        custom_pipelines={"text-classification": {"impl": "evil.Config"}},
        _attn_implementation_internal="evil/kernel",
        _attn_implementation="evil/kernel",
        attn_implementation="evil/kernel",
    )
    (folder / "evil.py").write_text(CANARY.format(path=str(canary)))
    words = json.loads((folder / "tokenizer_config.json").read_text())
    words |= {"auto_map": {"AutoTokenizer": [None, "evil.Words"]}, "trust_remote_code": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(words))
    return folder, canary


def test_keys_that_would_run_code_are_ignored(
    hostile: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, canary = hostile
    monkeypatch.chdir(folder)  # where a plain import of evil would find it
    config = read_config(folder)
    assert "evil" not in repr(vars(config))
    for weights in (True, False):
        model = load(folder, weights=weights)
        assert type(model).__module__ == "transformers.models.bert.modeling_bert"
        assert model.config._attn_implementation in ("sdpa", "eager")  # type: ignore[union-attr]
    tokenizer = load_tokenizer(folder)
    assert tokenizer.convert_ids_to_tokens(tokenizer("fee")["input_ids"]) == [
        "[CLS]",
        "fee",
        "[SEP]",
    ]
    assert not canary.exists()


def test_the_hostile_files_would_run_code_where_it_is_trusted(
    hostile: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, canary = hostile
    # transformers marks the class as code to save with every model: undone for the tests below.
    monkeypatch.setattr(transformers.BertConfig, "_auto_class", None)
    transformers.AutoConfig.from_pretrained(folder, trust_remote_code=True)
    assert canary.exists()


def test_pickled_weights_are_not_read(backbone: Path, tmp_path: Path) -> None:
    folder = copied(backbone, tmp_path / "pickled")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(FoldwiseError, match="can't be loaded as a transformers model"):
        load(folder)


def test_weights_of_another_model_are_refused(backbones: Backbones, tmp_path: Path) -> None:
    folder = copied(backbones("bert"), tmp_path / "mixed")
    shutil.copy(backbones("distilbert") / "model.safetensors", folder / "model.safetensors")
    with pytest.raises(FoldwiseError, match=r"lack \d+ tensors of its config\.json's BertModel"):
        load(folder)


def test_damaged_weights_are_refused(backbone: Path, tmp_path: Path) -> None:
    folder = copied(backbone, tmp_path / "damaged")
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(FoldwiseError, match="can't be loaded as a transformers model"):
        load(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "config.json: no such file"),
        ("{", "config.json: can't be read: Expecting property name"),
        ("[]", "config.json: must be a map of keys, not []"),
        ('{"hidden_size": 8}', "config.json: not a model's config (it has no model_type)"),
        ('{"model_type": "nonesuch"}', "nonesuch"),
    ],
)
def test_a_config_that_is_none_is_refused(
    tmp_path: Path, content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(FoldwiseError) as caught:
        read_config(tmp_path)
    assert str(caught.value).startswith(f"model.backbone: {tmp_path}")
    assert message in str(caught.value)


def test_a_folder_without_tokenizer_is_refused(backbone: Path, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        shutil.copy(backbone / name, tmp_path / name)
    with pytest.raises(FoldwiseError, match="tokenizer"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("config", "limit"),
    [
        (transformers.BertConfig(), 512),
        (transformers.DistilBertConfig(), 512),
        (transformers.GPT2Config(), 1024),
        (transformers.RobertaConfig(max_position_embeddings=514, pad_token_id=1), 512),
        (transformers.XLMRobertaConfig(max_position_embeddings=514, pad_token_id=1), 512),
        (transformers.MPNetConfig(max_position_embeddings=514, pad_token_id=1), 512),
        (transformers.T5Config(), None),
    ],
)
def test_the_window_is_what_position_embeddings_allow(config: Any, limit: int | None) -> None:
    assert window(config) == limit


def test_roberta_reads_texts_as_long_as_its_window_and_no_longer() -> None:
    config = transformers.RobertaConfig(
        vocab_size=20,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
        max_position_embeddings=12,
        pad_token_id=1,
    )
    model = transformers.AutoModel.from_config(config)
    limit = window(config)
    assert limit == 10
    assert model(torch.full((1, limit), 5)).last_hidden_state.shape == (1, 10, 8)
    with pytest.raises((IndexError, RuntimeError)):
        model(torch.full((1, limit + 1), 5))
