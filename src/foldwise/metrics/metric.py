"""Metrics: every row of a fold and its predictions in, one float a metric out.

In: target class ids, predicted class ids and class probabilities of *all* scored rows; a mean of
per-batch values is another number wherever the metric isn't linear (F1, precision, AUROC), so no
room may call these on batches. Out: floats that agree with scikit-learn's on the same arrays.

Macro averages go over the classes that have rows among those scored, as scikit-learn's do with
`labels=np.unique(target)`. Scikit-learn's default adds the classes that are only predicted, each
as a 0: one stray prediction of a class that is never scored (`rare_classes: train_only`, inner rows
that lack a class, a resample that draws none of its rows) would cost as much as a whole class. It
costs the recall of its row's class, and no precision: that of a class without rows isn't defined.

Ids from `n_classes` up are labels of a holdout that no model knows. To the label-based metrics
each is a class of its own that is never predicted, as scikit-learn has it with string labels: its
rows are wrong, and it lowers macro averages. `log_loss` and `auroc_*` leave these rows out.

All start from counts or ranks, in float64: torchmetrics takes two seconds to import, and its
float32 is good to seven digits, of an MCC on 100,000 unbalanced rows to four.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from foldwise.config.grammar import BUILTIN, METRICS
from foldwise.errors import FoldwiseError

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]
Compute = Callable[[Ids, Ids, Floats], float]


@dataclass(frozen=True)
class Metric:
    """One score of a whole fold.

    `compute` takes target (rows,), prediction (rows,) and probabilities (rows, n_classes). A
    metric that `needs` only the prediction may use of the probabilities nothing but their shape.
    """

    name: str
    compute: Compute
    greater_is_better: bool
    needs: Literal["prediction", "probabilities"]


def builtin_metric(name: str) -> Metric:
    """Look up a metric by the name it has in the config.

    Raises:
        FoldwiseError: no built-in metric has that name.
    """
    if name not in _COMPUTE:
        raise FoldwiseError(
            f"unknown metric {name!r}: choose from {', '.join(BUILTIN_METRICS)}, "
            "or write your own as `my_parts.metric`"
        )
    needs_probabilities = name.startswith(("auroc_", "log_loss"))
    return Metric(
        name=name,
        compute=_COMPUTE[name],
        greater_is_better=name != "log_loss",
        needs="probabilities" if needs_probabilities else "prediction",
    )


def not_for(name: str, task: str) -> FoldwiseError:
    """Say that a built-in metric isn't one of a task's, and which are."""
    return FoldwiseError(
        f"metric {name} isn't for a {task} target: choose metrics and selection.metric from "
        f"{', '.join(METRICS[task])}, or write your own as `my_parts.metric`"
    )


def score(
    metrics: Sequence[Metric], target: Ids, prediction: Ids, probabilities: Floats
) -> dict[str, float]:
    """Compute every metric over all rows of a fold.

    Args:
        metrics: what to compute, in the order of the result.
        target: (rows,) class ids; `n_classes` and up are labels unknown to the model.
        prediction: (rows,) class ids.
        probabilities: (rows, n_classes).

    Returns:
        {name: value}; nan only for a built-in metric that isn't defined on these rows.

    Raises:
        FoldwiseError: a user's metric returns something else than a finite float.
    """
    values = {}
    for metric in metrics:
        value = evaluate(metric, target, prediction, probabilities)
        if not math.isfinite(value) and metric.name not in BUILTIN["metric"]:
            raise FoldwiseError(
                f"metric {metric.name} returned {value} on {len(target)} rows: "
                "let it return a finite float, or take it off `metrics`"
            )
        values[metric.name] = value
    return values


def evaluate(metric: Metric, target: Ids, prediction: Ids, probabilities: Floats) -> float:
    """Compute one metric; nan and infinities pass, for resamples on which it isn't defined.

    Raises:
        FoldwiseError: the metric returns something else than one number.
    """
    value: object = metric.compute(target, prediction, probabilities)
    if isinstance(value, bool) or not isinstance(value, Real):
        raise FoldwiseError(
            f"metric {metric.name} returned {type(value).__name__}: "
            "let it return one float for all rows, e.g. `float(value)`"
        )
    return float(value)


def per_class(target: Ids, prediction: Ids, class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Score each class by itself.

    Args:
        target: (rows,) class ids; unknown labels count against the class predicted for them.
        prediction: (rows,) class ids.
        class_names: names by id; those of unknown labels may follow.

    Returns:
        A dict a class name with label, precision, recall, f1 (0 where 0/0) and support (rows). The
        scores of a class without rows are nan; the means of the others are the macro averages.
    """
    n = max(len(class_names), _highest(target) + 1)
    counts = _counts(target, prediction, n)
    columns = {name: score(*counts) for name, score in SCORES.items()}
    support = counts[2]
    return [
        {"label": label}
        | {name: float(values[i]) if support[i] else math.nan for name, values in columns.items()}
        | {"support": int(support[i])}
        for i, label in enumerate(class_names)
    ]


def confusion(target: Ids, prediction: Ids, n: int) -> Ids:
    """Count rows by target (axis 0) and prediction (axis 1): (n, n).

    Rows whose target is n or higher are left out; a larger n shows unknown labels too.
    """
    known = target < n
    pairs = np.bincount(target[known] * n + prediction[known], minlength=n * n)
    return pairs.reshape(n, n).astype(np.int64, copy=False)


