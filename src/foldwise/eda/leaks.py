"""How well each column alone predicts the target: rows in, cross-validated scores out.

Every column is tried, those that the config doesn't use too: a copy of the target that nobody
listed today is listed tomorrow. Three folds, near-duplicates together, so that a column with a
value a row earns nothing by repeating a template's. Values are looked up (evaluation/lookup.py:
also the run's baseline); numbers and dates are also cut by a small tree, which sees their order.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl

from foldwise.eda.answers import Answers
from foldwise.eda.rows import Rows
from foldwise.errors import FoldwiseError
from foldwise.evaluation.lookup import Floats, Ids, frequencies, lookup, lookup_means
from foldwise.split.splitters import time_ranks

FOLDS = 3
MOST_ROWS = 50_000  # more don't change the picture; the page says how many were scored
NEARLY_ALL = 0.9  # distinct values by rows, from which looking up is pointless
GIVES_AWAY = 2 / 3
LEAVES = 64
LEAF_ROWS = 5

Verdict = Literal["gives the target away", "copies the target", ""]


@dataclass(frozen=True)
class Power:
    """What one column alone predicts.

    Attributes:
        column: its name.
        role: what the config does with it.
        method: lookup, tree, or why it wasn't tried.
        scores: score -> value out of fold; empty if it wasn't tried.
        gain: the largest part of the way from the baseline's score to 1 that a score covers.
        verdict: from a gain of GIVES_AWAY on it gives the target away; from 0.99 on it's a copy.
    """

    column: str
    role: str
    method: str
    scores: dict[str, float]
    gain: float
    verdict: Verdict


@dataclass(frozen=True)
class Leaks:
    """The columns, the strongest first, and what they are measured against.

    Attributes:
        powers: one a column.
        baseline: the scores of the most frequent class (or the mean of a number).
        rows: rows that were scored.
    """

    powers: tuple[Power, ...]
    baseline: dict[str, float]
    rows: int


def find_leaks(rows: Rows, answers: Answers, group: np.ndarray) -> Leaks:
    """Score every column but the target.

    Args:
        rows: the table.
        answers: the target of the rows that a run would use.
        group: (n,) near-duplicates among them.
    """
    rng = np.random.default_rng(rows.config.folds.seed)
    chosen = np.arange(len(answers))
    if len(answers) > MOST_ROWS:
        chosen = np.sort(rng.permutation(len(answers))[:MOST_ROWS])
    answers, frame = answers.of(chosen), rows.used[chosen]
    number = np.unique(group[chosen], return_inverse=True)[1]
    fold = rng.permutation(int(number.max()) + 1)[number] % FOLDS
    if len(np.unique(fold)) < 2:
        return Leaks((), {}, len(answers))
    baseline = _scores(answers, _constant(answers))
    powers = [
        _power(frame[name], rows.roles[name], answers, fold, baseline) for name in rows.columns
    ]
    powers.sort(key=lambda power: -power.gain)
    return Leaks(tuple(powers), baseline, len(answers))


Predict = Callable[[Answers, np.ndarray, np.ndarray], np.ndarray]


def _power(
    cells: pl.Series, role: str, answers: Answers, fold: np.ndarray, baseline: dict[str, float]
) -> Power:
    unique = cells.n_unique()
    if unique < 2:
        return Power(cells.name, role, "one value only", {}, 0.0, "")
    tried: list[tuple[float, str, dict[str, float]]] = []
    if unique <= NEARLY_ALL * len(cells):
        looked_up = _scores(answers, _out_of_fold(answers, fold, _looked_up(cells)))
        tried.append((_gain(looked_up, baseline), "lookup", looked_up))
    order = _order(cells)
    if order is not None:
        cut = _scores(answers, _out_of_fold(answers, fold, _tree(order)))
        tried.append((_gain(cut, baseline), "tree", cut))
    if not tried:
        return Power(cells.name, role, "a value a row", {}, 0.0, "")
    gain, method, scores = max(tried, key=lambda entry: entry[0])
    verdict: Verdict = ""
    if gain >= GIVES_AWAY:
        verdict = "copies the target" if min(scores.values()) >= 0.99 else "gives the target away"
    return Power(cells.name, role, method, scores, gain, verdict)


def _gain(scores: dict[str, float], baseline: dict[str, float]) -> float:
    gains = [
        (value - baseline[name]) / (1 - baseline[name])
        for name, value in scores.items()
        if baseline[name] < 1
    ]
    return max([0.0, *gains])


def _out_of_fold(answers: Answers, fold: np.ndarray, predict: Predict) -> np.ndarray:
    shape = (len(answers),) if answers.ids is not None else answers.values.shape  # type: ignore[union-attr]
    predicted = np.zeros(shape)
    for k in np.unique(fold):
        train, out = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        predicted[out] = predict(answers, train, out)
    return predicted


def _constant(answers: Answers) -> np.ndarray:
    if answers.ids is not None:
        return np.full(len(answers), frequencies(answers.ids, len(answers.names)).argmax())
    assert answers.values is not None
    return _decided(answers, np.tile(answers.values.mean(axis=0), (len(answers), 1)))


def _looked_up(cells: pl.Series) -> Predict:
    codes = cells.rank("dense").fill_null(0).cast(pl.Int64)

    def predict(answers: Answers, train: np.ndarray, out: np.ndarray) -> np.ndarray:
        if answers.ids is not None:
            shares = lookup(codes[train], answers.ids[train], codes[out], len(answers.names))
            picked: Ids = shares.argmax(axis=1)
            return picked
        assert answers.values is not None
        return _decided(answers, lookup_means(codes[train], answers.values[train], codes[out]))

    return predict


def _tree(order: Floats) -> Predict:
    def predict(answers: Answers, train: np.ndarray, out: np.ndarray) -> np.ndarray:
        from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

        limits: dict[str, Any] = {
            "max_leaf_nodes": LEAVES,
            "min_samples_leaf": LEAF_ROWS,
            "random_state": 0,
        }
        x = order[:, None]
        if answers.ids is not None:
            model = DecisionTreeClassifier(**limits).fit(x[train], answers.ids[train])
            classes: Ids = model.predict(x[out])
            return classes
        assert answers.values is not None
        model = DecisionTreeRegressor(**limits).fit(x[train], answers.values[train])
        return _decided(answers, model.predict(x[out]).reshape(len(out), -1))

    return predict


def _decided(answers: Answers, means: Floats) -> Floats:
    return means if answers.is_number else (means >= 0.5).astype(np.float64)


def _order(cells: pl.Series) -> Floats | None:
    """Return numbers, or the ranks of dates, nan where empty; None where values have no order."""
    known = cells.is_not_null().to_numpy()
    order = np.full(len(cells), np.nan)
    filled = cells.drop_nulls()
    numbers = filled if filled.dtype.is_float() else filled.str.strip_chars()
    numbers = numbers.cast(pl.Float64, strict=False)
    if numbers.null_count() == 0 and numbers.is_finite().all():
        order[known] = numbers.to_numpy()
        return order
    if not filled.head(100).str.contains(r"^\d{4}-\d\d").all():
        return None
    try:
        order[known] = time_ranks(filled, cells.name)
    except FoldwiseError:
        return None
    return order


def _scores(answers: Answers, predicted: np.ndarray) -> dict[str, float]:
    if answers.ids is not None:
        hits = predicted == answers.ids
        f1 = f1_macro(answers.ids, predicted.astype(np.int64), len(answers.names))
        return {"accuracy": float(hits.mean()), "f1_macro": f1}
    values = answers.values
    assert values is not None
    if answers.is_number:
        spread = float(((values - values.mean()) ** 2).sum())
        error = float(((values - predicted) ** 2).sum())
        return {"r2": 1 - error / spread if spread else 0.0}
    both = (values * predicted).sum(axis=0)
    total = values.sum(axis=0) + predicted.sum(axis=0)
    f1 = float(np.divide(2 * both, total, out=np.zeros_like(both), where=total > 0).mean())
    return {"subset_accuracy": float((values == predicted).all(axis=1).mean()), "f1_macro": f1}


def f1_macro(target: Ids, prediction: Ids, n_classes: int) -> float:
    """Return the mean F1 of the classes that occur in either (rows,), as scikit-learn has it."""
    hits = np.bincount(target[target == prediction], minlength=n_classes)
    total = np.bincount(target, minlength=n_classes) + np.bincount(prediction, minlength=n_classes)
    seen = total > 0
    return float((2 * hits[seen] / total[seen]).mean()) if seen.any() else math.nan
