"""What a run's folder alone says of the training rows' columns, where the table isn't at hand.

The linear member of each fold keeps the values and words that at least two of its training rows
have, and the mean and deviation of each number. That is enough to say how much of the new rows is
strange to the run, and not enough to say how much is strange of rows that haven't drifted: what
comes out is told, and counts neither for nor against drift.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import polars as pl
from sklearn.feature_extraction.text import CountVectorizer

from foldwise.drift.measures import Check, Part
from foldwise.run.contents import Contents
from foldwise.run.folder import RunFolder
from foldwise.run.readers import read_json
from foldwise.run.seal import check, sealed_folds

_SHOWN = 12
_LINEAR = "linear"


def compare_stored(run: RunFolder, new: pl.DataFrame) -> list[Check]:
    """Say of each column what the run's linear members don't know.

    Args:
        run: finished.
        new: rows.

    Returns:
        Checks that nothing can be tested of; none where the run has no such member.
    """
    values, words = dict[str, set[str]](), dict[str, set[str]]()
    numbers = dict[str, list[tuple[float, float]]]()
    for block in _blocks(run):
        column = block["column"]
        if column not in new.columns:
            continue
        if block["kind"] == "category":
            values.setdefault(column, set()).update(block["values"])
        elif block["kind"] == "number":
            scaled = (block["mean"] * block["size"], block["scale"] * block["size"])
            numbers.setdefault(column, []).append(scaled)
        elif block["range"] == [1, 1]:
            words.setdefault(column, set()).update(block["terms"])
    return [
        *(_values(name, known, new[name]) for name, known in values.items()),
        *(_numbers(name, found, new[name]) for name, found in numbers.items()),
        *(_words(name, known, new[name]) for name, known in words.items()),
    ]


def _blocks(run: RunFolder) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for number in sealed_folds(run):
        fold = run.fold(number)
        state = fold.member(_LINEAR).state
        if state.exists():
            check(fold.path, "members", only=[str(state.relative_to(fold.path))])
            found += read_json(state, Contents)["features"].values()
    return found


def _values(name: str, known: set[str], cells: pl.Series) -> Check:
    counts = Counter(cells.drop_nulls().to_list())
    odd = {value: rows for value, rows in counts.items() if value not in known}
    share = sum(odd.values()) / max(1, len(cells))
    ranked = sorted(odd.items(), key=lambda item: (-item[1], item[0]))[:_SHOWN]
    parts = [Part("of at most one training row", math.nan, share)]
    parts += [Part(value, math.nan, rows / len(cells)) for value, rows in ranked]
    return Check("unseen", name, share, math.nan, tuple(parts))


def _numbers(name: str, stored: list[tuple[float, float]], cells: pl.Series) -> Check:
    mean, deviation = (float(value) for value in np.mean(stored, axis=0))
    filled = cells.cast(pl.Float64).drop_nulls()
    there = float(filled.mean()) if len(filled) else math.nan  # type: ignore[arg-type]
    parts = (Part("mean", mean, there), Part("standard deviation", deviation, math.nan))
    return Check("numbers", name, 0.0, math.nan, parts, percent=False)


def _words(name: str, known: set[str], cells: pl.Series) -> Check:
    words_of = CountVectorizer().build_analyzer()
    found = [set(words_of(text)) for text in cells.fill_null("").to_list()]
    strange = [words - known for words in found]
    shares = [len(odd) / len(words) for odd, words in zip(strange, found, strict=True) if words]
    share = float(np.mean(shares)) if shares else 0.0
    counts = Counter(word for words in strange for word in words)
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_SHOWN]
    parts = [Part("words of at most one training row", math.nan, share)]
    parts += [Part(word, math.nan, rows / len(cells)) for word, rows in ranked if rows > 1]
    return Check("words", name, share, math.nan, tuple(parts), percent=False)
