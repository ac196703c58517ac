"""Metrics of numbers and of ranks: regression and ordered labels.

In: target and prediction of *all* scored rows, float64 numbers or int64 ranks. Out: floats that
agree with scikit-learn's and scipy's. Correlations, r2 and kappa are nan where target or prediction
(r2: target) is constant: there is nothing to explain.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foldwise.metrics.metric import (
    BUILTIN_METRICS,
    Compute,
    Floats,
    Ids,
    Metric,
    builtin_metric,
    confusion,
    not_for,
)

Values = NDArray[Any]


def number_metric(name: str) -> Metric:
    """Look up a metric of regression by its name in the config.

    Raises:
        FoldwiseError: no built-in metric of numbers has that name.
    """
    return _metric(name, _OF_NUMBERS, "regression")


def ordinal_metric(name: str) -> Metric:
    """Look up a metric of ordered labels: of their ranks, or any of unordered labels.

    Raises:
        FoldwiseError: no built-in metric of labels has that name.
    """
    if name in BUILTIN_METRICS:
        return builtin_metric(name)
    return _metric(name, _OF_RANKS, "ordinal")


def _metric(name: str, computes: dict[str, Compute], task: str) -> Metric:
    if name not in computes:
        raise not_for(name, task)
    return Metric(name, computes[name], name not in ("rmse", "mae"), "prediction")


def _rmse(target: Values, prediction: Values, _: Floats) -> float:
    return math.sqrt(((target - prediction) ** 2).mean())


def _mae(target: Values, prediction: Values, _: Floats) -> float:
    return float(np.abs(target - prediction).mean())


def _r2(target: Values, prediction: Values, _: Floats) -> float:
    total = ((target - target.mean()) ** 2).sum()
    return float(1 - ((target - prediction) ** 2).sum() / total) if total > 0 else math.nan


def _pearson(target: Values, prediction: Values, _: Floats) -> float:
    x, y = target - target.mean(), prediction - prediction.mean()
    # The largest deviation is divided out first: squares of small numbers would underflow to 0.
    widths = np.abs(x).max(), np.abs(y).max()
    if not min(widths) > 0 or np.ptp(target) == 0 or np.ptp(prediction) == 0:
        return math.nan
    x, y = x / widths[0], y / widths[1]
    return float(np.clip(x @ y / math.sqrt((x @ x) * (y @ y)), -1, 1))


def _spearman(target: Values, prediction: Values, probabilities: Floats) -> float:
    from scipy.stats import rankdata  # imported only now: it takes most of a second

    return _pearson(rankdata(target), rankdata(prediction), probabilities)


def _quadratic_kappa(target: Ids, prediction: Ids, probabilities: Floats) -> float:
    """Compute Cohen's kappa with squared distances between ranks as weights (Cohen 1968)."""
    n = probabilities.shape[1]
    counts = confusion(target, prediction, n).astype(np.float64)
    ranks = np.arange(n)
    distances = (ranks[:, None] - ranks) ** 2
    by_chance = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / counts.sum()
    expected = (distances * by_chance).sum()
    return float(1 - (distances * counts).sum() / expected) if expected > 0 else math.nan


_OF_NUMBERS: dict[str, Compute] = {
    "rmse": _rmse,
    "mae": _mae,
    "r2": _r2,
    "spearman": _spearman,
    "pearson": _pearson,
}
_OF_RANKS: dict[str, Compute] = {
    "mae": _mae,
    "quadratic_kappa": _quadratic_kappa,
    "spearman": _spearman,
}
