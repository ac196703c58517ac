"""Many texts tokenized by their pieces: each different piece once, whatever rows it stands in.

In: a chunk of cells. Out: their ids, equal to those of every cell tokenized as a whole. A cell is
cut where the tokenizer parts every text in any case (bound.py), mostly at each space, and language
says the same words again: of 100,000 rows of 100 words one piece in 30 is new. A tokenizer's own
cache knows words too, but it looks at them behind the normal form and the split, which cost most.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl
from tokenizers import Tokenizer

from foldwise.encoding.bound import LONG, seams_of

_MARK = "\x1f"  # stands in no text that is cut
_KEPT = 1 << 19  # pieces known from one chunk to the next: about 100 MB
_NEW = 1 / 4  # share of pieces not known from which whole cells are quicker: a call takes 10 us
_TRIES = 4  # chunks of which that is said before no more are cut


class Cut(NamedTuple):
    """Cells in pieces.

    Attributes:
        different: the pieces, each once.
        which: of those, each piece of all cells, one after the other, uint32 (pieces,).
        sizes: pieces of each cell, at least one, int64 (cells,).
    """

    different: list[str]
    which: np.ndarray
    sizes: np.ndarray


class Pieces:
    """The pieces of a table's cells that are known, and their ids.

    Args:
        fast: from `plain_tokenizer`.
    """

    def __init__(self, fast: Tokenizer) -> None:
        seams = seams_of(fast)
        self._fast = fast
        self._ends = None if seams is None else seams.ends
        self._tries = _TRIES if self._ends is not None else 0
        self._known: dict[str, int] = {}
        self._ids = np.empty(0, dtype=np.int32)
        self._offsets = np.zeros(1, dtype=np.int64)

    def cut(self, cells: pl.Series) -> Cut | None:
        """Cut cells into pieces; on any thread.

        Args:
            cells: strings, none null.

        Returns:
            The pieces; None where the cells have to be tokenized as a whole, or it is quicker.
        """
        if not self._tries or cells.str.contains(_MARK, literal=True).any():
            return None
        if int(cells.str.len_chars().max() or 0) > LONG:  # type: ignore[arg-type]
            return None
        marked = cells.str.replace_all(f"([{self._ends}]) ([A-Za-z0-9])", f"${{1}}{_MARK} ${{2}}")
        split = marked.str.split(_MARK)
        pieces = split.explode()
        which = pieces.cast(pl.Categorical(pl.Categories.random())).to_physical().to_numpy()
        one = np.empty(int(which.max(initial=0)) + 1, dtype=np.int64)  # a place of each
        one[which] = np.arange(len(which))
        sizes = split.list.len().to_numpy().astype(np.int64)
        return Cut(pieces.gather(one).to_list(), which, sizes)

    def ids(self, cut: Cut) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the ids of cells that were cut, end to end, and how many each has.

        Returns:
            int32 (ids,) and int64 (cells,); None where whole cells are quicker.
        """
        new = [piece for piece in cut.different if piece not in self._known]
        if len(new) > _NEW * len(cut.which):
            self._tries -= 1
            return None
        number = dict(zip(new, range(len(self._known), len(self._known) + len(new)), strict=True))
        ids, offsets = self._with(new)
        if len(self._known) + len(new) <= _KEPT:
            self._known |= number
            self._ids, self._offsets = ids, offsets
        numbers = np.array(
            [
                self._known[piece] if piece in self._known else number[piece]
                for piece in cut.different
            ],
            dtype=np.int64,
        )[cut.which]
        lengths = np.diff(offsets)[numbers]
        ends = np.cumsum(lengths)
        place = np.repeat(offsets[numbers] - ends + lengths, lengths) + np.arange(lengths.sum())
        upto = np.concatenate([[0], ends])[np.concatenate([[0], np.cumsum(cut.sizes)])]
        return ids[place], np.diff(upto)

    def _with(self, new: list[str]) -> tuple[np.ndarray, np.ndarray]:
        # The ids of the pieces that are known and of new ones, and where each one's begin.
        encoded = [e.ids for e in self._fast.encode_batch_fast(new, add_special_tokens=False)]
        flat = np.array([i for ids in encoded for i in ids], dtype=np.int32)
        lengths = np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded))
        offsets = np.concatenate([self._offsets, self._offsets[-1] + np.cumsum(lengths)])
        return np.concatenate([self._ids, flat]), offsets


def woven(
    ids: list[np.ndarray], lengths: list[np.ndarray], separator: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Put the columns' ids together row by row.

    Args:
        ids: of each column, its cells' end to end, int32.
        lengths: of each column, how many each cell has, int64 (rows,).
        separator: ids between two columns.

    Returns:
        All rows' ids, end to end, int32, and how many each row has, int64 (rows,).
    """
    if len(ids) == 1:
        return ids[0], lengths[0]
    whole = np.sum(lengths, axis=0) + len(separator) * (len(ids) - 1)
    woven = np.empty(whole.sum(), dtype=np.int32)
    at = np.cumsum(whole) - whole  # where each row goes on
    for number, (flat, of_row) in enumerate(zip(ids, lengths, strict=True)):
        for sign in separator if number else ():
            woven[at] = sign
            at = at + 1
        before = np.cumsum(of_row) - of_row
        woven[np.repeat(at - before, of_row) + np.arange(len(flat))] = flat
        at = at + of_row
    return woven, whole