def _counts(target: Ids, prediction: Ids, n: int) -> tuple[Ids, Ids, Ids]:
    # Of each class its hits, rows predicted as it, and rows that are it: (n,) each. Not by way of
    # the confusion matrix, which of 1,000 classes has a million cells.
    hits = np.bincount(target[target == prediction], minlength=n)
    return hits, np.bincount(prediction, minlength=n), np.bincount(target, minlength=n)


def _share(part: Any, whole: Any) -> Any:
    """Divide counts, where 0/0 is 0."""
    return np.asarray(part) / np.maximum(whole, 1)


# Of hits, predicted and there: counts of a class, or arrays of them.
SCORES: dict[str, Callable[[Any, Any, Any], Any]] = {
    "precision": lambda hits, predicted, there: _share(hits, predicted),
    "recall": lambda hits, predicted, there: _share(hits, there),
    "f1": lambda hits, predicted, there: _share(2 * hits, predicted + there),
}


def _averaged(name: str, average: str) -> Compute:
    score = SCORES[name]

    def compute(target: Ids, prediction: Ids, probabilities: Floats) -> float:
        counts = _counts(target, prediction, _n_labels(target, probabilities))
        values, support = score(*counts), counts[2]
        if average == "macro":
            return float(values[support > 0].mean())
        return float(values @ support / support.sum())

    return compute


def _accuracy(target: Ids, prediction: Ids, probabilities: Floats) -> float:
    # With one class a row, F1, precision and recall over all decisions alike (micro) come to this.
    return float((target == prediction).mean())


def _balanced_accuracy(target: Ids, prediction: Ids, probabilities: Floats) -> float:
    counts = confusion(target, prediction, _n_labels(target, probabilities))
    support = counts.sum(axis=1)
    present = support > 0
    return float((counts.diagonal()[present] / support[present]).mean())


def _mcc(target: Ids, prediction: Ids, probabilities: Floats) -> float:
    """Compute R_K of Gorodkin (2004), eq. 8; 0 where target or prediction is constant."""
    counts = confusion(target, prediction, _n_labels(target, probabilities)).astype(np.float64)
    by_target, by_prediction, rows = counts.sum(axis=1), counts.sum(axis=0), counts.sum()
    covariance = counts.trace() * rows - by_target @ by_prediction
    variances = (rows**2 - by_target @ by_target) * (rows**2 - by_prediction @ by_prediction)
    return float(covariance / math.sqrt(variances)) if variances > 0 else 0.0


def _log_loss(target: Ids, prediction: Ids, probabilities: Floats) -> float:
    known = np.flatnonzero(target < probabilities.shape[1])
    if not known.size:
        return math.nan
    # A probability of exactly 0 would cost infinity; scikit-learn clips at the same value.
    smallest = float(np.finfo(np.float64).eps)
    of_target = probabilities[known, target[known]].clip(smallest, 1 - smallest)
    return float(-np.log(of_target).mean())


def _auroc(average: Literal["macro", "weighted"]) -> Compute:
    """Build one-vs-rest AUROC, averaged over the classes with positives and negatives.

    `weighted` weighs by positives. nan if no class has both.
    """

    def compute(target: Ids, prediction: Ids, probabilities: Floats) -> float:
        n_classes = probabilities.shape[1]
        known = target < n_classes
        target, probabilities = target[known], probabilities[known]
        positives = np.bincount(target, minlength=n_classes)
        defined = np.flatnonzero((positives > 0) & (positives < len(target)))
        if not defined.size:
            return math.nan
        areas = [pairs_in_order(probabilities[:, i], target == i) for i in defined]
        weights = positives[defined] if average == "weighted" else None
        return float(np.average(areas, weights=weights))

    return compute


def pairs_in_order(scores: Floats, positive: NDArray[np.bool_]) -> float:
    """Compute a class's AUROC as the share of (positive, negative) pairs ranked right, ties half.

    Hanley & McNeil (1982). Sorting the negatives alone is 20 times as fast as a whole ROC curve.
    """
    positive_scores, negative_scores = np.sort(scores[positive]), np.sort(scores[~positive])
    below = np.searchsorted(negative_scores, positive_scores, side="left")
    not_above = np.searchsorted(negative_scores, positive_scores, side="right")
    return float((below + not_above).sum() / (2 * len(positive_scores) * len(negative_scores)))


def _n_labels(target: Ids, probabilities: Floats) -> int:
    return max(int(probabilities.shape[1]), _highest(target) + 1)


def _highest(ids: Ids) -> int:
    return int(ids.max(initial=-1))


_COMPUTE: dict[str, Compute] = {
    f"{name}_{average}": _accuracy if average == "micro" else _averaged(name, average)
    for name in ("f1", "precision", "recall")
    for average in ("macro", "micro", "weighted")
} | {
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
    "log_loss": _log_loss,
    "auroc_macro": _auroc("macro"),
    "auroc_weighted": _auroc("weighted"),
    "mcc": _mcc,
}

BUILTIN_METRICS = tuple(_COMPUTE)
