"""How often conformal sets and intervals hold the truth, out of fold and on the holdout.

Out of fold a part of the rows is judged by the other parts, which no near-duplicate of theirs is
among. Parts go through all folds, since one fold can be surer of itself than another. The holdout's
rows are judged by all, fold by fold, as new rows are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from foldwise.decisions.conformal import Known, label_sets, number_intervals
from foldwise.ensemble.choose import parts_of
from foldwise.tasks.predictions import values_of

LEVEL = 0.9

Floats = NDArray[np.float64]


def known_rows(table: pl.DataFrame, task: Any, group: NDArray[np.int64]) -> Known:
    """Return the rows that sets and intervals of new rows follow from.

    Args:
        table: out-of-fold predictions.
        task: of one label a row, or of numbers.
        group: of near-duplicates, of each row of the table.
    """
    target = np.ravel(task.to_arrays(table)[0])
    return Known(values_of(table), target, table["fold"].to_numpy().astype(np.int64), group)


def sets_json(
    known: Known,
    held: Mapping[int, pl.DataFrame],
    task: Any,
    *,
    seed: int,
    level: float = LEVEL,
) -> dict[str, Any]:
    """Say what sets, or intervals of numbers, hold.

    Args:
        known: the out-of-fold rows.
        held: by fold, its answers to the holdout's rows; empty where there is none.
        task: names the classes.
        seed: deals groups to parts.
        level: share of rows whose truth shall be in their set.

    Returns:
        {level, oof, holdout}; each of the two {rows, coverage, size, empty, classes: [{label,
        rows, coverage, size}]} with `by_class`, the same of sets by class; of numbers {rows,
        coverage, size}, where size is the median width.
    """
    found = {"level": level, "oof": _out_of_fold(known, task, level, seed), "holdout": None}
    if held:
        first = next(iter(held.values()))
        target = np.ravel(task.to_arrays(first)[0])
        new = {number: values_of(table) for number, table in held.items()}
        found["holdout"] = _judged(task, target, [(known, new, np.arange(len(target)))], level)
    return found


def _out_of_fold(known: Known, task: Any, level: float, seed: int) -> dict[str, Any]:
    parts = parts_of(known.group, seed)
    asked = []
    for number in np.unique(parts):
        own = parts == number
        others = known.part(~own)
        # Whichever fold answered them: what other folds say of these rows isn't known.
        alike = Known(others.values, others.target, np.zeros_like(others.fold), others.group)
        asked.append((alike, {0: known.values[own]}, np.flatnonzero(own)))
    return _judged(task, known.target, asked, level)


def _judged(
    task: Any,
    target: NDArray[Any],
    asked: Sequence[tuple[Known, Mapping[int, Floats], NDArray[np.intp]]],
    level: float,
) -> dict[str, Any]:
    if getattr(task, "holds", "label") == "number":
        low, high = np.empty(len(target)), np.empty(len(target))
        for known, new, rows in asked:
            numbers = {number: values[:, 0] for number, values in new.items()}
            low[rows], high[rows] = number_intervals(known, numbers, level)
        inside = (low <= target) & (target <= high)
        size = float(np.median(high - low))
        return {"rows": len(target), "coverage": float(inside.mean()), "size": size}
    found = {}
    for by_class in (False, True):
        sets = np.zeros((len(target), len(task.classes)), dtype=bool)
        for known, new, rows in asked:
            sets[rows] = label_sets(known, new, level, by_class=by_class)
        found[by_class] = _of_sets(sets, target, task.classes)
    return {**found[False], "by_class": found[True]}


def _of_sets(sets: NDArray[np.bool_], target: NDArray[Any], classes: list[str]) -> dict[str, Any]:
    # A label that no class has is in no set.
    known = target < len(classes)
    hit = known & sets[np.arange(len(target)), np.where(known, target, 0)]
    size = sets.sum(axis=1)
    rows = [np.flatnonzero(target == i) for i in range(len(classes))]
    return {
        "rows": len(target),
        "coverage": float(hit.mean()),
        "size": float(size.mean()),
        "empty": float((size == 0).mean()),
        "classes": [
            {
                "label": str(label),
                "rows": len(own),
                "coverage": float(hit[own].mean()),
                "size": float(size[own].mean()),
            }
            for label, own in zip(classes, rows, strict=True)
            if len(own)
        ],
    }
