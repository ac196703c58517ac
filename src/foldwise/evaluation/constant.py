"""Whether a model says the same of every row: target and prediction in, how often out.

A model that was trained too shortly predicts the commonest class, no label or the mean number
whatever the text, and its accuracy can look like a result.
"""

from __future__ import annotations

import numpy as np

_NEARLY_ALL = 0.98  # of the rows have the same prediction
_RATHER = 0.01  # the target has its commonest value in fewer rows by this at least
_SPREAD = 0.05  # standard deviation of predicted numbers, in the target's


def constant_share(target: np.ndarray, prediction: np.ndarray) -> float | None:
    """Return the share of rows with one and the same prediction; None where predictions differ.

    Numbers are the same where they hardly spread, since no two are equal to the last digit.

    Args:
        target: (n,) ids or numbers, or (n, labels) indicators.
        prediction: of the same shape.
    """
    if prediction.dtype.kind == "f" and prediction.ndim == 1:
        told = float(np.std(target)) > 0 and np.std(prediction) < _SPREAD * np.std(target)
        return 1.0 if told else None
    share = _commonest(prediction)
    return share if share >= _NEARLY_ALL and _commonest(target) <= share - _RATHER else None


def _commonest(values: np.ndarray) -> float:
    _, counts = np.unique(values, axis=0, return_counts=True)
    return float(counts.max() / len(values))
