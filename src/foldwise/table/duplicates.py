"""Duplicates: groups of rows whose texts are the same or nearly so, to be kept in one fold.

In: the text columns. Out: a group number for each row. A template letter sent by 300 people, half
of it in training and half in the scored rows, measures memory rather than skill.

Identical = equal once Unicode NFKC, case, punctuation and white space are evened out. Near = the
sets of word 3-grams have Jaccard similarity >= the threshold, estimated by MinHash (Broder 1997) of
NUM_PERM permutations (minhash.py; standard error at most 0.022), among the pairs that share a band
of an LSH index (Leskovec et al., Mining of Massive Datasets, 3.4). Groups are connected components,
so their rows needn't all be alike: that only keeps more rows together.

Runs of x's (`XXXX XXXX`, `XX/XX/2020`) become one word. Redaction leaves them where a name or date
stood, so their number is the name's and not the letter's: of 9,152 CFPB narratives, all different
as written, 252 are the same letter with other masks. In texts without masks nothing changes.

Of a row 300 bytes are held here. Its text is read twice, in chunks: for its band keys, and if it
shares one with another, for the signature by which pairs are compared.

Of a text longer than LONGEST characters only the beginning counts for nearness: a cell of 20 MB
would take a minute and gigabytes. Texts that begin alike for so long then share a fold, which is
the safe side.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import polars as pl
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from foldwise.hardware.cores import side_by_side, stretches
from foldwise.progress.shown import rows_shown
from foldwise.table.minhash import SEED, signatures

NUM_PERM = 512
MISSED = 0.01  # largest chance that LSH overlooks a pair exactly at the threshold
BANDS = 32
WINDOW = 64  # neighbours that a text meets in a bucket
BATCH = 1 << 13  # pairs compared at once: 32 MiB of signatures


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
    width = _band_width(similarity) if how == "near" else 0
    digests, empty, keys = _read_through(texts, width)
    first, group = _numbered(digests)
    del digests
    if how == "near":
        for band in keys:
            band[: len(first)] = band[first]
        group = _near(texts, first, keys[:, : len(first)], similarity)[group]
    group[empty] = rows + np.flatnonzero(empty)
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


class _Part(NamedTuple):
    digests: np.ndarray
    empty: np.ndarray
    keys: np.ndarray


def _read_through(texts: pl.DataFrame, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read all texts once, chunk by chunk, and keep numbers alone.

    Args:
        texts: the text columns.
        width: signature values in a band; 0 for no bands.

    Returns:
        A digest of each normalised text, void of 16 bytes (rows,), equal for equal texts. Which
        rows are without text, bool (rows,). And the band keys, (BANDS, rows) uint64, or (0, rows).
    """
    rows = texts.height
    digests, empty = np.empty(rows, dtype="V16"), np.empty(rows, dtype=bool)
    keys = np.empty((BANDS if width else 0, rows), dtype=np.uint64)

    def part(rows: slice) -> _Part:
        normal = _normal(texts[rows])
        digest = [hashlib.blake2b(text.encode(), digest_size=16).digest() for text in normal]
        numbers = (
            _band_keys(signatures(normal, BANDS * width, NUM_PERM), width)
            if width
            else np.empty((0, len(normal)), dtype=np.uint64)
        )
        return _Part(
            np.frombuffer(b"".join(digest), dtype="V16"), (normal == "").to_numpy(), numbers
        )

    title = "looking for near-duplicates" if width else None
    with rows_shown(title, rows) as advance:
        for place, done in side_by_side(part, stretches(texts)):
            digests[place], empty[place], keys[:, place] = done
            advance(place.stop)
    return digests, empty, keys


def _normal(texts: pl.DataFrame) -> pl.Series:
    return _normalised(
        texts.select(pl.concat_str("*", separator=" ", ignore_nulls=True)).to_series()
    )


