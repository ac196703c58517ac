"""Rows with cells replaced, and what the answer or its members make of them.

In: rows as a predictor takes them, and for each of many variants the row it is of and the cells it
has instead. Out: one number a variant. All that explains by trying goes through here, many variants
in one call, as batches of like lengths are quickest.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from foldwise.explanation.aim import Aim
from foldwise.explanation.effort import Effort
from foldwise.members.member import Floats
from foldwise.predictor import Predictor
from foldwise.tasks.predictions import values_of

TOGETHER = 64  # variants predicted in one call


@dataclass(frozen=True)
class Variant:
    """A row with other cells.

    Attributes:
        row: its place among the rows.
        cells: by column, what it has instead; None is an empty cell.
    """

    row: int
    cells: Mapping[str, Any]


def varied(rows: pl.DataFrame, variants: Sequence[Variant]) -> pl.DataFrame:
    """Return the variants as rows, in their order."""
    frame = rows[[variant.row for variant in variants]]
    for column in {name for variant in variants for name in variant.cells}:
        cells = frame[column].to_list()
        for place, variant in enumerate(variants):
            if column in variant.cells:
                cells[place] = variant.cells[column]
        frame = frame.with_columns(pl.Series(column, cells, dtype=frame[column].dtype))
    return frame


def answers(predictor: Predictor, rows: pl.DataFrame, effort: Effort) -> Floats:
    """Return the answer to rows: probabilities (n, n_outputs) or numbers (n, 1), float64."""
    return np.concatenate([values_of(predictor.predict(part)) for part in _parts(rows, effort)])


def margins_by_member(
    predictor: Predictor,
    rows: pl.DataFrame,
    aims: Sequence[Aim],
    names: Collection[str],
    effort: Effort,
) -> dict[str, NDArray[np.float64]]:
    """Return members' margins of rows, the mean over folds: float64 (n,) each.

    Args:
        predictor: whose members.
        rows: as it takes them.
        aims: one a row.
        names: of the members.
        effort: what is done between.
    """
    if not names:
        return {}
    found: dict[str, list[NDArray[np.float64]]] = {name: [] for name in names}
    for start, part in zip(range(0, rows.height, TOGETHER), _parts(rows, effort), strict=True):
        folds = predictor.by_member(predictor.take(part), names)
        own = aims[start : start + TOGETHER]
        for name, made in found.items():
            made.append(np.mean([_margins(values_of(each[name]), own) for each in folds], axis=0))
    return {name: np.concatenate(made) for name, made in found.items()}


def _parts(rows: pl.DataFrame, effort: Effort) -> Iterator[pl.DataFrame]:
    for part in rows.iter_slices(TOGETHER):
        effort.between()
        yield part


def _margins(values: Floats, aims: Sequence[Aim]) -> NDArray[np.float64]:
    return np.array([aim.margins(line[None])[0] for line, aim in zip(values, aims, strict=True)])
