"""A table of any size to a file of labels: rows in, chunk by chunk, one line a row out.

In: new rows, what labels them, and an output's name. Out: the file, under its name only when it is
whole, and what was counted. A row that can't be scored keeps its place with the reason. The same
rows by the same run are the same bytes, however often the work was interrupted: chunks are cut by
the table alone, since a row's last digits hang on the rows it is padded with.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import polars as pl
from rich.console import Console

from foldwise.prediction.columns import PREDICTION, lines, not_finite
from foldwise.prediction.parts import Parts
from foldwise.progress.shown import Whole, whole_shown
from foldwise.table.chunks import Chunk, NewRows
from foldwise.table.formats import CHUNK_CHARS, CHUNK_ROWS
from foldwise.table.reading import ROW

Frames = Callable[[pl.DataFrame], pl.DataFrame]
Lines = tuple[pl.DataFrame, dict[str, int]]  # of a chunk, and what was counted in it
VERSION = 1  # of what is written: parts of another are of another output


@dataclass(frozen=True)
class Labels:
    """What labels rows.

    Attributes:
        label: rows as read -> row, prediction, confidence, prob_* and logit_*, in their order.
        models: JSON values that say which models these are.
        passes: over a chunk's rows, for the progress.
        known: by category column, the values that the models know; columns of which that can't be
            told are absent.
        more: what adds columns to labelled rows, one after the other.
    """

    label: Frames
    models: Mapping[str, Any]
    passes: int
    known: Mapping[str, frozenset[str | None]]
    more: Sequence[Frames] = ()


class Spread(Protocol):
    """What labels chunks elsewhere, as `labelled` does here.

    Attributes:
        identity: JSON values that say which models these are, and where.
    """

    identity: Mapping[str, Any]

    def __call__(self, chunks: Iterator[Chunk], /) -> Iterator[Lines]:
        """Yield the lines of each chunk, in their order; some are taken ahead."""


@dataclass(frozen=True)
class Predicted:
    """What a file of labels holds.

    Attributes:
        rows: its lines.
        problems: of these, rows that couldn't be scored.
        abstained: of these, rows that are left without a prediction, for want of confidence.
        unseen: by category column, rows whose value no model knows; of columns where that can be
            told.
        absent: by column, rows of files that lack it.
        resumed: rows that an interrupted call had done.
    """

    rows: int
    problems: int
    abstained: int
    unseen: dict[str, int]
    absent: dict[str, int]
    resumed: int

    def notes(self) -> list[str]:
        """What a person should hear of it."""
        told = [
            f"column {name!r}: {count:,} of {self.rows:,} rows ({count / self.rows:.1%}) hold a "
            "value that training didn't have, or too rarely to learn from"
            for name, count in self.unseen.items()
            if count
        ]
        if self.problems:
            told.append(
                f"{self.problems:,} of {self.rows:,} rows couldn't be scored; the column `problem` "
                "says why"
            )
        return told


def predict_file(
    rows: NewRows,
    labels: Labels,
    out: Path,
    *,
    raw: bool = False,
    console: Console | None = None,
    spread: Spread | None = None,
) -> Predicted:
    """Label a table's rows and write one line a row, in the table's order.

    Args:
        rows: the table.
        labels: what labels its rows.
        out: a .parquet, .csv or .jsonl file that doesn't exist yet; what an interrupted call has
            done of it is taken up.
        raw: leave cells of a CSV as they are that a spreadsheet takes for formulas.
        console: where progress is shown; None for silence.
        spread: labels the chunks elsewhere; None: here, one after the other.

    Raises:
        FoldwiseError: the output is there, or another call's parts of it; a carried column has the
            name of one that is written.
        RunInterrupted: the disk is full; the same call goes on.
    """
    state = {
        "version": VERSION,
        "chunks": [CHUNK_ROWS, CHUNK_CHARS],
        "data": [rows.sha256, list(rows.files), sorted(map(repr, rows.forms.values()))],
        "carry": list(rows.carry),
        "raw": raw,
        "models": dict(labels.models if spread is None else spread.identity),
    }
    parts = Parts(out, state, raw=raw)
    with (
        parts.held(),
        whole_shown(console, "predicting", rows.count, labels.passes) as shown,
    ):
        todo = _Todo(rows, parts, shown)
        made = map(partial(labelled, labels=labels), todo) if spread is None else spread(iter(todo))
        for lines_of_chunk, told in made:
            parts.write(todo.under_way.popleft(), lines_of_chunk, told)
            todo.counted.update(told)
        parts.complete(todo.count)
    counted = todo.counted
    unseen = {name: counted[f"unseen:{name}"] for name in labels.known}
    return Predicted(
        todo.rows, counted["problems"], counted["abstained"], unseen, rows.absent, todo.resumed
    )


class _Todo:
    """The chunks of a table whose parts aren't done, one after the other.

    Attributes:
        count: chunks so far,
        rows: and theirs,
        resumed: and those of them that an interrupted call had done from the beginning.
        counted: in parts that are done.
        under_way: numbers of the chunks that were handed out and not yet written.
    """

    def __init__(self, rows: NewRows, parts: Parts, shown: Whole) -> None:
        self.table, self.parts, self.shown = rows, parts, shown
        self.count = self.rows = self.resumed = 0
        self.counted: Counter[str] = Counter()
        self.under_way: deque[int] = deque()

    def __iter__(self) -> Iterator[Chunk]:
        for number, chunk in enumerate(self.table.chunks()):
            before, height = self.rows, chunk.rows.height
            self.count, self.rows = number + 1, before + height
            told = self.parts.done(number)
            if told is None:
                if self.resumed == before and before:
                    self.shown.skip(before)
                self.shown.begin(before, height)
                self.under_way.append(number)
                yield chunk
            else:
                self.resumed += height if self.resumed == before else 0
                self.counted.update(told)


def labelled(chunk: Chunk, labels: Labels) -> Lines:
    """Return a chunk's lines, and what was counted in them."""
    problems = dict(chunk.problems)
    sound = chunk.rows.filter(~pl.col(ROW).is_in(list(problems)))
    # Where no row can be scored, one is made up: its columns are wanted, not its line.
    made = labels.label(sound if sound.height else chunk.rows.head(1)).head(sound.height)
    odd = not_finite(made)
    problems |= odd
    made = made.filter(~pl.col(ROW).is_in(list(odd)))
    for add in labels.more:
        made = add(made)
    counted = {"problems": len(problems), "abstained": made[PREDICTION].null_count()}
    for name, known in labels.known.items():
        cells = chunk.rows[name]
        counted[f"unseen:{name}"] = int((~cells.is_in(list(known)) & cells.is_not_null()).sum())
    return lines(made, chunk.rows[ROW], problems, chunk.carried), counted
