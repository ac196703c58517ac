"""Cells by their pieces: the ids of whole cells, whatever the tokenizer."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from foldwise.encoding import pieces, text
from foldwise.encoding.pieces import Pieces
from foldwise.encoding.text import encode, plain_tokenizer
from foldwise.models.backbone import load_tokenizer
from made_tokenizers import KINDS, SIGNS, N, P, of_bytes

WORDS = [
    "the",
    "card",
    "Bank,",
    "lost.",
    "it!",
    "(naïve)",
    "1234",
    "don't",
    "我能",
    "s",
    "a.b",
    "x;",
]


def cells(seed: int, count: int) -> list[str]:
    draw = random.Random(seed)
    odd = ["".join(draw.choice(SIGNS) for _ in range(draw.randint(0, 60))) for _ in range(count)]
    plain = [" ".join(draw.choice(WORDS) for _ in range(draw.randint(1, 30))) for _ in range(count)]
    return odd + plain


def by_pieces(found: Pieces, texts: list[str]) -> list[list[int]] | None:
    cut = found.cut(pl.Series(texts, dtype=pl.String))
    told = None if cut is None else found.ids(cut)
    if told is None:
        return None
    return [ids.tolist() for ids in np.split(told[0], np.cumsum(told[1])[:-1])]


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"deberta"}))
def test_ids_are_those_of_whole_cells(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "_NEW", 1)
    tokenizer = plain_tokenizer(KINDS[kind]())
    found = Pieces(tokenizer)
    for seed in range(3):  # pieces of the first chunk are known in the second
        texts = cells(seed, 300)
        whole = [e.ids for e in tokenizer.encode_batch(texts, add_special_tokens=False)]
        assert by_pieces(found, texts) == whole


@pytest.mark.parametrize("kind", ["strip", "across a space", "replaced with its space", "added"])
def test_no_text_is_cut_where_a_tokenizer_looks_across(kind: str) -> None:
    pre = P.ByteLevel(add_prefix_space=False)
    tokenizer = of_bytes(None, pre)
    if kind == "strip":
        tokenizer = KINDS["deberta"]()
    elif kind == "across a space":
        tokenizer.add_tokens(["lost my"])
    elif kind == "replaced with its space":
        tokenizer = of_bytes(N.Replace(". ", "-"), pre)
    else:
        tokenizer.add_tokens([", again"])
    texts = ["the bank lost my card, again. It was"] * 50
    whole = [e.ids for e in tokenizer.encode_batch(texts, add_special_tokens=False)]
    told = by_pieces(Pieces(plain_tokenizer(tokenizer)), texts)
    assert told == (whole if kind in ("replaced with its space", "added") else None)


def test_pieces_beyond_what_is_kept_are_tokenized_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "_KEPT", 5)
    monkeypatch.setattr(pieces, "_NEW", 1)
    tokenizer = plain_tokenizer(KINDS["bert"]())
    found = Pieces(tokenizer)
    for texts in (["the card"], ["the bank lost a card"], ["the card was lost"], ["a card"]):
        whole = [e.ids for e in tokenizer.encode_batch(texts, add_special_tokens=False)]
        assert by_pieces(found, texts) == whole
    assert len(found._known) <= 5


def test_texts_without_repeating_pieces_are_cut_a_few_times_and_then_no_more() -> None:
    found = Pieces(plain_tokenizer(KINDS["bert"]()))
    for chunk in range(4):
        assert by_pieces(found, [f"吞下{chunk}能{at}" for at in range(20)]) is None
        assert found.cut(pl.Series(["the card"])) is not None or chunk == 3
    assert found.cut(pl.Series(["the card"])) is None


@pytest.mark.parametrize("odd", ["the \x1f card", "the card " * 12_000])
def test_a_chunk_with_a_mark_or_a_very_long_cell_is_left_whole(odd: str) -> None:
    assert Pieces(plain_tokenizer(KINDS["bert"]())).cut(pl.Series(["the card", odd])) is None


def test_a_store_by_pieces_is_that_of_whole_cells(
    backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer: Any = load_tokenizer(backbone)
    draw, texts = random.Random(0), cells(1, 200)
    rows = pl.DataFrame(
        {
            "amount": [None, *(float(draw.randint(0, 9)) for _ in range(2999))],
            "kind": [draw.choice(["card fee", None, "loan"]) for _ in range(3000)],
            "text": [draw.choice(texts) for _ in range(3000)],
        }
    )
    columns = ["amount", "kind", "text"]
    monkeypatch.setattr(text, "MANY", 10_000)
    whole = encode(rows, columns, tokenizer)
    monkeypatch.setattr(text, "MANY", 0)
    store = encode(rows, columns, tokenizer, tmp_path)
    assert np.array_equal(store.ids, whole.ids)
    assert np.array_equal(store.offsets, whole.offsets)
