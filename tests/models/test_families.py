"""A tiny random model of every family: the same loader, blocks, adapters and recomputation."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from foldwise.config.model import Lora, Model
from foldwise.config.training import Training
from foldwise.errors import FoldwiseError
from foldwise.members.frozen import MeanVectors
from foldwise.models.adapters import add_adapters, build_backbone, merge_adapters
from foldwise.models.attention import choose_attention
from foldwise.models.backbone import freeze, layers_of, load_backbone, read_config
from foldwise.models.classifier import Classifier
from foldwise.models.empty import is_sent, needs_values, sent_backbones
from foldwise.models.head import Head
from foldwise.models.pooling import MeanPooling
from foldwise.models.window import window
from foldwise.run.weights import load_weights, saved_weights

HIDDEN, DEPTH, WORDS, LONGEST = 16, 2, 40, 32

ENCODER: dict[str, Any] = {
    "vocab_size": WORDS,
    "hidden_size": HIDDEN,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": LONGEST,
}
DECODER = ENCODER | {"num_key_value_heads": 1, "head_dim": 8}
# Positions are numbered from the pad id, 1, on.
FROM_PAD = ENCODER | {"max_position_embeddings": LONGEST + 2, "pad_token_id": 1}
RELATIVE = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]}
V3 = RELATIVE | {
    "position_biased_input": False,
    "position_buckets": 8,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
}

# model type -> its config's values; parameters below the first block, and those of a block.
FAMILIES: dict[str, tuple[dict[str, Any], str, str]] = {
    "bert": (ENCODER, r"embeddings\.", r"encoder\.layer\.{}\."),
    "distilbert": (
        {
            "vocab_size": WORDS,
            "dim": HIDDEN,
            "n_layers": DEPTH,
            "n_heads": 2,
            "hidden_dim": 24,
            "max_position_embeddings": LONGEST,
        },
        r"embeddings\.",
        r"transformer\.layer\.{}\.",
    ),
    "roberta": (FROM_PAD, r"embeddings\.", r"encoder\.layer\.{}\."),
    "xlm-roberta": (FROM_PAD, r"embeddings\.", r"encoder\.layer\.{}\."),
    "electra": (
        ENCODER | {"embedding_size": 8},
        r"embeddings(_project)?\.",
        r"encoder\.layer\.{}\.",
    ),
    "mpnet": (
        FROM_PAD,
        r"embeddings\.|encoder\.relative_attention_bias\.",
        r"encoder\.layer\.{}\.",
    ),
    "deberta-v2": (
        ENCODER | RELATIVE,
        r"embeddings\.|encoder\.(rel_embeddings|LayerNorm)\.",
        r"encoder\.layer\.{}\.",
    ),
    "deberta-v3": (
        ENCODER | V3,
        r"embeddings\.|encoder\.(rel_embeddings|LayerNorm)\.",
        r"encoder\.layer\.{}\.",
    ),
    "albert": (ENCODER | {"embedding_size": 8}, "", ""),
    "modernbert": (
        ENCODER | {"pad_token_id": 0, "local_attention": 4, "global_attn_every_n_layers": 2},
        r"embeddings\.",
        r"layers\.{}\.",
    ),
    "gpt2": (
        {
            "vocab_size": WORDS,
            "n_embd": HIDDEN,
            "n_layer": DEPTH,
            "n_head": 2,
            "n_positions": LONGEST,
            "bos_token_id": 0,
            "eos_token_id": 0,
        },
        r"w[tp]e\.",
        r"h\.{}\.",
    ),
    "llama": (DECODER, r"embed_tokens\.", r"layers\.{}\."),
    "mistral": (DECODER | {"sliding_window": 4}, r"embed_tokens\.", r"layers\.{}\."),
    "qwen2": (DECODER, r"embed_tokens\.", r"layers\.{}\."),
    "qwen3": (DECODER, r"embed_tokens\.", r"layers\.{}\."),
    "gemma": (DECODER, r"embed_tokens\.", r"layers\.{}\."),
}
BLOCKS = [family for family in FAMILIES if family != "albert"]
EAGER_ALONE = ("deberta-v2", "deberta-v3", "mpnet")
NOT_RECOMPUTED = ("albert", "mpnet")
RELATIVE_PLACES = ("llama", "mistral", "qwen2", "qwen3", "gemma")  # of decoders
TEXTS = [[7, 3, 9, 4, 12, 30, 8, 11, 25], [5, 6], [13, 4, 22, 39, 2]]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A folder with a tiny random model of a family."""
    root = tmp_path_factory.mktemp("families")

    @cache
    def of_family(family: str) -> Path:
        model_type = "deberta-v2" if family.startswith("deberta") else family
        config = transformers.AutoConfig.for_model(model_type, **FAMILIES[family][0])
        torch.manual_seed(0)
        model = transformers.AutoModel.from_config(config)
        for parameter in model.parameters():  # as far from zero as trained weights are
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.3)
        (root / family).mkdir()
        config.save_pretrained(root / family)
        tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        save_file(tensors, root / family / "model.safetensors", {"format": "pt"})
        return root / family

    return of_family


