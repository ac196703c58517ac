"""MinHash of a chunk of texts at once: datasketch's values, bit by bit."""

from __future__ import annotations

import zlib

import numpy as np
import polars as pl
import pytest
from datasketch import MinHash

from foldwise.table import minhash
from foldwise.table.minhash import signatures

WORDS = ["a", "the", "card", "naïve", "我能吞下", "x" * 127, "y" * 128, "z" * 500, "é" * 64, "1234"]


def one_by_one(texts: list[str], of: int) -> np.ndarray:
    lines = []
    for text in texts:
        words = text.split(" ")
        grams = {" ".join(words[at : at + 3]) for at in range(max(1, len(words) - 2))}
        line = MinHash(num_perm=of, seed=1, scheme="affine32", hashfunc=zlib.crc32)
        line.update_batch([gram.encode() for gram in grams])
        lines.append(line.hashvalues)
    return np.array(lines)


def test_values_are_those_of_datasketch_for_words_of_any_length() -> None:
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, size)) for size in rng.integers(1, 40, 60)]
    texts += ["", "one", "one two", "one two three"]
    assert np.array_equal(signatures(pl.Series(texts), 64, 64), one_by_one(texts, 64))


def test_fewer_permutations_are_the_first_of_them() -> None:
    texts = pl.Series(["the card was lost", "the card"])
    assert np.array_equal(signatures(texts, 5, 32), signatures(texts, 32, 32)[:, :5])


def test_a_text_of_more_3_grams_than_are_permuted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minhash, "_BLOCK", 8)
    texts = [" ".join(f"w{at % 50}" for at in range(70)), "short one", "a b c d e"]
    assert np.array_equal(signatures(pl.Series(texts), 16, 16), one_by_one(texts, 16))


def test_of_a_very_long_text_the_beginning_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minhash, "LONGEST", 9)
    long, cut = signatures(pl.Series(["one two three four", "one two t"]), 8, 8)
    assert np.array_equal(long, cut)
