"""The report's section on words and columns by class: what the linear member sees in the rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
from markupsafe import Markup

from foldwise.evaluation.linear_words import LINEAR, MOST_CLASSES, MOST_ROWS, Seen, seen_by_class
from foldwise.evaluation.words import signed
from foldwise.preparation.build import holds
from foldwise.report import page
from foldwise.report.shaded import visible
from foldwise.report.source import Source

_COLUMNS = 8  # that have a place in the table
_LONGEST = 60  # characters of a cell


def sections(
    source: Source, scored: pl.DataFrame, metrics: Mapping[str, Any]
) -> list[page.Section]:
    """Build the section; none of a run without that member, or without its table at hand.

    Args:
        source: of the run.
        scored: its out-of-fold rows.
        metrics: what metrics.json holds.
    """
    if source.frame is None:
        return []
    seen = seen_by_class(source.run, source.config, source.task, scored, source.frame)
    if not seen:
        return []
    number = holds(source.task) == "number"
    body = page.paragraph(_what(source, metrics)) + page.paragraph(_whose(metrics), "note")
    body += _words(seen) + _columns(seen)
    if scored.height > MOST_ROWS:
        body += page.paragraph(f"Found on {MOST_ROWS:,} of {scored.height:,} rows, drawn.", "note")
    if len(seen) == MOST_CLASSES:
        body += page.paragraph(f"Shown are the {MOST_CLASSES} most frequent answers.", "note")
    return [page.Section("Words and columns" + " by class" * (not number), body)]


def _what(source: Source, metrics: Mapping[str, Any]) -> str:
    to = {
        "label": "the score of the class, over the mean of the other classes' scores",
        "labels": "the log odds of the label",
        "number": "the number",
    }[holds(source.task)]
    return (
        "What the linear member (on words, categories and numbers) finds in the rows that the run "
        f"answers so: what a column, word or cell adds to {to}, the mean over these rows, less "
        "that over all rows. Each row is looked at by the fold that didn't train on it."
    )


def _whose(metrics: Mapping[str, Any]) -> str:
    answer = metrics.get("answer") or {}
    share = answer.get("weights", {}).get(LINEAR, 0.0)
    part = f"has {share:.0%} of the answer's weight" if share else "has no part in the answer"
    return (
        f"This is a statement about the linear member, which {part}. The fine-tuned model reads "
        "the same rows in its own way: foldwise explain asks it, row by row."
    )


def _words(seen: Sequence[Seen]) -> Markup:
    lists = [
        (what, [getattr(each, what) for each in seen])
        for what in ("words", "cells")
        if any(getattr(each, what) for each in seen)
    ]
    headings, columns = ["answer", "rows"], []
    for what, of_class in lists:
        names = {column for found in of_class for column, _, _ in found}
        whose = f" of {visible(*names)}" if len(names) == 1 and what == "cells" else ""
        headings.append(f"{what}{whose} that add most")
        columns.append([_listed(found, named=len(names) > 1) for found in of_class])
    rows: list[list[page.Cell]] = [
        [visible(each.name), each.rows, *told] for each, *told in zip(seen, *columns, strict=True)
    ]
    caption = "Words and cells that add most where it is answered so"
    wide = set(range(2, len(headings)))
    return page.table(caption, headings, rows, sortable=False, wide=wide) if lists else Markup("")


def _columns(seen: Sequence[Seen]) -> Markup:
    sizes: dict[str, float] = {}
    for each in seen:
        for column, value in each.columns.items():
            sizes[column] = max(sizes.get(column, 0.0), abs(value))
    columns = sorted(sizes, key=lambda column: -sizes[column])[:_COLUMNS]
    if len(sizes) < 2:
        return Markup("")
    caption = "What each column adds where it is answered so"
    if len(sizes) > len(columns):
        caption += f"; {len(sizes) - len(columns)} columns that add less are left out"
    rows: list[list[page.Cell]] = [
        [visible(each.name), each.rows, *(each.columns.get(column, 0.0) for column in columns)]
        for each in seen
    ]
    return page.table(caption, ["answer", "rows", *map(visible, columns)], rows)


def _listed(found: Sequence[tuple[str, str, float]], *, named: bool) -> str:
    told = []
    for column, name, value in found:
        short = name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
        told.append(f"{visible(f'{column}: ' if named else '')}{visible(short)} ({signed(value)})")
    return ", ".join(told) or "-"
