"""Attention: the quickest implementation that architecture, device and precision allow."""

from __future__ import annotations

from typing import Any

import pytest
import transformers

from foldwise.errors import FoldwiseError
from foldwise.models import attention
from foldwise.models.attention import choose_attention

BERT = transformers.BertConfig(attention_probs_dropout_prob=0.1)
DEBERTA = transformers.DebertaV2Config()


@pytest.mark.parametrize(
    ("config", "dropout", "device", "precision", "installed", "expected"),
    [
        (BERT, 0.0, "cpu", "float32", False, "sdpa"),
        (BERT, 0.1, "cpu", "float32", False, "eager"),
        (BERT, None, "cpu", "float32", False, "eager"),  # the backbone's own, 0.1
        (BERT, 0.1, "cuda", "bf16", False, "sdpa"),
        (BERT, 0.1, "cuda", "bf16", True, "flash"),
        (BERT, 0.1, "cuda", "float32", True, "sdpa"),
        (BERT, 0.0, "cpu", "bf16", True, "sdpa"),
        (BERT, 0.1, "mps", "float32", False, "sdpa"),
        (DEBERTA, 0.0, "cpu", "float32", False, "eager"),
        (DEBERTA, 0.0, "cuda", "bf16", True, "eager"),
    ],
)
def test_auto_is(
    monkeypatch: pytest.MonkeyPatch,
    config: Any,
    dropout: float | None,
    device: str,
    precision: str,
    installed: bool,
    expected: str,
) -> None:
    monkeypatch.setattr(attention, "is_flash_attn_2_available", lambda: installed)
    assert choose_attention(config, "auto", dropout, device, precision) == expected


@pytest.mark.parametrize(
    ("config", "wanted", "device", "precision", "reason"),
    [
        (BERT, "flash", "cpu", "bf16", "flash needs CUDA and bf16, not cpu and bf16"),
        (BERT, "flash", "cuda", "float32", "flash needs CUDA and bf16, not cuda and float32"),
        (BERT, "flash", "cuda", "bf16", "flash needs the package flash-attn: pip install"),
        (DEBERTA, "flash", "cuda", "bf16", "flash isn't there for DebertaV2Model; use auto"),
        (DEBERTA, "sdpa", "cpu", "float32", "sdpa isn't there for DebertaV2Model; use auto"),
    ],
)
def test_what_cannot_be_had_is_refused_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
    config: Any,
    wanted: str,
    device: str,
    precision: str,
    reason: str,
) -> None:
    monkeypatch.setattr(attention, "is_flash_attn_2_available", lambda: False)
    with pytest.raises(FoldwiseError) as caught:
        choose_attention(config, wanted, None, device, precision)
    assert f"model.attention: {reason}" in str(caught.value)


@pytest.mark.parametrize("wanted", ["sdpa", "eager"])
def test_what_is_asked_for_is_taken(wanted: str) -> None:
    assert choose_attention(BERT, wanted, 0.5, "cpu", "float32") == wanted


@pytest.mark.parametrize(("wanted", "expected"), [("flash", "sdpa"), ("eager", "eager")])
def test_a_run_keeps_its_attention_where_it_can_be_had(wanted: str, expected: str) -> None:
    assert choose_attention(BERT, wanted, 0.0, "cpu", "bf16", strict=False) == expected
