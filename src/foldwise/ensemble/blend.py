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
from scipy.special import expit, softmax
from threadpoolctl import threadpool_limits

from foldwise.members.member import Floats, Holds, magnitude

SMALLEST = 1e-6  # of a probability: a member that was sure and wrong must not veto a class
_PULL = 1e-3  # towards equal weights, so that members that say the same share their weight
_HOPELESS = 1e6  # times the best member's squared error
_NOTHING = 1e-3  # a weight below it moves no prediction: the member can stay out


def blend(weights: Floats, predictions: Sequence[Floats], holds: Holds) -> Floats:
    """Return the blend of several members' predictions.

    Args:
        weights: (members,), none negative.
        predictions: of each member, float64 (n, n_outputs): probabilities, or numbers.
        holds: label, labels or number.

    Returns:
        Float64 (n, n_outputs).
    """
    scores = np.tensordot(weights, [scores_of(made, holds) for made in predictions], axes=1)
    if holds == "number":
        return scores
    blended: Floats = softmax(scores, axis=1) if holds == "label" else expit(scores)
    return blended


def fit_weights(predictions: Sequence[Floats], target: NDArray[Any], holds: Holds) -> Floats:
    """Fit a blend's weights on rows that no member was trained on.

    Classes and labels by the log loss, numbers by the squared error; both are convex in the
    weights, so there is one optimum.

    Args:
        predictions: of each member, float64 (n, n_outputs).
        target: class ids, int64 (n,); 0 and 1, float64 (n, labels); or numbers, float64 (n, 1).
        holds: label, labels or number.

    Returns:
        Float64 (members,).
    """
    return fit_margins(margins(predictions, target, holds), target, holds)


def margins(predictions: Sequence[Floats], target: NDArray[Any], holds: Holds) -> NDArray[Any]:
    """Return by how much each member is wrong about each row: what weights are fitted on.

    Computed once for all fits on parts of the rows. A class's score less the true one's, a label's
    score with the sign of the mistake, a number's distance; since weights of numbers sum to one, an
    offset is no one's merit. Float32 of probabilities: two thirds of a fit's time are memory.

    Returns:
        (members, n, n_outputs).
    """
    scores = [scores_of(made, holds) for made in predictions]
    if holds == "number":
        return np.stack([made - target for made in scores])
    if holds == "label":
        at = np.arange(len(target))
        wrong = [made - made[at, target][:, None] for made in scores]
    else:
        wrong = [made * (1 - 2 * target) for made in scores]
    return np.stack(wrong, dtype=np.float32, casting="same_kind")


def fit_margins(
    wrong: NDArray[Any],
    target: NDArray[Any],
    holds: Holds,
    *,
    start: Floats | None = None,
) -> Floats:
    """Fit weights as `fit_weights` does, on `margins` and the target of their rows.

    Args:
        wrong: (members, n, n_outputs).
        target: of the same rows.
        holds: label, labels or number.
        start: weights to begin from, of rows that are nearly the same; the optimum is one.
    """
    if holds == "number":
        return _least_squares(wrong[:, :, 0])
    members, n, outputs = wrong.shape
    flat = wrong.reshape(members, -1)
    loss = _class_loss if holds == "label" else _label_loss

    def objective(weights: Floats) -> tuple[float, Floats]:
        summed = (weights.astype(np.float32) @ flat).reshape(n, outputs)
        value, slopes = loss(summed)
        away = weights - 1 / members
        gradient = (flat @ slopes.ravel()).astype(np.float64)
        return value + _PULL * float(away @ away), gradient + 2 * _PULL * away

    with threadpool_limits(limits=1):  # sums in another order would be other weights
        found = minimize(
            objective,
            np.full(members, 1 / members) if start is None else start,
            jac=True,
            bounds=[(0, None)] * members,
            method="L-BFGS-B",
            options={"ftol": 1e-8, "gtol": 1e-6},
        )
    weights: Floats = np.where(found.x < _NOTHING, 0.0, found.x)
    return weights


def scores_of(made: Floats, holds: Holds) -> Floats:
    """Return what a blend adds up, by weight: log probabilities, log odds, or numbers."""
    if holds == "number":
        return made
    if holds == "label":
        return np.log(np.maximum(made, SMALLEST))
    inside = np.clip(made, SMALLEST, 1 - SMALLEST)
    scores: Floats = np.log(inside) - np.log1p(-inside)
    return scores


def _class_loss(summed: NDArray[Any]) -> tuple[float, NDArray[Any]]:
    # The true class's score is zero, so the log loss is the logarithm of the sum.
    largest = summed.max(axis=1, keepdims=True)
    powers = np.exp(summed - largest)
    sums = powers.sum(axis=1, keepdims=True)
    losses = (np.log(sums) + largest)[:, 0]
    powers /= sums * len(sums)
    return float(losses.mean(dtype=np.float64)), powers


def _label_loss(summed: NDArray[Any]) -> tuple[float, NDArray[Any]]:
    losses = np.logaddexp(0, summed)
    return float(losses.mean(dtype=np.float64)), expit(summed) / losses.size


def _least_squares(wrong: Floats) -> Floats:
    # In units of the best member's error. The weights sum to one, so that an offset stays.
    wrong = wrong / magnitude(wrong.ravel()[:, None])[0]
    products = wrong @ wrong.T / wrong.shape[1]
    errors = products.diagonal()
    # A member a thousand times as far off can only do harm, and the search stops short beside it.
    near = errors <= _HOPELESS * errors.min()
    members = int(near.sum())
    products = products[np.ix_(near, near)] / (float(errors.min()) or 1.0)

    def objective(weights: Floats) -> tuple[float, Floats]:
        away = weights - 1 / members
        value = float(weights @ products @ weights) + _PULL * float(away @ away)
        return value, 2 * products @ weights + 2 * _PULL * away

    found = minimize(
        objective,
        np.full(members, 1 / members),
        jac=True,
        bounds=[(0, 1)] * members,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
        method="SLSQP",
    )
    weights: Floats = np.zeros(len(wrong))
    weights[near] = np.where(found.x < _NOTHING, 0.0, found.x)
    weights /= weights.sum()
    return weights
