"""What columns do for an answer: their cells exchanged, and the answer asked for again.

In: rows, and the rows that cells are drawn from. Out: for a row, the answer less the mean answer
with other rows' cells (`effects`); for labelled rows, what their metric loses when a column is
shuffled among them (`importances`, Breiman 2001). Both ask the whole answer, so they hold for every
member, and a text column is a column like others. Columns that say the same hide each other: with
one exchanged the other still tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from foldwise.explanation.aim import Aim
from foldwise.explanation.answered import Variant, answers, varied
from foldwise.explanation.effort import Effort
from foldwise.explanation.explained import ColumnEffect, Importance
from foldwise.members.member import Floats
from foldwise.metrics.metric import Metric, evaluate
from foldwise.predictor import Predictor

SHUFFLES = 3
_FEWEST = 2  # rows to draw cells from; with fewer, an empty cell stands in


def columns_of(predictor: Predictor) -> list[str]:
    """Return the columns that a run reads."""
    data = predictor.config.data
    return [*data.text, *data.categorical, *data.numeric]


def effects(
    predictor: Predictor,
    rows: pl.DataFrame,
    aims: Sequence[Sequence[Aim]],
    full: Floats,
    donors: pl.DataFrame,
    effort: Effort,
) -> list[list[list[ColumnEffect]]]:
    """Exchange each cell of some rows.

    Args:
        predictor: whose answer.
        rows: as it takes them.
        aims: of each row.
        full: the answer to the rows, (n, n_outputs).
        donors: rows to draw cells from; of fewer than two, cells are emptied instead.
        effort: the draws, a row and column.

    Returns:
        By row and aim, its columns, the largest effect first.
    """
    columns = columns_of(predictor)
    variants, sizes = [], []
    for place in range(rows.height):
        random = np.random.default_rng([effort.seed, place])
        others = donors.filter(donors["row"] != rows["row"][place])
        for column in columns:
            few = others.height < _FEWEST
            cells = [None] if few else _drawn(others[column], effort.draws, random)
            variants += [Variant(place, {column: cell}) for cell in cells]
            sizes.append(len(cells))
    made = answers(predictor, varied(rows, variants), effort)
    parts = iter(np.split(made, np.cumsum(sizes)[:-1]))
    found = []
    for place, of_row in enumerate(aims):
        changed = {column: full[place] - next(parts) for column in columns}
        found.append([_effects(rows, place, aim, changed) for aim in of_row])
    return found


def importances(
    predictor: Predictor, rows: pl.DataFrame, metric: Metric, *, seed: int
) -> list[Importance]:
    """Shuffle each column among labelled rows, and say what the metric loses.

    Args:
        predictor: whose answer.
        rows: what `read` returned, with the target.
        metric: the measure.
        seed: of the shuffles.

    Returns:
        The columns, the largest loss first.
    """
    task: Any = predictor.task
    sign = 1 if metric.greater_is_better else -1

    def worth(frame: pl.DataFrame) -> float:
        return sign * evaluate(metric, *task.to_arrays(predictor.predict(frame)))

    whole, found = worth(rows), []
    for column in columns_of(predictor):
        losses = []
        for shuffle in range(SHUFFLES):
            order = np.random.default_rng([seed, shuffle]).permutation(rows.height)
            losses.append(whole - worth(rows.with_columns(rows[column][order])))
        found.append(Importance(column, float(np.mean(losses)), min(losses), max(losses)))
    return sorted(found, key=lambda importance: -importance.lost)


def _drawn(cells: pl.Series, draws: int, random: np.random.Generator) -> list[Any]:
    places = random.choice(len(cells), min(draws, len(cells)), replace=False)
    return cells[places].to_list()


def _effects(
    rows: pl.DataFrame, place: int, aim: Aim, changed: dict[str, Floats]
) -> list[ColumnEffect]:
    found = []
    for column, differences in changed.items():
        of_aim = differences[:, aim.output]
        found.append(
            ColumnEffect(
                column,
                rows[column][place],
                float(of_aim.mean()),
                float(of_aim.min()),
                float(of_aim.max()),
            )
        )
    return sorted(found, key=lambda effect: -abs(effect.effect))
