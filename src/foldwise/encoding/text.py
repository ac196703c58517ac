"""Turn columns into token ids, once for all folds, epochs and runs.

In: rows of text, categorical and numeric columns, and a tokenizer. Out: a `TokenStore`, the
untruncated ids of every row without special tokens, memory-mapped from disk, where each process
checks them against their sha256: other ids would train another model. Columns are joined by the
tokenizer's own separator id, short columns first, so that truncation only ever eats the end of the
long text; each column is tokenized by itself, so a literal "[SEP]" in a complaint stays text.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from tokenizers import Tokenizer

from foldwise.encoding.bound import LONG, Need, bounded, seams_of
from foldwise.encoding.pieces import Cut, Pieces, woven
from foldwise.errors import FoldwiseError
from foldwise.hardware.cores import side_by_side, stretches
from foldwise.progress.shown import rows_shown
from foldwise.run.files import half, sha256, sync_file, sync_folder
from foldwise.run.space import room_for
from foldwise.run.tree import check_tree

MISSING = "missing"
CHUNK = 2_000
SPAN = 1 << 22  # ids looked at in one go
MANY = 2_000  # rows from which their pieces are looked for
SCHEMA = 1


@dataclass(frozen=True)
class TokenStore:
    """Token ids of many rows, end to end.

    Attributes:
        ids: all rows' ids, int32 (tokens,), memory-mapped.
        offsets: where each row starts and the last ends, int64 (rows + 1,).
        bounded: rows with a very long cell of which only the tokens that are used are here: their
            lengths are lower bounds.
    """

    ids: np.ndarray
    offsets: np.ndarray
    bounded: int = 0

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, position: int) -> np.ndarray:
        """Return one row's ids, int32 (length,)."""
        return self.ids[self.offsets[position] : self.offsets[position + 1]]

    @property
    def lengths(self) -> np.ndarray:
        """Untruncated lengths without special tokens, int64 (rows,)."""
        return np.diff(self.offsets)

    def span(self) -> tuple[int, int]:
        """Return the lowest and the highest id, 0 among them.

        Read past the map: a page that was looked at in it counts as this process's memory.
        """
        lowest = highest = 0
        for start in range(0, len(self.ids), SPAN):
            part = self.ids[start : start + SPAN]
            if isinstance(self.ids, np.memmap) and self.ids.filename is not None:
                part = np.fromfile(self.ids.filename, np.int32, len(part), offset=4 * start)
            lowest, highest = min(lowest, int(part.min())), max(highest, int(part.max()))
        return lowest, highest


@dataclass(frozen=True)
class Frame:
    """How a tokenizer frames one input and what fits between.

    Attributes:
        before: special ids in front ([CLS]).
        after: special ids at the end ([SEP]).
        separator: ids between two columns.
        pad: id that fills a batch up.
        padding_side: "left" or "right".
    """

    before: tuple[int, ...]
    after: tuple[int, ...]
    separator: tuple[int, ...]
    pad: int
    padding_side: str

    @property
    def size(self) -> int:
        """Special tokens an input takes besides its own."""
        return len(self.before) + len(self.after)


def frame_of(tokenizer: Any) -> Frame:
    """Read from a tokenizer which ids stand before, between and after texts.

    Found by framing a probe id, because tokenizers say it in a dozen different ways.
    """
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    framed = tokenizer("a", add_special_tokens=True)["input_ids"]
    start = next(i for i in range(len(framed)) if framed[i : i + len(plain)] == plain)
    separator = tokenizer.sep_token_id
    if separator is None:
        separators = tuple(tokenizer("\n", add_special_tokens=False)["input_ids"])
    else:
        separators = (separator,)
    # Any id will do where there is no such token: the mask hides it.
    pads = [tokenizer.pad_token_id, tokenizer.eos_token_id, 0]
    return Frame(
        before=tuple(framed[:start]),
        after=tuple(framed[start + len(plain) :]),
        separator=separators,
        pad=next(pad for pad in pads if pad is not None),
        padding_side="right",
    )


