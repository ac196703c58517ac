"""Vectors of the frozen backbone: what of a long text they hang on, and when they are kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from foldwise.config.schema import Config
from foldwise.hardware.device import build_accelerator
from foldwise.members.frozen import Frozen
from foldwise.models.backbone import load_backbone, load_tokenizer

HEAD = "card fee bank call me now please"
TAIL = "loan house payment rate escrow late again"
CHUNKS = {"long": "chunks", "stride": 3}


@pytest.fixture
def frozen(make_config: Callable[..., Config], backbone: Path) -> Callable[..., Frozen]:
    """Build the frozen backbone of a run whose inputs are of so many tokens."""

    def build(
        stores: Path | None = None,
        max_length: int = 12,
        embedding: str = "middle_and_last",
        **text: Any,
    ) -> Frozen:
        config = make_config(
            text={"max_length": max_length, **text}, model={"embedding": embedding}, trackers=[]
        )
        accelerator = build_accelerator(config.training)
        return Frozen(config, backbone, lambda: backbone, {"model": "a"}, accelerator, stores)

    return build


def rows(*texts: str) -> pl.DataFrame:
    return pl.DataFrame({"text": texts})


def test_the_end_of_a_long_text_is_read_where_long_texts_are_chunks(
    frozen: Callable[..., Frozen],
) -> None:
    both = rows(f"{HEAD} {HEAD} {TAIL}", f"{HEAD} {HEAD} {HEAD}")
    cut, chunks = frozen().embed(both), frozen(**CHUNKS).embed(both)
    assert (cut[0] == cut[1]).all()
    assert not np.allclose(chunks[0], chunks[1], atol=1e-3)


def test_a_long_text_has_the_mean_over_the_tokens_of_its_windows(
    frozen: Callable[..., Frozen],
) -> None:
    # 14 words of one token each, cut to 10 a window: the first ten, and the last ten.
    words = f"{HEAD} {TAIL}".split()
    whole = frozen(**CHUNKS)
    assert [len(whole.texts(rows(word)).text[0]) for word in words] == [1] * 14
    assert whole.texts(rows(" ".join(words))).chunks.tolist() == [2]
    windows = frozen().embed(rows(" ".join(words[:10]), " ".join(words[-10:])))
    (vector,) = whole.embed(rows(" ".join(words)))
    np.testing.assert_allclose(vector, windows.mean(axis=0), atol=1e-6)


def test_a_text_that_fits_has_the_vector_that_truncation_gives_it(
    frozen: Callable[..., Frozen],
) -> None:
    short = rows(HEAD, "card", "")
    assert frozen(**CHUNKS).embed(short).tolist() == frozen().embed(short).tolist()


def test_texts_that_read_alike_are_passed_once_and_others_are_told_apart(
    frozen: Callable[..., Frozen], tmp_path: Path
) -> None:
    table = rows(f"{HEAD} {HEAD} {TAIL}", HEAD, f"{HEAD} {HEAD} {HEAD}", HEAD)
    kept = frozen(tmp_path / ".tokens", **CHUNKS).embed(table)
    np.testing.assert_allclose(frozen(**CHUNKS).embed(table), kept, atol=1e-6)


def test_vectors_are_kept_by_how_long_texts_are_read(
    frozen: Callable[..., Frozen], tmp_path: Path
) -> None:
    for text in ({}, CHUNKS, {**CHUNKS, "stride": 2}, {**CHUNKS, "max_chunks": 2}, {}):
        frozen(tmp_path / ".tokens", **text).embed(rows(f"{HEAD} {HEAD} {TAIL}"))
    assert len(list((tmp_path / ".embeddings").iterdir())) == 4


def test_beside_the_last_states_stand_those_two_thirds_of_the_way_up(
    frozen: Callable[..., Frozen], backbone: Path
) -> None:
    texts = [HEAD, "card"]
    found = frozen().embed(rows(*texts))
    model = load_backbone(backbone, weights=backbone, attention_dropout=None).eval()
    depth = model.config.num_hidden_layers
    for text, vectors in zip(texts, found, strict=True):
        ids = load_tokenizer(backbone)(text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            states = model(input_ids=ids, output_hidden_states=True).hidden_states
        wanted = [states[-1].mean(dim=1), states[2 * depth // 3].mean(dim=1)]
        np.testing.assert_allclose(vectors, torch.cat(wanted).numpy(), atol=1e-5)


@pytest.mark.parametrize("written", ["last", "auto"])  # auto: a run from before there was a middle
def test_the_last_states_alone_are_what_they_were_beside_the_middle(
    frozen: Callable[..., Frozen], written: str
) -> None:
    both, alone = (frozen(embedding=e).embed(rows(HEAD)) for e in ("middle_and_last", written))
    assert both.shape[1] == 2
    assert alone.tolist() == both[:, :1].tolist()


def test_vectors_with_and_without_the_middle_are_kept_apart(
    frozen: Callable[..., Frozen], tmp_path: Path
) -> None:
    for embedding, each in (("last", 1), ("middle_and_last", 2), ("last", 1)):
        found = frozen(tmp_path / ".tokens", embedding=embedding).embed(rows(HEAD))
        assert found.shape[:2] == (1, each)
    assert len(list((tmp_path / ".embeddings").iterdir())) == 2