def load(folder: Path, **options: Any) -> nn.Module:
    chosen: dict[str, Any] = {"weights": True, "attention_dropout": None} | options
    return load_backbone(folder, **chosen)


def classifier(folder: Path, **options: Any) -> Classifier:
    backbone = load(folder, **options)
    torch.manual_seed(1)
    return Classifier(backbone, MeanPooling(), Head(HIDDEN, 3, [], 0.0, 0.5)).eval()


def padded(texts: list[list[int]], extra: int = 0, pad: int = 1) -> dict[str, Tensor]:
    width = max(map(len, texts)) + extra
    return {
        "input_ids": torch.tensor([ids + [pad] * (width - len(ids)) for ids in texts]),
        "attention_mask": torch.tensor([[1] * len(i) + [0] * (width - len(i)) for i in texts]),
    }


def matching(backbone: nn.Module, pattern: str) -> set[str]:
    return {name for name, _ in backbone.named_parameters() if re.match(pattern, name)}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_text_in_a_padded_batch_has_the_logits_it_has_alone(
    saved: Callable[[str], Path], family: str
) -> None:
    config = read_config(saved(family))
    model = classifier(
        saved(family), attention=choose_attention(config, "auto", 0.0, "cpu", "float32")
    )
    with torch.no_grad():
        together = model(**padded(TEXTS, extra=3))
        alone = torch.cat([model(**padded([text])) for text in TEXTS])
    assert together.std(dim=0).min() > 1e-2
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_frozen_text_has_the_vectors_it_has_alone_of_the_top_and_the_middle(
    saved: Callable[[str], Path], family: str
) -> None:
    model = MeanVectors(load(saved(family)), middle=True).eval()
    with torch.no_grad():
        together = model(**padded(TEXTS, extra=3))
        alone = torch.cat([model(**padded([text])) for text in TEXTS])
    assert together.shape == (len(TEXTS), 2, HIDDEN)
    assert not torch.allclose(together[:, 0], together[:, 1], atol=0.1)
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("family", "side"),
    [
        *((family, "right") for family in FAMILIES),
        *((family, "left") for family in RELATIVE_PLACES),
    ],
)
def test_a_frozen_text_has_the_states_of_its_tokens_that_it_has_alone(
    saved: Callable[[str], Path], family: str, side: str
) -> None:
    model = MeanVectors(load(saved(family)), middle=True, tokens=True).eval()
    batch = padded(TEXTS, extra=3)
    if side == "left":
        lengths = [len(ids) for ids in TEXTS]
        batch = {
            name: torch.stack([row.roll(-n) for row, n in zip(rows, lengths, strict=True)])
            for name, rows in batch.items()
        }
        assert batch["attention_mask"][:, -1].all()
    with torch.no_grad():
        means, states, text = model(**batch)
        alone = [model(**padded([ids])) for ids in TEXTS]
    assert text.tolist() == [place for place, ids in enumerate(TEXTS) for _ in ids]
    torch.testing.assert_close(means, torch.cat([each[0] for each in alone]), atol=1e-4, rtol=0)
    torch.testing.assert_close(states, torch.cat([each[1] for each in alone]), atol=1e-5, rtol=0)
    # In the mean they are the text's second vector.
    torch.testing.assert_close(states[text == 0].mean(dim=0), means[0, 1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_all_implementations_of_attention_that_can_be_had_agree(
    saved: Callable[[str], Path], family: str
) -> None:
    config = read_config(saved(family))
    logits = []
    for attention in ("eager",) if family in EAGER_ALONE else ("eager", "sdpa"):
        assert choose_attention(config, attention, None, "cpu", "float32") == attention
        model = classifier(saved(family), attention=attention)
        assert model.backbone.config._attn_implementation == attention  # type: ignore[union-attr]
        with torch.no_grad():
            logits.append(model(**padded(TEXTS)))
    torch.testing.assert_close(logits[0], logits[-1], atol=1e-4, rtol=0)
    if family in EAGER_ALONE:
        with pytest.raises(FoldwiseError, match=r"model\.attention: sdpa isn't there for \w+; use"):
            choose_attention(config, "sdpa", None, "cpu", "float32")


@pytest.mark.parametrize("family", BLOCKS)
def test_layers_are_embeddings_then_blocks_and_freezing_one_stops_exactly_these(
    saved: Callable[[str], Path], family: str
) -> None:
    backbone = load(saved(family))
    below, block = FAMILIES[family][1:]
    expected = [
        matching(backbone, below),
        *(matching(backbone, block.format(number)) for number in range(DEPTH)),
    ]
    names = {id(p): name for name, p in backbone.named_parameters()}
    assert [{names[id(p)] for p in layer} for layer in layers_of(backbone)] == expected
    assert all(expected)
    freeze(backbone, 1)
    frozen = {name for name, p in backbone.named_parameters() if not p.requires_grad}
    assert frozen == expected[0] | expected[1]


def test_alberts_shared_block_is_one_layer_and_cannot_be_frozen(
    saved: Callable[[str], Path],
) -> None:
    backbone = load(saved("albert"))
    assert [len(layer) for layer in layers_of(backbone)] == [len(list(backbone.parameters()))]
    with pytest.raises(FoldwiseError, match="no list of 2 blocks found in AlbertModel"):
        freeze(backbone, 1)


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_saved_and_loaded_into_a_fresh_model_give_the_same_logits(
    saved: Callable[[str], Path], family: str, tmp_path: Path
) -> None:
    model = classifier(saved(family))
    tensors = {name: tensor.clone() for name, tensor in saved_weights(model).items()}
    save_file(tensors, tmp_path / "model.safetensors")
    fresh = classifier(saved(family), weights=False)
    with torch.no_grad():
        expected, before = model(**padded(TEXTS)), fresh(**padded(TEXTS))
        load_weights(fresh, load_file(tmp_path / "model.safetensors"))
        assert not torch.allclose(before, expected, atol=1e-2)
        assert torch.equal(fresh(**padded(TEXTS)), expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_adapters_attach_learn_alone_are_saved_alone_and_merge(
    saved: Callable[[str], Path], family: str
) -> None:
    model = classifier(saved(family))
    batch = padded(TEXTS)
    with torch.no_grad():
        before = model(**batch)
    assert model.backbone is not None
    add_adapters(model.backbone, Lora(r=2, dropout=0.0))
    with torch.no_grad():
        assert torch.equal(model(**batch), before)  # at first they change nothing
    learning = {name for name, p in model.named_parameters() if p.requires_grad}
    assert {name for name in learning if "lora_" not in name} == {
        "head.layers.1.weight",
        "head.layers.1.bias",
    }
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.3)
    model(**batch).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters() if p.requires_grad)
    assert saved_weights(model).keys() == learning
    with torch.no_grad():
        adapted = model(**batch)
        again = classifier(saved(family))
        assert again.backbone is not None
        add_adapters(again.backbone, Lora(r=2, dropout=0.0))
        load_weights(again, saved_weights(model))
        assert torch.equal(again(**batch), adapted)
        merge_adapters(model)
        assert not any("lora_" in name for name, _ in model.named_parameters())
        torch.testing.assert_close(model(**batch), adapted, atol=1e-4, rtol=0)
    assert not torch.allclose(adapted, before, atol=1e-2)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_backbone_whose_weights_are_sent_takes_no_memory_and_is_the_same_once_it_has_them(
    saved: Callable[[str], Path], family: str
) -> None:
    def build(**model: Any) -> nn.Module:
        attention = "eager" if family in EAGER_ALONE else "sdpa"
        placed = Training(device="cpu", precision="float32")
        return build_backbone(
            Model(**model), placed, saved(family), saved(family), attention
        ).eval()

    for model in ({}, {"lora": {"r": 2}}, {"lora": {"r": 2, "variant": "dora"}}):
        whole = build(**model)
        with sent_backbones():
            empty = build(**model)
        assert not is_sent()
        assert all(parameter.is_meta for parameter in empty.parameters())
        assert not needs_values(empty)
        pairs = zip(whole.named_parameters(), empty.named_parameters(), strict=True)
        for (name, has), (other, lacks) in pairs:
            assert (name, has.shape, has.requires_grad) == (other, lacks.shape, lacks.requires_grad)
            torch.utils.swap_tensors(lacks, nn.Parameter(has.detach().clone(), has.requires_grad))
        assert saved_weights(empty).keys() == saved_weights(whole).keys()
        with torch.no_grad():
            states = [backbone(**padded(TEXTS)).last_hidden_state for backbone in (whole, empty)]
        assert torch.equal(*states)


@pytest.mark.parametrize("family", [f for f in FAMILIES if f not in NOT_RECOMPUTED])
def test_recomputed_activations_give_the_same_gradients(
    saved: Callable[[str], Path], family: str
) -> None:
    gradients = []
    for recompute in (False, True):
        model = classifier(saved(family), attention_dropout=0.0, checkpoint_activations=recompute)
        for module in model.modules():  # no other dropout either: it would be drawn anew
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        model.train()
        model(**padded(TEXTS)).square().sum().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    for name, expected in gradients[0].items():
        if expected is None:
            assert gradients[1][name] is None
        else:
            torch.testing.assert_close(gradients[1][name], expected, atol=1e-5, rtol=1e-4)
    assert sum(gradient is not None for gradient in gradients[0].values()) > 10


@pytest.mark.parametrize("family", NOT_RECOMPUTED)
def test_activations_that_cannot_be_recomputed_are_refused(
    saved: Callable[[str], Path], family: str
) -> None:
    with pytest.raises(FoldwiseError, match=r"model\.checkpoint_activations: transformers can't"):
        load(saved(family), checkpoint_activations=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_window_is_the_longest_text_that_fits(
    saved: Callable[[str], Path], family: str
) -> None:
    limit = window(read_config(saved(family)))
    assert limit == (None if family == "deberta-v3" else LONGEST)
    backbone = load(saved(family))
    with torch.no_grad():
        for length in (LONGEST, *([] if limit else [3 * LONGEST])):
            states = backbone(input_ids=torch.full((1, length), 5)).last_hidden_state
            assert states.shape == (1, length, HIDDEN)
            assert states.isfinite().all()


@pytest.mark.parametrize("family", FAMILIES)
def test_no_keys_and_values_are_kept(saved: Callable[[str], Path], family: str) -> None:
    output = load(saved(family))(**padded(TEXTS))
    assert getattr(output, "past_key_values", None) is None


@pytest.mark.parametrize(
    ("model_type", "reason"),
    [
        ("t5", "t5 is an encoder-decoder, whose vectors are made to generate a text from"),
        ("bart", "bart is an encoder-decoder"),
        ("vit", "vit isn't a model of text alone"),
        ("clip", "clip isn't a model of text alone"),
    ],
)
def test_what_is_no_encoder_or_decoder_of_text_is_refused_with_the_reason(
    tmp_path: Path, model_type: str, reason: str
) -> None:
    transformers.AutoConfig.for_model(model_type).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == model_type
    with pytest.raises(FoldwiseError) as caught:
        read_config(tmp_path)
    assert f"model.backbone: {tmp_path / 'config.json'}: {reason}" in str(caught.value)
