"""A classifier two-sample test: can training rows and new rows be told apart, and by what?

Where both come from one source no classifier can tell them apart on rows it wasn't fitted on, so
its AUC there is 0.5 but for chance (Lopez-Paz and Oquab 2017; Friedman 2003). With texts it is
logistic regression on words, word pairs, categories and numbers, without them boosted trees: the
members of a run.

It is fitted once, on half of each table, and scores the other half. Under one source the scored
rows are then in any order with the same chance, whatever the classifier has learnt, so the test of
Mann and Whitney holds. That of a mean over cross-validated folds doesn't: one row's part in
another's score is the other's part in its own, so every pair of rows counts twice. Its variance is
up to twice that of independent folds; by how much depends on the columns (benchmarks/drift.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu

from foldwise.drift.measures import Part
from foldwise.members.boosting import Boosting
from foldwise.members.features import Features
from foldwise.members.member import Columns
from foldwise.members.regression import LinearModel
from foldwise.metrics.metric import pairs_in_order

MOST = 5_000  # rows a table that the classifier sees
FEWEST = 20  # rows a table below which there is nothing to learn
_STRENGTH = 1.0
_SHOWN = 15
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Apart:
    """How well new rows can be told from training rows.

    Attributes:
        auc: share of pairs of a new and a training row, of those that it wasn't fitted on, that are
            told apart; 0.5 is chance.
        low: lower end of its 95% interval (DeLong et al. 1988).
        high: upper end.
        p: chance of such an AUC between samples of one source.
        rows: rows of each table that were used, half to fit and half to score: training, new.
        kind: of classifier, in words.
        by_column: how much of what tells them apart is in each column, the most first.
        by_value: words, values and numbers that do, the most telling first: shares of training and
            new rows with them; of numbers the means.
    """

    auc: float
    low: float
    high: float
    p: float
    rows: tuple[int, int]
    kind: str
    by_column: dict[str, float]
    by_value: tuple[Part, ...]


def tell_apart(
    training: pl.DataFrame, new: pl.DataFrame, columns: Columns, seed: int
) -> Apart | None:
    """Fit the classifier on half of both tables, and score the other half.

    Args:
        training: rows, each on its own.
        new: likewise.
        columns: those that the run reads.
        seed: of the draw, the halves and the trees.

    Returns:
        What came out; None where a table has fewer than FEWEST rows.
    """
    random = np.random.default_rng([seed, 3])
    sides = [_drawn(side, random) for side in (training, new)]
    if min(side.height for side in sides) < FEWEST:
        return None
    names = [*columns.text, *columns.categorical, *columns.numeric]
    rows = pl.concat([side.select(names) for side in sides])
    is_new = np.repeat([0, 1], [side.height for side in sides])
    out = np.concatenate([random.permutation(side.height) % 2 == 1 for side in sides])
    if columns.text:
        # What words and values there are is learnt from all rows: that says nothing of their table.
        features = Features(columns)
        matrix = features.fit(rows)
        told = _linear(matrix[~out], is_new[~out], seed).predict(matrix[out])[:, 1]
        model = _linear(matrix, is_new, seed)
        by_column, by_value = _by_weights(model, matrix, is_new, features.named())
    else:
        trees = _trees(rows.filter(~out), is_new[~out], columns, seed)
        told = trees.predict(rows.filter(out))[:, 1]
        by_column, by_value = _by_shuffling(trees, rows.filter(out), is_new[out], columns, seed), ()
    positive, negative = told[is_new[out] == 1], told[is_new[out] == 0]
    auc = pairs_in_order(told, is_new[out] == 1)
    reach = 1.96 * math.sqrt(_delong(positive, negative))
    return Apart(
        auc,
        max(0.0, auc - reach),
        min(1.0, auc + reach),
        float(mannwhitneyu(positive, negative, alternative="greater").pvalue),
        (sides[0].height, sides[1].height),
        "logistic regression on words and columns" if columns.text else "boosted trees",
        by_column,
        by_value,
    )


def _drawn(rows: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    if rows.height <= MOST:
        return rows
    return rows[np.sort(random.choice(rows.height, MOST, replace=False))]


def _linear(matrix: Any, is_new: NDArray[np.int64], seed: int) -> LinearModel:
    model = LinearModel("label", 2, strength=_STRENGTH, seed=seed)
    model.fit(matrix, is_new)
    return model


def _trees(rows: pl.DataFrame, is_new: NDArray[np.int64], columns: Columns, seed: int) -> Boosting:
    model = Boosting("label", 2, columns, seed)
    model.fit(rows, is_new, np.zeros(rows.height, dtype=bool))
    return model


def _delong(positive: Floats, negative: Floats) -> float:
    """Return the variance of an AUC by its placements (DeLong et al. 1988)."""
    of_positive = _placed(positive, negative)
    of_negative = 1 - _placed(negative, positive)
    parts = [np.var(x, ddof=1) / len(x) if len(x) > 1 else 0.25 for x in (of_positive, of_negative)]
    return float(sum(parts))


def _placed(values: Floats, among: Floats) -> Floats:
    ranked = np.sort(among)
    below = np.searchsorted(ranked, values, side="left")
    not_above = np.searchsorted(ranked, values, side="right")
    return (below + not_above) / (2 * len(among))


def _by_weights(
    model: LinearModel,
    matrix: Any,
    is_new: NDArray[np.int64],
    named: Sequence[tuple[str, str, str]],
) -> tuple[dict[str, float], tuple[Part, ...]]:
    """Share out the mean difference of the classifier's scores to its features.

    A linear score's difference between the tables is the sum over features of weight times
    difference of means; a column's part is the sum of its features'.
    """
    if not len(model.weights):
        return {}, ()
    sides = [matrix[is_new == side] for side in (0, 1)]
    means = [np.asarray(side.mean(axis=0)).ravel() for side in sides]
    parts = model.weights[0].astype(np.float64) * (means[1] - means[0])
    by_column: dict[str, float] = {}
    for (column, _, _), part in zip(named, parts, strict=True):
        by_column[column] = by_column.get(column, 0.0) + float(part)
    total = sum(max(0.0, part) for part in by_column.values()) or 1.0
    shares = {name: max(0.0, part) / total for name, part in by_column.items()}
    found = []
    for i in np.argsort(-parts, kind="stable")[:_SHOWN]:
        column, kind, value = named[i]
        if parts[i] <= 0:
            break
        if kind == "number":
            continue  # what moved in it is told by the column's own check
        there = [float((side[:, [i]] != 0).mean()) for side in sides]
        found.append(Part(f"{column}: {value}", *there))
    return dict(sorted(shares.items(), key=lambda item: -item[1])), tuple(found)


def _by_shuffling(
    model: Boosting,
    held: pl.DataFrame,
    is_new: NDArray[np.int64],
    columns: Columns,
    seed: int,
) -> dict[str, float]:
    """Say how much of the AUC goes where one column's cells are shuffled among the rows."""
    whole = pairs_in_order(model.predict(held)[:, 1], is_new == 1)
    lost = {}
    for name in (*columns.categorical, *columns.numeric):
        cells = held[name].sample(fraction=1.0, shuffle=True, seed=seed)
        told = model.predict(held.with_columns(cells))[:, 1]
        auc = pairs_in_order(told, is_new == 1)
        lost[name] = max(0.0, whole - auc)
    total = sum(lost.values()) or 1.0
    return {name: part / total for name, part in sorted(lost.items(), key=lambda x: -x[1])}
