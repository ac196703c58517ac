"""What the columns of two tables differ in: cells, words, tokens; one `Check` each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
from sklearn.feature_extraction.text import CountVectorizer

from foldwise.config.schema import Config
from foldwise.drift.measures import (
    Check,
    Part,
    beyond_range,
    compare_numbers,
    compare_rate,
    compare_shares,
)
from foldwise.encoding.bound import Need
from foldwise.encoding.text import encode, frame_of
from foldwise.table.reading import MISSING

_SHOWN = 12  # values and words that a check names
_PERMUTATIONS = 999


def compare_columns(training: pl.DataFrame, new: pl.DataFrame, config: Config) -> list[Check]:
    """Compare every column that the run reads.

    Args:
        training: rows, each on its own.
        new: likewise.
        config: `data` and `folds.seed` are read.
    """
    data, found = config.data, list[Check]()
    for name in [*data.text, *data.categorical, *data.numeric]:
        found += _missing(name, training[name], new[name])
    for name in data.categorical:
        found += _categories(name, training[name], new[name], config.folds.seed)
    for name in data.numeric:
        sides = _numbers(training[name]), _numbers(new[name])
        found += [compare_numbers("numbers", name, *sides), beyond_range(name, *sides)]
    for name in data.text:
        found += _words(name, training[name], new[name])
    return found


def compare_tokens(
    training: pl.DataFrame, new: pl.DataFrame, config: Config, task: Any
) -> list[Check]:
    """Compare the inputs' lengths in tokens, and how many hold a token that the model can't read.

    Args:
        training: rows, each on its own.
        new: likewise.
        config: `text` is read.
        task: with a tokenizer and the columns of its template; another has nothing to compare.
    """
    columns = getattr(task, "columns", None)
    if not columns or not hasattr(task, "tokenizer"):
        return []
    most = config.text.max_length
    chunks = config.text.long == "chunks"
    need = Need(head=(most + 1) if not chunks else most * ((config.text.max_chunks or 32) + 1))
    stores = [encode(rows, columns, task.tokenizer, None, need) for rows in (training, new)]
    beside = frame_of(task.tokenizer).size
    lengths = [store.lengths.astype(np.float64) + beside for store in stores]
    check = compare_numbers("length", None, *lengths)
    cut = Part(f"longer than {most}", *(float((each > most).mean()) for each in lengths))
    found = [Check(check.kind, None, check.size, check.p, (*check.parts, cut), percent=False)]
    unknown = task.tokenizer.unk_token_id
    if unknown is not None:
        before, after = (
            sum(bool((store[row] == unknown).any()) for row in range(len(store)))
            for store in stores
        )
        pairs = (before, len(stores[0])), (after, len(stores[1]))
        found.append(compare_rate("tokens", None, pairs[0], pairs[1], "with an unknown token"))
    return found


def _missing(name: str, training: pl.Series, new: pl.Series) -> Iterator[Check]:
    before, after = ((int(_empty(side).sum()), len(side)) for side in (training, new))
    if before[0] or after[0]:
        yield compare_rate("missing", name, before, after, "empty")


def _empty(column: pl.Series) -> pl.Series:
    if column.dtype.is_float():
        return column.is_null() | column.is_nan()
    return column.is_null() | (column == MISSING).fill_null(False)


def _categories(name: str, training: pl.Series, new: pl.Series, seed: int) -> Iterator[Check]:
    training, new = (side.filter(~_empty(side)) for side in (training, new))
    known, there = counts_of(training), counts_of(new)
    if known and there:
        yield compare_shares("values", name, known, there, most=_SHOWN)
        yield _unseen(name, training, new, known, there, seed)


def counts_of(column: pl.Series) -> dict[str, int]:
    """Return how many rows have each value."""
    return dict(column.value_counts().iter_rows())


def _unseen(
    name: str,
    training: pl.Series,
    new: pl.Series,
    known: dict[str, int],
    there: dict[str, int],
    seed: int,
) -> Check:
    """Count rows whose value no training row has.

    Of a column with many rare values some always have none. How many is found by dealing all rows
    to two tables of these sizes, again and again.
    """
    odd = {value: rows for value, rows in there.items() if value not in known}
    codes = pl.concat([training, new]).rank("dense").to_numpy().astype(np.int64) - 1
    n, m = len(training), len(new)
    random = np.random.default_rng(seed)
    dealt = np.empty(_PERMUTATIONS)
    for i in range(_PERMUTATIONS):
        order = random.permutation(codes)
        seen = np.zeros(codes.max() + 1, dtype=bool)
        seen[order[:n]] = True
        dealt[i] = (~seen[order[n:]]).sum()
    rows = sum(odd.values())
    p = (1 + int((dealt >= rows).sum())) / (1 + _PERMUTATIONS)
    expected = float(dealt.mean()) / m
    ranked = sorted(odd.items(), key=lambda item: (-item[1], item[0]))[:_SHOWN]
    parts = [Part("of no training row", expected, rows / m)]
    parts += [Part(value, 0.0, count / m) for value, count in ranked]
    return Check(
        "unseen", name, max(0.0, rows / m - expected), _sharper(p, rows, dealt), tuple(parts)
    )


def _sharper(p: float, found: float, dealt: np.ndarray) -> float:
    """Return a p-value below what so many dealings can show, by their normal approximation.

    A correction for many checks asks for smaller ones than one in a thousand.
    """
    from scipy.stats import norm

    spread = float(dealt.std(ddof=1))
    if p > 2 / (1 + len(dealt)) or spread == 0:
        return p
    return min(p, float(norm.sf((found - dealt.mean()) / spread)))


def _words(name: str, training: pl.Series, new: pl.Series) -> Iterator[Check]:
    """Compare, row by row, the share of words that no other row of training has.

    A training row's own words are looked for in the other training rows.
    """
    texts = [side.fill_null("").to_list() for side in (training, new)]
    try:
        vectorizer = CountVectorizer(binary=True, dtype=np.int32)
        matrix = vectorizer.fit_transform([*texts[0], *texts[1]]).tocsr()
    except ValueError:  # not a single word
        return
    old, fresh = matrix[: len(texts[0])], matrix[len(texts[0]) :]
    rows_with = np.asarray(old.sum(axis=0)).ravel()
    lonely = [_share(old, rows_with == 1), _share(fresh, rows_with == 0)]
    check = compare_numbers("words", name, *lonely)
    unseen = np.asarray(fresh.sum(axis=0)).ravel() * (rows_with == 0)
    most = np.argsort(-unseen, kind="stable")[:_SHOWN]
    terms = vectorizer.get_feature_names_out()
    means = Part("words of no (other) training row", *(float(np.nanmean(x)) for x in lonely))
    parts = [
        means,
        *(Part(str(terms[i]), 0.0, unseen[i] / len(new)) for i in most if unseen[i] > 1),
    ]
    yield Check("words", name, check.size, check.p, tuple(parts))


def _share(matrix: Any, chosen: np.ndarray) -> np.ndarray:
    # nan where a row has no word: that cell is empty, or as good as.
    total = np.asarray(matrix.sum(axis=1)).ravel().astype(np.float64)
    part = np.asarray(matrix @ chosen.astype(np.int32)).ravel()
    share: np.ndarray = np.divide(part, total, out=np.full(len(total), np.nan), where=total > 0)
    return share


def _numbers(column: pl.Series) -> np.ndarray:
    values: np.ndarray = column.cast(pl.Float64).fill_null(np.nan).to_numpy()
    return values
