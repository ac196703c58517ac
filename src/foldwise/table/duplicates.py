"""Duplicates: groups of rows whose texts are the same or nearly so, to be kept in one fold.

In: the text columns. Out: a group number for each row. A template letter sent by 300 people, half
of it in training and half in the scored rows, measures memory rather than skill.

Identical = equal once Unicode NFKC, case, punctuation and white space are evened out. Near = the
sets of word 3-grams have Jaccard similarity >= the threshold, estimated by MinHash (Broder 1997) of
NUM_PERM permutations (datasketch's scheme `affine32`; standard error at most 0.022), among the
pairs that share a band of an LSH index (Leskovec et al., Mining of Massive Datasets, 3.4). Groups
are connected components, so their rows needn't all be alike: that only keeps more rows together.

Runs of x's (`XXXX XXXX`, `XX/XX/2020`) become one word. Redaction leaves them where a name or date
stood, so their number is the name's and not the letter's: of 9,152 CFPB narratives, all different
as written, 252 are the same letter with other masks. In texts without masks nothing changes.

Of a text longer than LONGEST characters only the beginning counts for nearness: a cell of 20 MB
would take a minute and gigabytes. Texts that begin alike for so long then share a fold, which is
the safe side.
"""

from __future__ import annotations

import unicodedata
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from datasketch import MinHash
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from foldwise.progress.shown import rows_shown

NUM_PERM = 512
SEED = 1  # of the permutations: groups are a function of the texts alone
MISSED = 0.01  # largest chance that LSH overlooks a pair exactly at the threshold
SHINGLE_WORDS = 3
BANDS = 32
WINDOW = 64  # neighbours that a text meets in a bucket
LONGEST = 1 << 20  # characters of a text that are hashed: more take memory a hundredfold
BATCH = 1 << 13  # hashes permuted, or pairs compared, at once: 16 MiB


@dataclass(frozen=True)
class Duplicates:
    """Which rows belong together.

    Args:
        group: (rows,) int64, numbered by first appearance; a row alone has a group of its own.
        n_groups_multi: groups of more than one row.
        rows_in_groups: rows in those groups.
        largest: rows of the largest group.
    """

    group: np.ndarray
    n_groups_multi: int
    rows_in_groups: int
    largest: int


def find_duplicates(
    texts: pl.DataFrame, how: Literal["near", "identical", "ignore"], similarity: float
) -> Duplicates:
    """Group rows by their texts; rows without any text are each on their own.

    Args:
        texts: the text columns alone (strings, nulls allowed); a row's are joined in their order.
        how: `ignore` leaves each row on its own.
        similarity: Jaccard similarity from which texts are near-identical, in (0, 1].
    """
    rows = texts.height
    if how == "ignore" or rows == 0 or texts.width == 0:
        return _counted(np.arange(rows, dtype=np.int64))
    joined = texts.select(pl.concat_str("*", separator=" ", ignore_nulls=True)).to_series()
    normal = _normalised(joined)
    unique = normal.unique().sort()
    group = normal.rank("dense").to_numpy().astype(np.int64) - 1
    if how == "near":
        group = _near(unique.to_list(), similarity)[group]
    empty = (normal == "").to_numpy()
    group[empty] = len(unique) + np.flatnonzero(empty)
    return _counted(group)


def disagreements(group: np.ndarray, labels: Sequence[object] | np.ndarray | pl.Series) -> int:
    """Count the groups of more than one row whose rows carry more than one label.

    Args:
        group: (rows,) group of each row.
        labels: (rows,) label of each row.
    """
    frame = pl.DataFrame({"group": group, "label": pl.Series(values=labels)})
    return int((frame.group_by("group").agg(pl.col("label").n_unique())["label"] > 1).sum())


def join_groups(group: np.ndarray, values: pl.Series) -> np.ndarray:
    """Join groups that share a value, so that both duplicates and equal values stay together.

    Args:
        group: (rows,) group of each row.
        values: (rows,) values of a column; an empty cell joins nothing.

    Returns:
        (rows,) int64, numbered from 0.
    """
    rows = len(group)
    cells = values.cast(pl.String)
    known = np.flatnonzero(cells.is_not_null().to_numpy())
    value = np.unique(cells.to_numpy()[known].astype(str), return_inverse=True)[1] + rows
    # Components of the graph rows -> the first of their group, rows -> their value.
    size = rows + (int(value.max()) - rows + 1 if len(value) else 0)
    first = np.unique(group, return_index=True)[1]
    starts = np.concatenate([np.arange(rows), known])
    ends = np.concatenate([first[np.unique(group, return_inverse=True)[1]], value])
    joined = _components(np.stack([starts, ends]), size)[:rows]
    return np.unique(joined, return_inverse=True)[1].astype(np.int64)


