"""How long the inputs are for the config's tokenizer: rows in, lengths and what is cut out.

The lengths are those that a run has: the columns of the text template, their separators and the
special tokens. The tokenizer is read from its own file and run on all cores (it is written in
Rust), without torch and transformers, whose import alone would take longer than the rest.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
from tokenizers import Tokenizer

from foldwise.config.schema import Config
from foldwise.eda.rows import Rows
from foldwise.encoding.bound import Need
from foldwise.encoding.text import frame_of, ids_of, plain_tokenizer, words
from foldwise.models.folder import check_tokenizer, read_values
from foldwise.models.resolve import resolve_backbone
from foldwise.models.window import window

MOST_ROWS = 5_000  # a share has a standard error of at most 0.7 points then
CHUNK = 500
MARKS = (128, 256, 512)
CUT_INPUTS = 0.05  # share of inputs longer than max_length that is worth a word
LENGTHS = (64, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 8192)


@dataclass(frozen=True)
class Tokens:
    """Lengths of the inputs in tokens.

    Attributes:
        backbone: whose tokenizer counted.
        columns: joined in this order.
        lengths: (counted rows,) special tokens included.
        rows: rows that a run would use; more than were counted if they were sampled.
        by_column: median tokens of each column.
        max_length: text.max_length.
        long: text.long: what happens to longer inputs.
        window: the longest input that the backbone reads; None for no limit.
        bounded: very long rows that weren't counted to their end: lower bounds.
    """

    backbone: str
    columns: tuple[str, ...]
    lengths: np.ndarray
    rows: int
    by_column: dict[str, float]
    max_length: int
    long: str
    window: int | None
    bounded: int

    @property
    def sampled(self) -> bool:
        """Whether only some of the rows were counted."""
        return len(self.lengths) < self.rows

    def longer_than(self, length: int) -> float:
        """Return the share of the inputs that don't fit a length."""
        return float((self.lengths > length).mean())

    def cut_shares(self) -> dict[int, float]:
        """Return for the usual lengths and the config's the share of inputs that are longer."""
        marks = sorted({*MARKS, self.max_length})
        return {mark: self.longer_than(mark) for mark in marks}


def template_columns(config: Config) -> list[str]:
    """Return the columns that become tokens, in the order in which they are joined."""
    data = config.data
    in_text = config.model.fusion.name == "text"
    return [*data.numeric, *data.categorical, *data.text] if in_text else [*data.text]


def count_tokens(rows: Rows) -> Tokens | None:
    """Count the tokens of the rows that a run would use; None where no column is text.

    Raises:
        FoldwiseError: the backbone can't be found, or has no tokenizer.
    """
    config = rows.config
    columns = template_columns(config)
    if not config.data.text or not columns:
        return None
    folder = resolve_backbone(config.model.backbone, config.model.revision).folder
    return tokens_of(rows.used, columns, config, folder)


def tokens_of(frame: pl.DataFrame, columns: Sequence[str], config: Config, folder: Path) -> Tokens:
    """Count the tokens of some rows, or of a sample of them where they are many.

    Args:
        frame: with the columns as strings, null where empty.
        columns: of the template, in its order.
        config: `model.backbone`, `text` and `folds.seed` are read.
        folder: the backbone's.
    """
    settings = read_values(folder)
    size = settings.get("vocab_size")
    check_tokenizer(folder, size if isinstance(size, int) else 0)
    tokenizer, separator = _tokenizer(folder)
    rows = frame.height
    if frame.height > MOST_ROWS:
        rng = np.random.default_rng(config.folds.seed)
        frame = frame[np.sort(rng.permutation(frame.height)[:MOST_ROWS])]
    # One more than any length that is asked for.
    need = Need(head=max(*MARKS, config.text.max_length) + 1)
    counted = {name: _count(frame[name], tokenizer, need) for name in columns}
    counts = {name: count for name, (count, _) in counted.items()}
    special = tokenizer.num_special_tokens_to_add(False) + separator * (len(columns) - 1)
    return Tokens(
        backbone=config.model.backbone,
        columns=tuple(columns),
        lengths=sum(counts.values(), start=np.full(frame.height, special)),
        rows=rows,
        by_column={name: float(np.median(count)) for name, count in counts.items()},
        max_length=config.text.max_length,
        long=config.text.long,
        window=window(SimpleNamespace(**settings)),
        bounded=len(set().union(*(long for _, long in counted.values()))),
    )


def _tokenizer(folder: Path) -> tuple[Tokenizer, int]:
    """Return a folder's tokenizer, and how many tokens it puts between two columns."""
    file, settings = folder / "tokenizer.json", folder / "tokenizer_config.json"
    stated = json.loads(settings.read_text(encoding="utf-8")) if settings.is_file() else {}
    if not file.is_file() or "sep_token" not in stated:
        # What isn't written down is the class's default, which only transformers knows.
        from foldwise.models.backbone import load_tokenizer

        loaded = load_tokenizer(folder)
        return plain_tokenizer(loaded.backend_tokenizer), len(frame_of(loaded).separator)
    plain = plain_tokenizer(Tokenizer.from_file(str(file)))
    return plain, 1 if stated["sep_token"] else len(plain.encode("\n", add_special_tokens=False))


def _count(cells: pl.Series, tokenizer: Tokenizer, need: Need) -> tuple[np.ndarray, set[int]]:
    """Count each cell's tokens; those of the very long cells named are lower bounds."""
    counts: list[int] = []
    long: set[int] = set()
    for start in range(0, len(cells), CHUNK):
        encoded, bounded = ids_of(words(cells[start : start + CHUNK]), tokenizer, need)
        counts.extend(map(len, encoded))
        long |= {start + at for at in bounded}
    return np.array(counts, dtype=np.int64), long
