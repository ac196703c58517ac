"""Vectors of the frozen backbone: what of a long text they hang on, and when they are kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from foldwise.config.schema import Config
from foldwise.hardware.device import build_accelerator
from foldwise.members.frozen import Frozen

HEAD = "card fee bank call me now please"
TAIL = "loan house payment rate escrow late again"
CHUNKS = {"long": "chunks", "stride": 3}


@pytest.fixture
def frozen(make_config: Callable[..., Config], backbone: Path) -> Callable[..., Frozen]:
    """Build the frozen backbone of a run whose inputs are of so many tokens."""

    def build(stores: Path | None = None, max_length: int = 12, **text: Any) -> Frozen:
        config = make_config(text={"max_length": max_length, **text}, trackers=[])
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
