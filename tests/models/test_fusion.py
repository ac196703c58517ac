"""Fusions against their formulas, and tokens among those of a text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from foldwise.models.backbone import load_backbone
from foldwise.models.classifier import Classifier
from foldwise.models.fusion import ConcatFusion, GatedFusion, TokenFusion
from foldwise.models.inputs import CategoryEmbeddings, TabularFeatures, TabularTokens
from foldwise.models.pooling import MeanPooling


def test_concat_puts_features_behind_the_text() -> None:
    text, columns = torch.randn(3, 4), torch.randn(3, 2)
    joined = ConcatFusion()(text, columns)
    assert joined[:, :4].equal(text)
    assert joined[:, 4:].equal(columns)


@pytest.mark.parametrize("size", [None, 5])
def test_gate_is_the_gated_multimodal_unit(size: int | None) -> None:
    fusion = GatedFusion(4, 2, size)
    text, columns = torch.randn(3, 4), torch.randn(3, 2)
    w_t, w_c, w_z = (layer.weight for layer in (fusion.text, fusion.columns, fusion.gate))
    z = torch.sigmoid(torch.cat([text, columns], 1) @ w_z.T + fusion.gate.bias)
    h_t = torch.tanh(text @ w_t.T + fusion.text.bias)
    h_c = torch.tanh(columns @ w_c.T + fusion.columns.bias)
    torch.testing.assert_close(fusion(text, columns), z * h_t + (1 - z) * h_c)
    assert fusion(text, columns).shape == (3, size or 4)


def test_tokens_stand_behind_the_special_ones() -> None:
    text, tokens = torch.randn(2, 3, 4), torch.randn(2, 2, 4)
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    joined, seen = TokenFusion(special=1)(text, mask, tokens)
    assert joined[:, [0, 3, 4]].equal(text)
    assert joined[:, 1:3].equal(tokens)
    assert seen.tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]]


@pytest.fixture
def token_classifier(
    backbones: Callable[[str], Path], request: pytest.FixtureRequest
) -> Classifier:
    """A classifier with one category as a token in front of the text."""
    torch.manual_seed(0)
    backbone = load_backbone(backbones(request.param), weights=True, attention_dropout=0.0)
    features = TabularFeatures(CategoryEmbeddings([6], 8, dropout=0.0), None)
    return Classifier(
        backbone,
        MeanPooling(),
        torch.nn.Linear(32, 3),
        inputs=TabularTokens(features, 32, 0.5),
        fusion=TokenFusion(special=1),
    ).eval()


@pytest.mark.parametrize("token_classifier", ["bert", "distilbert"], indirect=True)
def test_padding_does_not_matter_to_texts_with_tokens_in_front(
    token_classifier: Classifier,
) -> None:
    short, long = torch.randint(5, 20, (1, 4)), torch.randint(5, 20, (1, 9))
    alone = token_classifier(short, torch.ones(1, 4).long(), categorical=torch.tensor([[2]]))
    padded = torch.cat([torch.nn.functional.pad(short, (0, 5)), long])
    mask = torch.ones(2, 9).long()
    mask[0, 4:] = 0
    both = token_classifier(padded, mask, categorical=torch.tensor([[2], [3]]))
    torch.testing.assert_close(both[:1], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("token_classifier", ["bert"], indirect=True)
def test_a_token_changes_what_the_words_become(token_classifier: Classifier) -> None:
    words, mask = torch.randint(5, 20, (1, 4)), torch.ones(1, 4).long()
    states: list[torch.Tensor] = []
    token_classifier.pooling.register_forward_hook(lambda _, args, __: states.append(args[0]))  # type: ignore[union-attr]
    for slot in (2, 3):
        token_classifier(words, mask, categorical=torch.tensor([[slot]]))
    first, second = states
    assert first.shape == (1, 5, 32)
    assert (first[:, 2:] - second[:, 2:]).abs().max() > 1e-3


@pytest.mark.parametrize("token_classifier", ["bert"], indirect=True)
def test_each_chunk_has_its_rows_tokens_in_front(token_classifier: Classifier) -> None:
    words, mask = torch.randint(5, 20, (3, 4)), torch.ones(3, 4).long()

    class Apart(torch.nn.Module):
        def forward(self, pooled: torch.Tensor, chunk_row: torch.Tensor) -> torch.Tensor:
            return pooled

    slots = torch.tensor([[2], [3]])
    expected = token_classifier(words, mask, categorical=slots[[0, 0, 1]])
    token_classifier.chunks = Apart()
    found = token_classifier(words, mask, torch.tensor([0, 0, 1]), categorical=slots)
    torch.testing.assert_close(found, expected)
