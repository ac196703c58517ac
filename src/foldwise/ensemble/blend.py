"""A blend of members: their predictions of the same rows in, a weight for each and the blend out.

Classes: a logarithmic opinion pool (Genest and Zidek 1986), p proportional to the product of the
members' probabilities, each to the power of its weight. Labels: the same for each label. Numbers:
a weighted sum. Weights aren't negative and, for probabilities, needn't sum to one: together they
are the blend's temperature too, so that it comes out calibrated. A single member is the weight 1
for it and 0 for the others, so whatever a run answers with is a vector of weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_softmax, softmax

from foldwise.members.member import Floats, Holds

SMALLEST = 1e-6  # of a probability: a member that was sure and wrong must not veto a class
_PULL = 1e-3  # towards equal weights, so that members that say the same share their weight


def blend(weights: Floats, predictions: Sequence[Floats], holds: Holds) -> Floats:
    """Return the blend of several members' predictions.

    Args:
        weights: (members,), none negative.
        predictions: of each member, float64 (n, n_outputs): probabilities, or numbers.
        holds: label, labels or number.

    Returns:
        Float64 (n, n_outputs).
    """
    if holds == "number":
        return _summed(weights, np.stack(predictions))
    scores = _summed(weights, np.stack([_scores(made, holds) for made in predictions]))
    blended: Floats = softmax(scores, axis=1) if holds == "label" else expit(scores)
    return blended


def fit_weights(
    predictions: Sequence[Floats],
    target: NDArray[Any],
    holds: Holds,
    *,
    macro: bool = False,
) -> Floats:
    """Fit a blend's weights on rows that no member was trained on.

    Classes and labels by the log loss, numbers by the squared error; both are convex in the
    weights, so there is one optimum.

    Args:
        predictions: of each member, float64 (n, n_outputs).
        target: class ids, int64 (n,); 0 and 1, float64 (n, labels); or numbers, float64 (n, 1).
        holds: label, labels or number.
        macro: weigh a class's rows (or a label's positives) by the inverse square root of their
            number, for a run that is judged by a mean over classes.

    Returns:
        Float64 (members,).
    """
    members = len(predictions)
    if holds == "number":
        return _least_squares(np.stack(predictions)[:, :, 0], target[:, 0])
    scores = np.stack([_scores(made, holds) for made in predictions])
    importance = _importance(target, holds, scores.shape[2], macro=macro)
    loss = _class_loss if holds == "label" else _label_loss

    def objective(weights: Floats) -> tuple[float, Floats]:
        value, gradient = loss(weights, scores, target, importance)
        away = weights - 1 / members
        return value + _PULL * float(away @ away), gradient + 2 * _PULL * away

    found = minimize(
        objective,
        np.full(members, 1 / members),
        jac=True,
        bounds=[(0, None)] * members,
        method="L-BFGS-B",
    )
    weights: Floats = found.x
    return weights


def _scores(made: Floats, holds: Holds) -> Floats:
    if holds == "label":
        return np.log(np.maximum(made, SMALLEST))
    inside = np.clip(made, SMALLEST, 1 - SMALLEST)
    scores: Floats = np.log(inside) - np.log1p(-inside)
    return scores


def _summed(weights: Floats, scores: Floats) -> Floats:
    summed: Floats = np.tensordot(weights, scores, axes=1)
    return summed


def _importance(target: NDArray[Any], holds: Holds, n_outputs: int, *, macro: bool) -> Floats:
    # One number a row (classes) or a row and label, summing to one.
    weights = np.ones(target.shape)
    if macro and holds == "label":
        weights = 1 / np.sqrt(np.bincount(target, minlength=n_outputs)[target])
    elif macro:
        positive = target.mean(axis=0)
        odds = np.sqrt((1 - positive) / np.maximum(positive, 1 / len(target)))
        weights = np.where(target == 1, odds, 1.0)
        weights /= weights.sum(axis=0)
    shares: Floats = weights / weights.sum()
    return shares


def _class_loss(
    weights: Floats, scores: Floats, target: NDArray[Any], importance: Floats
) -> tuple[float, Floats]:
    at = np.arange(len(target))
    log = log_softmax(_summed(weights, scores), axis=1)
    expected = np.einsum("mnk,nk->mn", scores, np.exp(log))
    return float(-importance @ log[at, target]), (expected - scores[:, at, target]) @ importance


def _label_loss(
    weights: Floats, scores: Floats, target: NDArray[Any], importance: Floats
) -> tuple[float, Floats]:
    summed = _summed(weights, scores)
    losses = np.logaddexp(0, summed) - target * summed
    slopes = importance * (expit(summed) - target)
    return float((importance * losses).sum()), np.einsum("mnk,nk->m", scores, slopes)


def _least_squares(made: Floats, target: Floats) -> Floats:
    # Numbers are compared around their mean, so that an offset is no one's merit; the weights sum
    # to one, so that the offset stays.
    scale = float(target.std()) or 1.0
    made, target = (made - target.mean()) / scale, (target - target.mean()) / scale
    members = len(made)

    def objective(weights: Floats) -> tuple[float, Floats]:
        residual = weights @ made - target
        away = weights - 1 / members
        value = float(residual @ residual) / len(target) + _PULL * float(away @ away)
        return value, 2 * (made @ residual) / len(target) + 2 * _PULL * away

    found = minimize(
        objective,
        np.full(members, 1 / members),
        jac=True,
        bounds=[(0, 1)] * members,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
        method="SLSQP",
    )
    weights: Floats = np.clip(found.x, 0, None)
    weights /= weights.sum()
    return weights