def encode(
    rows: pl.DataFrame,
    columns: list[str],
    tokenizer: Any,
    stores: Path | None = None,
    need: Need | None = None,
) -> TokenStore:
    """Tokenize the columns of every row, or open the store that already holds them.

    Args:
        rows: the columns, strings or numbers; null is the word "missing".
        columns: in the order in which they are joined.
        tokenizer: a fast tokenizer of transformers.
        stores: folder of stores; None keeps the ids in memory.
        need: the tokens of a row that are used, by which cells of over 100,000 characters are
            bounded; None: all.

    Returns:
        The store, in the order of `rows`.

    Raises:
        FoldwiseError: a link, pipe or device stands where a store belongs, or what was written
            reads otherwise.
    """
    fast = plain_tokenizer(tokenizer.backend_tokenizer)
    separator = frame_of(tokenizer).separator
    if stores is None:
        parts = list(_tokenize(rows, columns, fast, separator, need))
        lengths = np.concatenate([[0], *(part.lengths for part in parts)]).astype(np.int64)
        ids = np.concatenate([np.empty(0, dtype=np.int32), *(part.ids for part in parts)])
        return TokenStore(ids, np.cumsum(lengths), sum(part.bounded for part in parts))
    folder = stores / _key(rows, columns, fast, separator, need)
    for path in (stores, folder):
        if path.is_symlink():
            raise FoldwiseError(f"{path}: is a link; remove it, token stores lie beside the runs")
    if folder.exists():
        check_tree(folder, ".*")
    store = _open(folder, rows.height)
    if store is None:
        if folder.exists():  # quicker made anew than mended
            print(f"warning: {folder}: not as it was written; made anew", file=sys.stderr)
            shutil.rmtree(folder, ignore_errors=True)
        with room_for(folder):
            _write(_tokenize(rows, columns, fast, separator, need), folder)
        store = _open(folder, rows.height)
    if store is None:
        raise FoldwiseError(f"{folder}: reads otherwise than it was just written; check the disk")
    return store


def _open(folder: Path, rows: int) -> TokenStore | None:
    # None where there is no store, or its files don't fit each other and the rows.
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        tokens, bounded = manifest["tokens"], int(manifest.get("bounded", 0))
        if manifest["sha256"] != _sha256(folder, bounded, _stamps(folder)):
            return None
        # Mapped, so that a header can't ask for more memory than the file has.
        offsets = np.array(np.load(folder / "offsets.npy", mmap_mode="r", allow_pickle=False))
        size = (folder / "ids.bin").stat().st_size
    except (OSError, ValueError, KeyError, TypeError, EOFError, RecursionError):
        return None
    if offsets.dtype != np.int64 or offsets.shape != (rows + 1,) or size != 4 * offsets[-1]:
        return None
    if tokens != offsets[-1] or offsets[0] != 0 or (np.diff(offsets) < 0).any():
        return None
    if tokens == 0:  # an empty file can't be mapped
        return TokenStore(np.empty(0, dtype=np.int32), offsets, bounded)
    return TokenStore(np.memmap(folder / "ids.bin", dtype=np.int32, mode="r"), offsets, bounded)


