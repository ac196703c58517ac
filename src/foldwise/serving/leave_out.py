"""Why a row was labelled so: what its probability would be without each word and each column.

In: one row. Out: as many rows as there are parts to leave out, and, once they are labelled, how
much of the predicted label's probability goes with each part. It is the plainest explanation there
is: parts that say the same stand in for each other, and then neither seems to count.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from foldwise.serving.rows import Column
from foldwise.tasks.predictions import values_of


@dataclass(frozen=True)
class Part:
    """What is left out: a run of a text's words, or a column's cell.

    Attributes:
        column: its name.
        start: its first character; None for a whole cell.
        end: the one after its last.
    """

    column: str
    start: int | None = None
    end: int | None = None

    def without(self, cell: Any) -> str | None:
        """Return the cell without the part."""
        if self.start is None or self.end is None:
            return None
        return f"{cell[: self.start]}{cell[self.end :]}"


def parts_of(row: Mapping[str, Any], columns: Sequence[Column], most: int) -> list[Part]:
    """Return the parts of a row that can be left out.

    Args:
        row: the cells by column.
        columns: that the model reads.
        most: parts of all texts together; where there are more words, they go in runs.
    """
    texts = [column.name for column in columns if column.role == "text" and row[column.name]]
    others = [Part(c.name) for c in columns if c.role != "text" and row[c.name] is not None]
    found = []
    for name in texts:
        words = [word.span() for word in re.finditer(r"\S+", row[name])]
        size = max(1, -(-len(words) // max(1, most // len(texts))))
        runs = [words[at : at + size] for at in range(0, len(words), size)]
        found += [Part(name, run[0][0], run[-1][1]) for run in runs]
    return [*found, *others]


def with_and_without(row: pl.DataFrame, parts: Sequence[Part]) -> pl.DataFrame:
    """Return a row as it is, then once without each part: (1 + parts) rows."""
    cells = row.to_dicts()[0]
    rows = [{**cells, part.column: part.without(cells[part.column])} for part in parts]
    return pl.DataFrame([cells, *rows], schema=row.schema)


def explained(row: pl.DataFrame, parts: Sequence[Part], labelled: pl.DataFrame) -> dict[str, Any]:
    """Return what each part adds to the label's probability, or to the number.

    Args:
        row: as it is.
        parts: that were left out.
        labelled: the rows of `with_and_without`, in their order.
    """
    cells, values = row.to_dicts()[0], values_of(labelled)
    names = [name.removeprefix("prob_") for name in labelled.columns if name.startswith("prob_")]
    said = labelled["prediction"][0]
    at = names.index(said) if said in names else int(np.argmax(values[0]))
    adds = values[0, at] - values[1:, at]
    return {
        "label": names[at] if names else None,
        "value": _number(values[0, at]),
        "parts": [
            {
                "column": part.column,
                "start": part.start,
                "end": part.end,
                "content": cells[part.column]
                if part.start is None
                else cells[part.column][part.start : part.end],
                "adds": _number(add),
            }
            for part, add in zip(parts, adds, strict=True)
        ],
        "method": "leave one out: what the value loses without the part alone",
    }


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