def _normalised(texts: pl.Series) -> pl.Series:
    """Even out Unicode form, case, punctuation and white space."""
    folded = pl.Series(
        [unicodedata.normalize("NFKC", _nfkc(text).casefold()) for text in texts], dtype=pl.String
    )
    # polars' \w keeps the vowel signs of Indic scripts inside their words; Python's re doesn't.
    words = folded.str.replace_all(r"[^\w]+|_+", " ").str.strip_chars()
    words = words.str.replace_all(r"\bx{2,}(?: x{2,})*\b", "xx")
    symbols = folded.str.replace_all(r"\s+", " ").str.strip_chars()  # "?!" is a text, and not "..."
    return pl.select(pl.when(words != "").then(words).otherwise(symbols)).to_series()


def _nfkc(text: str) -> str:
    return unicodedata.normalize("NFKC", text)


def _near(texts: Sequence[str], similarity: float) -> np.ndarray:
    """Return the connected component of each text: (texts,).

    Pairs of a bucket are compared unless already connected, so the components come out as if all
    were. Only in a bucket beyond WINDOW texts a text meets its WINDOW neighbours instead: sorted by
    the next bands' keys too, the most alike stand close, and 20,000 letters from one template take
    20 s instead of 5 minutes.
    """
    signatures = _signatures(texts)
    keys = _band_keys(signatures, similarity)
    nodes = len(texts)
    label = np.arange(nodes)
    edges = np.empty((2, 0), dtype=np.int64)
    for _ in range(BANDS):
        order = np.lexsort((keys[2], keys[1], keys[0]))
        bucket = keys[0][order]
        for shift in range(1, min(WINDOW, nodes - 1) + 1):
            same = bucket[shift:] == bucket[:-shift]
            if not same.any():
                break
            pairs = np.stack([order[:-shift][same], order[shift:][same]])
            pairs = pairs[:, label[pairs[0]] != label[pairs[1]]]
            alike = pairs[:, _similarity(signatures, pairs) >= similarity]
            if alike.size:
                edges = np.concatenate([edges, alike], axis=1)
                label = _components(edges, nodes)
        keys = np.roll(keys, -1, axis=0)
    return label


def _signatures(texts: Sequence[str]) -> np.ndarray:
    """MinHash each text's set of word 3-grams: (texts, NUM_PERM) uint32.

    CRC-32 names a 3-gram: it is fast, the same in every process and version, and the scheme mixes
    its bits before it permutes them.
    """
    blank = MinHash(num_perm=NUM_PERM, seed=SEED, scheme="affine32", hashfunc=int)
    signatures = np.empty((len(texts), NUM_PERM), dtype=np.uint32)
    with rows_shown("looking for near-duplicates", len(texts)) as advance:
        for row, text in enumerate(texts):
            words = text[:LONGEST].split(" ")
            starts = range(max(1, len(words) - SHINGLE_WORDS + 1))
            shingles = {" ".join(words[at : at + SHINGLE_WORDS]) for at in starts}
            hashes = [zlib.crc32(shingle.encode()) for shingle in shingles]
            minhash = blank.copy()
            for at in range(0, len(hashes), BATCH):
                minhash.update_batch(hashes[at : at + BATCH])
            signatures[row] = minhash.hashvalues
            if row % 1000 == 999:
                advance(row + 1)
    return signatures


def _band_keys(signatures: np.ndarray, similarity: float) -> np.ndarray:
    """Return one key a text for each LSH band: (BANDS, texts) uint64; candidates share a key.

    Bands are as wide as MISSED allows: a pair with similarity s shares none of b bands of r values
    with probability (1 - s^r)^b. Unlike bands with one key only make a candidate more.
    """
    widths = range(1, NUM_PERM // BANDS + 1)
    width = max((r for r in widths if (1 - similarity**r) ** BANDS <= MISSED), default=1)
    odd = np.random.default_rng(SEED).integers(2**63, size=width, dtype=np.uint64) * 2 + 1
    bands = signatures[:, : BANDS * width].reshape(len(signatures), BANDS, width)
    return np.stack([bands[:, band].astype(np.uint64) @ odd for band in range(BANDS)])


def _similarity(signatures: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Estimate the Jaccard similarity of pairs of texts: (2, pairs) -> (pairs,)."""
    estimate = np.empty(pairs.shape[1])
    for at in range(0, len(estimate), BATCH):
        first, second = pairs[:, at : at + BATCH]
        estimate[at : at + BATCH] = (signatures[first] == signatures[second]).mean(axis=1)
    return estimate


def _components(edges: np.ndarray, nodes: int) -> np.ndarray:
    graph = coo_array((np.ones(edges.shape[1], dtype=bool), tuple(edges)), shape=(nodes, nodes))
    label: np.ndarray = connected_components(graph, directed=False)[1]
    return label


def _counted(group: np.ndarray) -> Duplicates:
    """Number groups by first appearance and count them."""
    _, first, which, rows = np.unique(
        group, return_index=True, return_inverse=True, return_counts=True
    )
    number = np.empty(len(first), dtype=np.int64)
    number[np.argsort(first)] = np.arange(len(first))
    multi = rows[rows > 1]
    return Duplicates(
        group=number[which],
        n_groups_multi=len(multi),
        rows_in_groups=int(multi.sum()),
        largest=int(rows.max(initial=0)),
    )
