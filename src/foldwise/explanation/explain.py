"""Explain answers: a predictor and rows in, what drove each answer out.

Rows are explained in small groups: of each, all its variants are predicted at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from foldwise.errors import FoldwiseError
from foldwise.evaluation.answer import judged_by
from foldwise.explanation.aim import Aim, aims_of
from foldwise.explanation.columns import columns_of, effects, importances
from foldwise.explanation.credit import Creditor, weights_of
from foldwise.explanation.effort import QUICK, Effort
from foldwise.explanation.explained import Explained, Explanation, Share
from foldwise.explanation.gradients import check_captum, has_embeddings
from foldwise.explanation.removal import check_removal
from foldwise.members.member import Floats
from foldwise.predictor import Predictor
from foldwise.progress.shown import rows_shown
from foldwise.table.frames import Rows, to_frame
from foldwise.table.reading import ROW
from foldwise.tasks.predictions import values_of

GROUP = 4  # rows whose variants are predicted together
MOST_LABELLED = 500  # rows that importances are found on


def explain(
    predictor: Predictor,
    rows: Rows,
    chosen: Sequence[int] | None = None,
    *,
    effort: Effort | None = None,
) -> Explanation:
    """Say which words, columns and members drove the answers to rows.

    Args:
        predictor: of a finished run.
        rows: a frame or a list of dicts, as for `Predictor.predict`, or what `Predictor.read`
            returned; other rows' cells are drawn from them. Where `read` returned them and they are
            labelled, what each column is worth is found on up to 500 of them.
        chosen: places of those to explain; None for the first 20.
        effort: how much is computed; None: the default.

    Returns:
        One entry a row, of label sets one a predicted label.

    Raises:
        FoldwiseError: no such row, captum isn't installed, or the run's task has no classes,
            labels or number that could be explained.
    """
    effort = effort or Effort()
    frame = rows if isinstance(rows, pl.DataFrame) else to_frame(rows, columns_of(predictor))[0]
    task: Any = predictor.task
    check_explains(predictor)
    target = predictor.config.data.target
    if ROW not in frame.columns:  # a target that `read` hasn't read may be of other labels
        frame = frame.drop(target or "", strict=False).with_row_index(ROW)
    places = list(range(min(20, frame.height))) if chosen is None else list(chosen)
    if wrong := [place for place in places if not 0 <= place < frame.height]:
        raise FoldwiseError(f"row {wrong[0]}: the table has rows 0 to {frame.height - 1}")
    taken = predictor.take(frame)
    creditor = Creditor(predictor, effort)
    found: list[Explained] = []
    with rows_shown("explaining", len(places)) as advance:
        for start in range(0, len(places), GROUP):
            part = taken[places[start : start + GROUP]]
            found += _group(predictor, creditor, part, taken, effort)
            advance(start + part.height)
    labelled = taken.drop_nulls(target)[:MOST_LABELLED] if target in taken.columns else None
    if labelled is None or labelled.height < 2 or not effort.random:
        return Explanation(found, [], None, 0)
    metric = judged_by(predictor.config, task.metrics())
    worth = importances(predictor, labelled, metric, seed=effort.seed)
    return Explanation(found, worth, metric.name, labelled.height)


def explain_row(
    predictor: Predictor,
    row: Mapping[str, Any],
    others: Rows | None = None,
    effort: Effort = QUICK,
) -> list[Explained]:
    """Explain the answer to one row, quickly.

    Args:
        predictor: of a finished run.
        row: cells by column.
        others: rows to draw other cells from; None: cells are emptied instead.
        effort: how much is computed.

    Returns:
        One entry; of label sets one a predicted label.

    Raises:
        FoldwiseError: as `explain`.
    """
    check_explains(predictor)
    one = to_frame([row])[0].with_columns(pl.lit(-1, pl.Int64).alias(ROW))
    taken = predictor.take(one)
    donors = taken[:0]
    if others is not None:
        frame = others if isinstance(others, pl.DataFrame) else to_frame(others)[0]
        donors = predictor.take(frame.with_row_index(ROW) if ROW not in frame.columns else frame)
        donors = donors.select(taken.columns)
    return _group(predictor, Creditor(predictor, effort), taken, donors, effort)


def check_explains(predictor: Predictor) -> None:
    """Check that a predictor's answers can be explained.

    Raises:
        FoldwiseError: captum isn't installed, or the run's task has no classes, labels or number
            that could be explained.
    """
    if not hasattr(predictor.task, "half"):
        raise FoldwiseError(
            f"task {predictor.config.task}: its predictions aren't made of a target of Foldwise's "
            "own, so there is no margin that could be explained"
        )
    if any(has_embeddings(model) for _, model in predictor.models):
        check_captum()


def least_sure(predictor: Predictor, rows: pl.DataFrame, n: int) -> list[int]:
    """Return the places of the rows whose answer is least sure, the least first.

    Args:
        predictor: of classes or labels.
        rows: as it takes them.
        n: how many.

    Raises:
        FoldwiseError: a number is predicted, which has no probability.
    """
    if predictor.task.holds == "number":  # type: ignore[attr-defined]
        raise FoldwiseError("--most-unsure: a predicted number has no probability; give --rows")
    values = values_of(predictor.predict(rows))
    several = predictor.task.holds == "labels"  # type: ignore[attr-defined]
    sure = np.abs(values - 0.5).min(axis=1) if several else values.max(axis=1)
    order: list[int] = np.argsort(sure, kind="stable")[:n].tolist()
    return order


def _group(
    predictor: Predictor,
    creditor: Creditor,
    rows: pl.DataFrame,
    donors: pl.DataFrame,
    effort: Effort,
) -> list[Explained]:
    task: Any = predictor.task
    answer = predictor.predict(rows)
    full = values_of(answer)
    predictions = answer["prediction"].to_list()
    aims = [
        aims_of(task, line, prediction, effort.labels)
        for line, prediction in zip(full, predictions, strict=True)
    ]
    shares = _shares(predictor, rows, aims)
    columns = effects(predictor, rows, aims, full, donors, effort)
    # From here on an entry is a row and one of its aims.
    of = [(place, number) for place, row in enumerate(aims) for number in range(len(row))]
    entries = rows[[place for place, _ in of]]
    flat = [aims[place][number] for place, number in of]
    credits = creditor.credit(entries, flat)
    wholes = full[[place for place, _ in of]]
    removals = [None] * len(of)
    if effort.random:
        removals = check_removal(predictor, entries, flat, credits, wholes, effort)  # type: ignore[assignment]
    known = task.target in rows.columns
    return [
        Explained(
            row=int(rows[ROW][place]),
            of=aim.name,
            value=float(full[place, aim.output]),
            prediction=predictions[place],
            target=rows[task.target][place] if known else None,
            probabilities=dict(zip(task.classes, full[place].tolist(), strict=False)),
            texts={column: rows[column][place] for column in creditor.texts},
            credit=credit,
            members=shares[place][number],
            columns=columns[place][number],
            removal=removal,
        )
        for (place, number), aim, credit, removal in zip(of, flat, credits, removals, strict=True)
    ]


def _shares(
    predictor: Predictor, rows: pl.DataFrame, aims: Sequence[Sequence[Aim]]
) -> list[list[list[Share]]]:
    # By row and aim, the members' parts in the answer.
    folds = predictor.by_member(predictor.take(rows))
    weights = weights_of(predictor.chosen)
    values = {
        name: np.stack([values_of(tables[name]) for tables in folds]) for name in weights
    }  # (folds, n, n_outputs) each
    found = []
    for place, of_row in enumerate(aims):
        found.append([_of_members(values, weights, place, aim) for aim in of_row])
    return found


def _of_members(
    values: Mapping[str, Floats], weights: Mapping[str, float], place: int, aim: Aim
) -> list[Share]:
    shares = [
        Share(
            name,
            weight,
            float(values[name][:, place, aim.output].mean()),
            weight * float(aim.margins(values[name][:, place]).mean()),
        )
        for name, weight in weights.items()
    ]
    return sorted(shares, key=lambda share: -abs(share.margin))
