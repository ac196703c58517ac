"""MinHash signatures of texts: all of a chunk's texts at once, in numpy.

In: texts with one space between words. Out: of each text's set of word 3-grams the least value
under each of many permutations (Broder 1997), as datasketch's scheme `affine32` has them, bit by
bit: CRC-32 names a 3-gram, because it is fast and the same in every process and version, and the
scheme mixes its bits before it permutes them.

One text and one 3-gram after the other took 130 of the 145 microseconds that the search for
duplicates spent on a row of 100 words. Here a word's CRC-32 is taken once a chunk, and that of
three words follows from theirs, because CRC is linear over GF(2).
"""

from __future__ import annotations

import zlib
from functools import cache

import numpy as np
import polars as pl
from datasketch import MinHash

SEED = 1  # of the permutations: groups are a function of the texts alone
SHINGLE_WORDS = 3
LONGEST = 1 << 20  # characters of a text that are hashed: more take memory a hundredfold
_BLOCK = 1 << 15  # 3-grams permuted at once: with their products they stay in a core's cache
_WORD_BYTES = 128  # of a word whose CRC is joined by table


def signatures(texts: pl.Series, permutations: int, of: int) -> np.ndarray:
    """MinHash each text's set of word 3-grams.

    Args:
        texts: strings, none null; their words stand one space apart.
        permutations: how many of them are used, the first.
        of: how many there are.

    Returns:
        (texts, permutations) uint32.
    """
    hashes, starts = _shingles(texts.str.slice(0, LONGEST))
    factors, terms = _permutations(of)
    counts = np.diff(starts)
    least = np.empty((len(texts), permutations), dtype=np.uint32)
    by_size = np.argsort(counts, kind="stable")  # texts of about one size make a full rectangle
    at = 0
    while at < len(by_size):
        rows = by_size[at : at + max(1, _BLOCK // int(counts[by_size[at]]))]
        rows = rows[: max(1, _BLOCK // int(counts[rows[-1]]))]
        at += len(rows)
        block = _block(hashes, starts[rows], counts[rows])
        product = np.empty_like(block)
        for number in range(permutations):
            np.multiply(block, factors[number], out=product)
            np.add(product, terms[number], out=product)
            least[rows, number] = product.min(axis=0)
    return least


def _block(hashes: np.ndarray, starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    # (3-grams of the longest, texts): a shorter text says its last 3-gram again.
    places = np.minimum(np.arange(counts.max())[:, None], counts - 1) + starts
    block: np.ndarray = hashes[places]
    return block


@cache
def _permutations(of: int) -> tuple[np.ndarray, np.ndarray]:
    factors, terms = MinHash(num_perm=of, seed=SEED, scheme="affine32").permutations
    return factors, terms


def _shingles(texts: pl.Series) -> tuple[np.ndarray, np.ndarray]:
    """Return the mixed CRC-32 of every 3-gram, uint32, and where each text's begin, int64."""
    split = texts.str.split(" ")
    sizes = split.list.len().to_numpy().astype(np.int64)
    words = split.explode()
    crcs, sizes_bytes, spaced = (column.astype(np.uint32) for column in _words(words))
    # Per text: where its words begin, and its 3-grams, of which a text of one or two words has one.
    first = np.concatenate([[0], np.cumsum(sizes)])[:-1]
    counts = np.maximum(1, sizes - SHINGLE_WORDS + 1)
    starts = np.concatenate([[0], np.cumsum(counts)])
    place = np.arange(starts[-1]) + np.repeat(first - starts[:-1], counts)
    left = np.repeat(first + sizes, counts) - place  # words from here to the text's end
    joined = crcs[place]
    long = sizes_bytes[place] >= _WORD_BYTES
    for further in range(1, SHINGLE_WORDS):
        there = left > further
        at = np.where(there, place + further, 0)
        long |= there & (sizes_bytes[at] >= _WORD_BYTES)
        grown = _joined(joined, np.minimum(sizes_bytes[at] + 1, _WORD_BYTES)) ^ spaced[at]
        joined = np.where(there, grown, joined)
    for gram in np.flatnonzero(long).tolist():
        some = words.slice(int(place[gram]), min(SHINGLE_WORDS, int(left[gram])))
        joined[gram] = zlib.crc32(" ".join(some).encode())
    return _mixed(joined), starts


def _words(words: pl.Series) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each word's CRC-32, its bytes, and its CRC-32 with a space in front."""
    known = words.cast(pl.Categorical(pl.Categories.random())).to_physical().to_numpy()
    where = np.empty(int(known.max(initial=0)) + 1, dtype=np.int64)
    where[known] = np.arange(len(known))
    cells = [word.encode() for word in words.gather(where)]
    crcs = np.array([zlib.crc32(cell) for cell in cells], dtype=np.uint32)
    spaced = np.array([zlib.crc32(b" " + cell) for cell in cells], dtype=np.uint32)
    sizes = np.array([len(cell) for cell in cells], dtype=np.uint32)
    return crcs[known], sizes[known], spaced[known]


def _joined(crcs: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return what the CRCs come to once so many bytes follow; the CRC of those is to be added."""
    table = _zeros()
    base = sizes.astype(np.int64) * 1024
    out = table[base + (crcs & 255)]
    for byte in range(1, 4):
        out ^= table[base + 256 * byte + ((crcs >> np.uint32(8 * byte)) & 255)]
    return out


@cache
def _zeros() -> np.ndarray:
    """Return what 0, 1, ... zero bytes behind it make of each byte of a CRC: flat, uint32."""
    one = np.array([zlib.crc32(bytes([value])) for value in range(256)], dtype=np.uint32)
    one ^= one[0]  # without the CRC's own start and end: linear
    after = np.empty((_WORD_BYTES + 1, 4, 256), dtype=np.uint32)
    for byte in range(4):
        after[0, byte] = np.arange(256, dtype=np.uint32) << np.uint32(8 * byte)
    for size in range(1, _WORD_BYTES + 1):
        before = after[size - 1]
        after[size] = (before >> np.uint32(8)) ^ one[before & 255]
    return after.ravel()


def _mixed(hashes: np.ndarray) -> np.ndarray:
    # The end of MurmurHash3, by which `affine32` mixes the bits.
    hashes = (hashes ^ (hashes >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    hashes = (hashes ^ (hashes >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    mixed: np.ndarray = hashes ^ (hashes >> np.uint32(16))
    return mixed