def _normalised(texts: pl.Series) -> pl.Series:
    """Even out Unicode form, case, punctuation and white space."""
    folded = texts.str.to_lowercase()  # which is the whole of it for ASCII
    beyond = (texts.str.len_bytes() != texts.str.len_chars()).arg_true()
    if len(beyond):
        folded = folded.scatter(beyond, [_folded(text) for text in texts.gather(beyond)])
    # polars' \w keeps the vowel signs of Indic scripts inside their words; Python's re doesn't.
    words = folded.str.replace_all(r"[^\w]+|_+", " ").str.strip_chars()
    words = words.str.replace_all(r"\bx{2,}(?: x{2,})*\b", "xx")
    wordless = (words == "").arg_true()
    if len(wordless):  # "?!" is a text, and not "..."
        symbols = folded.gather(wordless).str.replace_all(r"\s+", " ").str.strip_chars()
        words = words.scatter(wordless, symbols)
    return words


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def _numbered(digests: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each different digest's first row, ascending, and each row's number among them."""
    halves = digests.view(np.uint64).reshape(-1, 2)
    frame = pl.DataFrame({"first": np.arange(len(digests)), "a": halves[:, 0], "b": halves[:, 1]})
    first = frame.select(pl.col("first").min().over("a", "b")).to_series().to_numpy()
    unique = np.flatnonzero(first == np.arange(len(first)))
    return unique, np.searchsorted(unique, first)


def _near(
    texts: pl.DataFrame, first: np.ndarray, keys: np.ndarray, similarity: float
) -> np.ndarray:
    """Return the connected component of each different text: (different texts,).

    Pairs of a bucket are compared unless already connected, so the components come out as if all
    were. Only in a bucket beyond WINDOW texts a text meets its WINDOW neighbours instead: sorted by
    the next bands' keys too, the most alike stand close, and 20,000 letters from one template take
    20 s instead of 5 minutes. Texts that share no bucket are alone; only of the others are the
    whole signatures needed.

    Args:
        texts: the text columns of all rows.
        first: of each different text a row that has it.
        keys: (BANDS, different texts) uint64.
        similarity: the threshold.
    """
    label = np.arange(keys.shape[1])
    shared = np.zeros(keys.shape[1], dtype=bool)
    for band in keys:
        shared |= pl.Series(band).is_duplicated().to_numpy()
    candidates = np.flatnonzero(shared)
    keys, rows = keys[:, candidates], first[candidates]
    place = _places(texts, rows, keys)
    values = _signatures(texts[rows])
    found = np.arange(len(candidates))  # component of each
    for _ in range(BANDS):
        order = np.lexsort((place, keys[2], keys[1], keys[0]))
        bucket = keys[0][order]
        for shift in range(1, min(WINDOW, len(candidates) - 1) + 1):
            same = bucket[shift:] == bucket[:-shift]
            if not same.any():
                break
            pairs = np.stack([order[:-shift][same], order[shift:][same]])
            pairs = pairs[:, found[pairs[0]] != found[pairs[1]]]
            alike = pairs[:, _similarity(values, pairs) >= similarity]
            if alike.size:
                found = _components(found[alike], int(found.max()) + 1)[found]
        keys = np.roll(keys, -1, axis=0)
    label[candidates] = candidates[np.unique(found, return_index=True)[1]][found]
    return label


def _places(texts: pl.DataFrame, rows: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Return where texts stand by the alphabet, (texts,), if in a bucket beyond WINDOW; else 0.

    In smaller buckets all meet all, so it doesn't matter there.
    """
    crowded = np.zeros(len(rows), dtype=bool)
    for band in keys:
        _, which, sizes = np.unique(band, return_inverse=True, return_counts=True)
        crowded |= sizes[which] > WINDOW
    place = np.zeros(len(rows), dtype=np.int64)
    if crowded.any():
        place[crowded] = _normal(texts[rows[crowded]]).rank("ordinal").to_numpy()
    return place


def _signatures(texts: pl.DataFrame) -> np.ndarray:
    """Return the whole signatures of texts: (texts, NUM_PERM) uint32."""
    values = np.empty((texts.height, NUM_PERM), dtype=np.uint32)

    def part(rows: slice) -> np.ndarray:
        return signatures(_normal(texts[rows]), NUM_PERM, NUM_PERM)

    for place, done in side_by_side(part, stretches(texts)):
        values[place] = done
    return values


def _band_width(similarity: float) -> int:
    """Return how many signature values a band has: as many as MISSED allows.

    A pair with similarity s shares none of b bands of r values with probability (1 - s^r)^b.
    """
    widths = range(1, NUM_PERM // BANDS + 1)
    return max((r for r in widths if (1 - similarity**r) ** BANDS <= MISSED), default=1)


def _band_keys(values: np.ndarray, width: int) -> np.ndarray:
    """Return one key a text for each LSH band: (BANDS, texts) uint64; candidates share a key.

    Unlike bands with one key only make a candidate more.

    Args:
        values: signatures, of BANDS times `width` values at least.
        width: of a band.
    """
    odd = np.random.default_rng(SEED).integers(2**63, size=width, dtype=np.uint64) * 2 + 1
    bands = values[:, : BANDS * width].reshape(len(values), BANDS, width)
    return np.stack([bands[:, band].astype(np.uint64) @ odd for band in range(BANDS)])


def _similarity(values: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Estimate the Jaccard similarity of pairs of texts: (2, pairs) -> (pairs,)."""
    estimate = np.empty(pairs.shape[1])
    for at in range(0, len(estimate), BATCH):
        first, second = pairs[:, at : at + BATCH]
        estimate[at : at + BATCH] = (values[first] == values[second]).mean(axis=1)
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