def _stamps(folder: Path) -> tuple[tuple[int, int, int], ...]:
    stats = [(folder / name).stat() for name in ("offsets.npy", "ids.bin")]
    return tuple((stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in stats)


@cache  # once a process, as long as the files have their stamps
def _sha256(folder: Path, bounded: int, _: tuple[tuple[int, int, int], ...]) -> str:
    # Of all that a store tells.
    told = [str(bounded), sha256(folder / "offsets.npy"), sha256(folder / "ids.bin")]
    return hashlib.sha256(" ".join(told).encode("utf-8")).hexdigest()


def plain_tokenizer(backend: Tokenizer) -> Tokenizer:
    """Return a copy that neither truncates nor pads, and reads special tokens in a text as text.

    Many tokenizer.json files carry both (MiniLM's cuts at 128).

    Args:
        backend: the tokenizer inside a fast one of transformers, or as read from its file.

    Returns:
        The copy, the same one for a tokenizer that is the same.
    """
    return _plain(backend.to_str())


@lru_cache(maxsize=2)  # reading one takes longer than labelling a row
def _plain(written: str) -> Tokenizer:
    fast = Tokenizer.from_str(written)
    fast.no_truncation()
    fast.no_padding()
    fast.encode_special_tokens = True
    return fast


class _Part(NamedTuple):
    ids: np.ndarray
    lengths: np.ndarray
    bounded: int


def _tokenize(
    rows: pl.DataFrame,
    columns: list[str],
    fast: Tokenizer,
    separator: tuple[int, ...],
    need: Need | None,
) -> Iterator[_Part]:
    # Ids and lengths chunk by chunk, on all cores: by pieces where it is worth looking for them.
    pieces = Pieces(fast) if rows.height > MANY else None
    chosen = rows.select(columns)

    def cut(part: slice) -> list[Cut | None]:
        if pieces is None:
            return [None] * len(columns)
        return [pieces.cut(_texts(column)) for column in chosen[part]]

    with rows_shown("tokenizing", rows.height) as advance:
        for part, cuts in side_by_side(cut, stretches(chosen)):
            flat, lengths = [], []
            bounded: set[int] = set()
            for column, found in zip(chosen[part], cuts, strict=True):
                told = pieces.ids(found) if pieces is not None and found is not None else None
                if told is None:
                    ids, long = ids_of(words(column), fast, need)
                    bounded |= long
                    told = _end_to_end(ids)
                flat.append(told[0])
                lengths.append(told[1])
            yield _Part(*woven(flat, lengths, separator), len(bounded))
            advance(part.stop)


def _end_to_end(ids: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    lengths = np.fromiter(map(len, ids), dtype=np.int64, count=len(ids))
    return np.array([number for cell in ids for number in cell], dtype=np.int32), lengths


def ids_of(
    cells: list[str], fast: Tokenizer, need: Need | None
) -> tuple[list[list[int]], set[int]]:
    """Tokenize cells.

    Args:
        cells: the texts.
        fast: from `plain_tokenizer`.
        need: the tokens of a cell that are used; None: all.

    Returns:
        The ids of each cell, and which cells are bounded.
    """
    long = [at for at, cell in enumerate(cells) if len(cell) > LONG] if need else []
    seams = seams_of(fast) if long else None
    shortened: dict[int, list[int]] = {}
    for at in long if need and seams else []:
        assert need is not None
        assert seams is not None
        ids = bounded(cells[at], need, seams, lambda text: _encode(fast, [text])[0])
        if ids is not None:
            shortened[at] = ids
    others = [cell for at, cell in enumerate(cells) if at not in shortened]
    encoded = iter(_encode(fast, others))
    ids_by_cell = [shortened[at] if at in shortened else next(encoded) for at in range(len(cells))]
    return ids_by_cell, set(shortened)


def _encode(fast: Tokenizer, texts: list[str]) -> list[list[int]]:
    # Without offsets: they take half of the time.
    encoded = fast.encode_batch_fast(texts, add_special_tokens=False)
    return [encoding.ids for encoding in encoded]


def words(column: pl.Series) -> list[str]:
    """Return the texts that a column's cells are to the tokenizer."""
    return _texts(column).to_list()


def _texts(column: pl.Series) -> pl.Series:
    if column.dtype.is_float():
        # 3.0 reads as "3": the digits after the point would be noise to a tokenizer.
        column = column.map_elements(lambda x: f"{x:.6g}", return_dtype=pl.String)
    return column.cast(pl.String).fill_null(MISSING)


def _key(
    rows: pl.DataFrame,
    columns: list[str],
    fast: Tokenizer,
    separator: tuple[int, ...],
    need: Need | None,
) -> str:
    digest = hashlib.sha256(fast.to_str().encode("utf-8"))
    digest.update(json.dumps([SCHEMA, columns, separator]).encode("utf-8"))
    longest = 0
    for column in columns:
        for start in range(0, rows.height, CHUNK):
            for cell in words(rows[column].slice(start, CHUNK)):
                content = cell.encode("utf-8")
                longest = max(longest, len(cell))
                digest.update(len(content).to_bytes(8, "little") + content)
    if need is not None and longest > LONG:  # other stores serve any max_length
        digest.update(json.dumps([need.head, need.tail]).encode("utf-8"))
    return digest.hexdigest()


def _write(chunks: Iterator[_Part], folder: Path) -> None:
    building = half(folder)
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    try:
        lengths, bounded = [np.zeros(1, dtype=np.int64)], 0
        with (building / "ids.bin").open("wb") as file:
            for part in chunks:
                file.write(part.ids.tobytes())
                lengths.append(part.lengths)
                bounded += part.bounded
        offsets = np.cumsum(np.concatenate(lengths))
        np.save(building / "offsets.npy", offsets, allow_pickle=False)
        (building / "manifest.json").write_text(
            json.dumps(
                {
                    "schema": SCHEMA,
                    "rows": len(offsets) - 1,
                    "tokens": int(offsets[-1]),
                    "bounded": bounded,
                    "sha256": _sha256(building, bounded, _stamps(building)),
                }
            ),
            encoding="utf-8",
        )
        for path in building.iterdir():
            sync_file(path)
        sync_folder(building)
        try:
            os.rename(building, folder)
        except OSError:
            if not (folder / "manifest.json").exists():  # else another run wrote the same store
                raise
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(building, ignore_errors=True)
