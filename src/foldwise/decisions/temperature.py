"""Temperature: probabilities in, the same with a confidence that comes true out.

One number for all rows (Guo et al. 2017): logits are divided by it. It is fitted by the log loss on
rows that no member was trained on, which is what a probability is worth, and it moves no label: the
largest of several classes stays the largest, a label stays on its side of one half, and of ordered
labels the median stays, for there the probabilities of lying above each step are what is tempered.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, softmax

Floats = NDArray[np.float64]
# What probabilities (n, k) are of: one of k classes, one of k in order, or each of k labels.
Of = Literal["class", "order", "labels"]

_TINY = 1e-12  # of a probability: its logarithm stays a number
_LOWEST, _HIGHEST = 0.05, 20.0
# Spread of log(temperature) before any row was seen, which a hundred rows outweigh. Rows that are
# all right would ask for temperature zero. Of 21 members and blends of tables of 150 rows a wider
# one made the log loss of calibrated ones worse, a narrower one held back the others.
_PRIOR = 0.3


def temper(probabilities: Floats, temperature: float, of: Of) -> Floats:
    """Return probabilities at a temperature: above one flatter, below one sharper.

    Args:
        probabilities: (n, k).
        temperature: above zero; at one nothing changes, to the last bit.
        of: what they are of.

    Returns:
        Float64 (n, k).
    """
    if temperature == 1:
        return probabilities
    if of == "class":
        tempered: Floats = softmax(_log(probabilities) / temperature, axis=1)
    elif of == "labels":
        tempered = expit(_logit(probabilities) / temperature)
    else:
        tempered = _steps(expit(_logit(_above(probabilities)) / temperature))
    return tempered


def fit_temperature(probabilities: Floats, target: NDArray[Any], of: Of) -> float:
    """Fit the temperature of rows that no member was trained on.

    Args:
        probabilities: (n, k).
        target: class ids (n,), or 0 and 1 (n, labels).
        of: what they are of.

    Returns:
        The most probable one after these rows, by the log loss and a prior around one.
    """

    def objective(log_temperature: float) -> float:
        tempered = temper(probabilities, float(np.exp(log_temperature)), of)
        prior = (log_temperature / _PRIOR) ** 2 / (2 * len(target))
        return log_loss(tempered, target, of) + prior

    bounds = float(np.log(_LOWEST)), float(np.log(_HIGHEST))
    found = minimize_scalar(objective, bounds=bounds, method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))


def log_loss(probabilities: Floats, target: NDArray[Any], of: Of) -> float:
    """Return the mean of -log p of what came true: over rows, or over rows and labels.

    Args:
        probabilities: (n, k).
        target: class ids (n,), or 0 and 1 (n, labels).
        of: what they are of.
    """
    if of == "labels":
        true = np.where(target == 1, probabilities, 1 - probabilities)
    else:
        true = probabilities[np.arange(len(target)), target]
    return float(-_log(true).mean())


def _log(probabilities: Floats) -> Floats:
    logs: Floats = np.log(np.maximum(probabilities, _TINY))
    return logs


def _logit(probabilities: Floats) -> Floats:
    return _log(probabilities) - _log(1 - probabilities)


def _above(probabilities: Floats) -> Floats:
    # (n, k) -> (n, k - 1): P(class > j), which never rises with j.
    above: Floats = probabilities[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]
    return np.clip(above, 0, 1)


def _steps(above: Floats) -> Floats:
    edges = np.ones((len(above), 1))
    steps: Floats = -np.diff(np.concatenate([edges, above, 0 * edges], axis=1), axis=1)
    return np.maximum(steps, 0)
