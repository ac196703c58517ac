"""Very long cells: the tokens that are used, equal to those of the whole cell."""

from __future__ import annotations

import random
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tokenizers import Regex, Tokenizer, models

from foldwise.encoding import bound, text
from foldwise.encoding.batches import TextRows
from foldwise.encoding.bound import Need, seams_of
from foldwise.encoding.chunks import ChunkRows
from foldwise.encoding.text import encode, frame_of, ids_of, plain_tokenizer
from foldwise.models.backbone import load_tokenizer
from made_tokenizers import KINDS, SIGNS, N, P, mini_lm, of_bytes


@pytest.mark.parametrize("kind", KINDS)
def test_the_tokens_that_are_used_are_those_of_the_whole_cell(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = plain_tokenizer(KINDS[kind]())
    monkeypatch.setattr(bound, "CHARS_A_TOKEN", 1)
    monkeypatch.setattr(text, "LONG", 0)
    seams = seams_of(tokenizer)
    monkeypatch.setattr(text, "seams_of", lambda _: seams)  # 80 ms for a vocabulary of 30,000
    draw, bounded = random.Random(0), 0
    for _ in range(600):
        cell = "".join(draw.choice(SIGNS) for _ in range(draw.randint(1, 60)))
        if draw.random() < 0.1:
            cell += "q" * draw.randint(90, 300) + draw.choice(["", " b", "\u0301"])
        head, tail = draw.randint(1, 8), draw.choice([0, draw.randint(1, 6)])
        whole = tokenizer.encode(cell, add_special_tokens=False).ids
        [ids], long = ids_of([cell], tokenizer, Need(head, tail))
        assert ids[:head] == whole[:head], cell
        assert ids[len(ids) - min(tail, len(ids)) :] == whole[len(whole) - min(tail, len(whole)) :]
        assert min(len(whole), head) <= len(ids) <= len(whole)
        assert long or ids == whole
        bounded += bool(long)
    assert bounded > 200


@pytest.mark.parametrize(
    "kind",
    [
        "no pre-tokenizer",
        "a pattern of its own",
        "a prefix before the text",
        "an added token across a space",
    ],
)
def test_a_tokenizer_that_may_look_across_spaces_gets_the_whole_cell(kind: str) -> None:
    tokenizer = of_bytes(None, P.ByteLevel())
    if kind == "no pre-tokenizer":
        tokenizer = Tokenizer(models.BPE())
    elif kind == "a pattern of its own":
        tokenizer.pre_tokenizer = P.Split(Regex(r"\w+ \w+"), "isolated")
    elif kind == "a prefix before the text":
        tokenizer.normalizer = N.Prepend("_")
    else:
        tokenizer.add_tokens(["new york"])
    assert seams_of(tokenizer) is None
    cell = "the card " * 20_000
    [ids], long = ids_of([cell], tokenizer, Need(5))
    assert (ids, long) == (tokenizer.encode(cell).ids, set())


@pytest.mark.parametrize("long", ["truncate", "head_tail"])
def test_a_very_long_row_is_the_same_input_and_is_counted_as_cut(long: str, backbone: Path) -> None:
    tokenizer = load_tokenizer(backbone)
    frame = frame_of(tokenizer)
    draw = random.Random(0)
    cell = " ".join(draw.choice(["card", "loan", "the", "bank"]) for _ in range(30_000))
    rows = pl.DataFrame({"kind": ["c0", "l0"], "text": [cell, "the card"]})
    need = Need(head=23, tail=11)
    columns = ["kind", "text"]
    whole, less = (
        TextRows(encode(rows, columns, tokenizer, need=n), frame, 24, long, None)
        for n in (None, need)
    )
    for row in (0, 1):
        np.testing.assert_array_equal(whole[row][0], less[row][0])
    assert (whole.bounded, less.bounded) == (0, 1)
    assert whole.tokens[0] > less.tokens[0] > 24
    assert less.cut[0] > 0
    assert (less.tokens[1], less.cut[1]) == (whole.tokens[1], 0)


def test_chunks_with_a_limit_are_the_same(backbone: Path) -> None:
    tokenizer = load_tokenizer(backbone)
    frame = frame_of(tokenizer)
    draw = random.Random(0)
    cell = " ".join(draw.choice(["card", "loan", "the", "bank"]) for _ in range(30_000))
    rows = pl.DataFrame({"kind": ["c0"], "text": [cell]})
    room = 24 - frame.size

    def chunks(need: Need | None) -> ChunkRows:
        short = encode(rows, ["kind"], tokenizer, need=need)
        store = encode(rows, ["text"], tokenizer, need=need)
        return ChunkRows(short, store, frame, 24, 3, 4, None)

    whole, less = chunks(None), chunks(Need(head=5 * room + 1))
    assert len(whole[0][0]) == len(less[0][0]) == 4
    for one, other in zip(whole[0][0], less[0][0], strict=True):
        np.testing.assert_array_equal(one, other)
    assert less.bounded == 1


def test_stores_of_very_long_cells_are_kept_by_what_was_needed(
    backbone: Path, tmp_path: Path
) -> None:
    tokenizer = load_tokenizer(backbone)
    rows = pl.DataFrame({"text": ["the card " * 20_000]})
    short, longer = (encode(rows, ["text"], tokenizer, tmp_path, Need(n)) for n in (5, 9000))
    assert len(short[0]) < 9000 <= len(longer[0])
    assert encode(rows, ["text"], tokenizer, tmp_path, Need(5)).bounded == 1
    assert len(list(tmp_path.iterdir())) == 2
    small = pl.DataFrame({"text": ["the card"]})
    for need in (None, Need(5), Need(9)):
        encode(small, ["text"], tokenizer, tmp_path, need)
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("cell", ["the bank lost my card. ", "x", "我能吞下玻璃"])
def test_twenty_million_characters_take_seconds(cell: str) -> None:
    cells = [cell * (20_000_000 // len(cell))]
    tokenizer = plain_tokenizer(mini_lm())
    start = time.process_time()
    ids_of(cells, tokenizer, Need(256, 128))
    assert time.process_time() - start < 10
