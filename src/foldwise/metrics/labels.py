"""Metrics of sets of labels.

In: 0 or 1 for each row and label, int64 (rows, m), of target and prediction, and probabilities
(rows, n_labels); columns past n_labels are labels of a holdout that no model knows, never
predicted. Out: floats that agree with scikit-learn's on the same arrays, 0 where it is 0/0. Macro
averages go over the labels that some row has, as metric.py's go over classes with rows (as
scikit-learn's do on those columns); `auroc` leaves unknown labels out, and labels that all or none
of the rows have.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from foldwise.metrics.metric import (
    SCORES,
    Compute,
    Floats,
    Ids,
    Metric,
    not_for,
    pairs_in_order,
)


def multilabel_metric(name: str) -> Metric:
    """Look up a metric by the name it has in the config.

    Raises:
        FoldwiseError: no built-in metric of label sets has that name.
    """
    if name not in _COMPUTE:
        raise not_for(name, "multilabel")
    needs_probabilities = name.startswith("auroc_")
    return Metric(
        name=name,
        compute=_COMPUTE[name],
        greater_is_better=name != "hamming_loss",
        needs="probabilities" if needs_probabilities else "prediction",
    )


def per_label(target: Ids, prediction: Ids, labels: Sequence[str]) -> list[dict[str, Any]]:
    """Score each label by itself.

    Returns:
        A dict a label with label, precision, recall, f1 (0 where 0/0) and support (rows). The
        scores of a label that no row has are nan.
    """
    values = {name: SCORES[name](*_counts(target, prediction, 0)) for name in SCORES}
    support = target.sum(axis=0)
    return [
        {"label": label}
        | {name: float(v[i]) if support[i] else math.nan for name, v in values.items()}
        | {"support": int(support[i])}
        for i, label in enumerate(labels)
    ]


def _counts(target: Ids, prediction: Ids, axis: int | None) -> tuple[Any, Any, Any]:
    # Hits, labels predicted and labels there; of each label (0), each row (1) or in all (None).
    hits = (target & prediction).sum(axis=axis)
    return hits, prediction.sum(axis=axis), target.sum(axis=axis)


def _averaged(name: str, average: str) -> Compute:
    score = SCORES[name]

    def compute(target: Ids, prediction: Ids, probabilities: Floats) -> float:
        if average == "micro":
            return float(score(*_counts(target, prediction, None)))
        values = score(*_counts(target, prediction, 1 if average == "samples" else 0))
        if average == "samples":
            return float(values.mean())
        support = target.sum(axis=0)
        if not support.any():
            return 0.0
        if average == "macro":
            return float(values[support > 0].mean())
        return float(values @ support / support.sum())

    return compute


def _subset_accuracy(target: Ids, prediction: Ids, probabilities: Floats) -> float:
    return float((target == prediction).all(axis=1).mean())


def _hamming_loss(target: Ids, prediction: Ids, probabilities: Floats) -> float:
    return float((target != prediction).mean())


def _auroc(average: str) -> Compute:
    def compute(target: Ids, prediction: Ids, probabilities: Floats) -> float:
        positives = target[:, : probabilities.shape[1]].sum(axis=0)
        defined = np.flatnonzero((positives > 0) & (positives < len(target)))
        if not defined.size:
            return math.nan
        areas = [pairs_in_order(probabilities[:, i], target[:, i] == 1) for i in defined]
        weights = positives[defined] if average == "weighted" else None
        return float(np.average(areas, weights=weights))

    return compute


_COMPUTE: dict[str, Compute] = {
    f"{name}_{average}": _averaged(name, average)
    for name in ("f1", "precision", "recall")
    for average in ("macro", "micro", "weighted", "samples")
} | {
    "subset_accuracy": _subset_accuracy,
    "hamming_loss": _hamming_loss,
    "auroc_macro": _auroc("macro"),
    "auroc_weighted": _auroc("weighted"),
}
