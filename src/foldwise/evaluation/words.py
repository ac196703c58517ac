"""What scores and models are called to a person: keys of metrics.json in, words out.

Files keep the keys, since programs read them; terminal, report and verdict all say these words.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

# Each baseline as a table's row names it, and as a sentence does.
_BASELINES = {
    "majority": ("majority", "guessing by frequency"),
    "mean": ("mean", "predicting the mean"),
    "median": ("median", "predicting the median"),
    "lookup": ("lookup", "the lookup"),
    "tfidf": ("linear model", "the linear model"),
}
_METRICS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "subset_accuracy": "subset accuracy",
    "hamming_loss": "Hamming loss",
    "log_loss": "log loss",
    "mcc": "MCC",
    "quadratic_kappa": "quadratic kappa",
    "rmse": "RMSE",
    "mae": "MAE",
    "r2": "R2",
}
_STEMS = {"f1": "F1", "precision": "precision", "recall": "recall", "auroc": "AUROC"}


def short_name(baseline: str, columns: Sequence[str] = ()) -> str:
    """Name a baseline as a row of a table: `linear model`, `lookup of product`.

    Args:
        baseline: its key in metrics.json.
        columns: which it looks up, the most frequent choice of the folds first.
    """
    return _of_column(_BASELINES.get(baseline, (baseline,))[0], columns)


def in_a_sentence(baseline: str, columns: Sequence[str] = (), inputs: str = "") -> str:
    """Name a baseline inside a sentence: `the linear model on words`, `predicting the mean`.

    Args:
        baseline: its key in metrics.json.
        columns: which it looks up, the most frequent choice of the folds first.
        inputs: what the linear model reads: words, columns, or both.
    """
    name = _of_column(_BASELINES.get(baseline, (baseline, baseline))[1], columns)
    return f"{name} on {inputs}" if baseline == "tfidf" and inputs else name


def metric_name(metric: str) -> str:
    """Name a metric inside a sentence: `macro-F1`, `RMSE`; one of one's own keeps its name."""
    stem, _, mean = metric.rpartition("_")
    if stem in _STEMS:
        return f"{mean}-{_STEMS[stem]}"
    return _METRICS.get(metric, metric)


def figure(value: float | None) -> str:
    """Write a score with three decimals, or fewer where it is large; n/a where it isn't defined."""
    if value is None or not math.isfinite(value):
        return "n/a"
    size = abs(value)
    if 0 < size < 0.0005:
        return f"{value:.1e}"
    digits = ".3f" if size < 10 else ".4g" if size < 1000 else ".0f" if size < 1e6 else ".1e"
    return f"{value:{digits}}"


def _of_column(name: str, columns: Sequence[str]) -> str:
    return f"{name} of {columns[0]}" if columns else name
