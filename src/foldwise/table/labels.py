"""Labels as they were typed: the target column in, the same without stray white space out.

In a file `card` and `card ` are different, and no one means two classes by them. White space
around a label is taken off unless the config says `exact`: of 16 columns of 2 to 100 values in five
public tables one had any (700 cells), and it told no two values apart. What differs by case, inner
white space or the spelling of a truth value or whole number stays apart, because it may be meant,
but it is told.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

import polars as pl

SHOWN = 5  # labels or groups of them that a line names before it stops
_TRUTH = {"true": "1", "yes": "1", "false": "0", "no": "0"}


def strip_labels(column: pl.Series) -> pl.Series:
    """Take white space off both ends of each label; null stays null."""
    return column.str.strip_chars()


def label_sets(column: pl.Series, separator: str, *, strip: bool) -> pl.Series:
    """Write each cell's labels once, sorted; blank ones are none, null stays null."""
    label = pl.element().str.strip_chars() if strip else pl.element()
    kept = label.filter(label.str.contains(r"\S"))
    labels = column.str.split(separator).list.eval(kept.unique().sort())
    return labels.list.join(separator)


def stripped_note(before: pl.Series, after: pl.Series) -> list[str]:
    """Say which labels lost white space, in a line, or nothing."""
    changed = before.filter((before != after).fill_null(False))
    if not len(changed):
        return []
    named = Counter(changed.to_list()).most_common()
    shown = ", ".join(f"{label[:50]!r} ({count})" for label, count in named[:SHOWN])
    more = ", ..." if len(named) > SHOWN else ""
    return [
        f"column {before.name!r}: white space around {len(changed)} labels removed: {shown}{more} "
        "(data.labels: exact keeps it)"
    ]


def alike_note(column: pl.Series, separator: str | None) -> list[str]:
    """Say which labels differ only in how they are written, with their counts, or nothing.

    Args:
        column: one label a cell; several with a separator.
        separator: between the labels of a cell, or None.
    """
    known = column.drop_nulls()
    if separator is not None:
        known = known.str.split(separator).explode(empty_as_null=True).drop_nulls()
        known = known.filter(known != "")
    counts = Counter(known.to_list())
    groups: dict[str, list[str]] = {}
    for label in sorted(counts):
        groups.setdefault(_spelt(label), []).append(label)
    for word, number in _TRUTH.items():
        if word in groups and number in groups:
            groups[number] += groups.pop(word)
    alike = [labels for labels in groups.values() if len(labels) > 1]
    if not alike:
        return []
    named = [
        " and ".join(f"{label[:50]!r} ({counts[label]})" for label in labels[:SHOWN])
        for labels in alike[:SHOWN]
    ]
    return [
        f"column {column.name!r}: labels that differ only by white space, case or spelling are "
        f"classes of their own: {'; '.join(named)}{'; ...' if len(alike) > SHOWN else ''}"
    ]


def _spelt(label: str) -> str:
    even = " ".join(unicodedata.normalize("NFKC", label).casefold().split())
    return re.sub(r"^([+-]?\d+)\.0+$", r"\1", even)
