"""Linear models on a matrix of features: logistic for classes and labels, ridge for numbers.

How strong the penalty must be hangs on the table: of ten thousand reviews, whose words say the same
again and again, thirty times what suits complaints. So it is chosen by three folds of the training
rows.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgWarning
from scipy.special import expit, softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import KFold
from threadpoolctl import threadpool_limits

from foldwise.members.member import Floats, Holds, array_of, magnitude, outputs_of_state, shares

_PENALTIES = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
_STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
_CHOOSING = 5_000  # rows at most that choose one: the penalty is a prior, which has no size
_TOO_FEW = 6  # rows, of which three folds say nothing


class LinearModel:
    """Weights on features, for each of the three kinds of target.

    Args:
        holds: label, labels or number.
        n_outputs: classes, labels, or 1.
        seed: of the three folds inside the training rows that choose the penalty.
        strength: inverse of the penalty of logistic regression; None: chosen.
        balanced: let each class, and a label's two sides, weigh the same, however rare.
    """

    def __init__(
        self,
        holds: Holds,
        n_outputs: int,
        *,
        seed: int,
        strength: float | None = None,
        balanced: bool = True,
    ) -> None:
        self.holds, self.n_outputs, self.seed = holds, n_outputs, seed
        self.strength, self.balanced = strength, balanced
        self.outputs = np.empty(0, dtype=np.int64)  # those that have weights
        self.weights = np.empty((0, 0), dtype=np.float32)
        self.bias: Floats = np.empty(0)
        self.sizes: Floats = np.ones(n_outputs)  # of numbers, what their weights are in
        self.base: Floats = np.zeros(n_outputs)  # what the others predict

    def fit(self, features: Any, target: NDArray[Any]) -> None:
        """Fit on features (n, width) and a target as members get it.

        One thread: sums in another order on another machine would be other scores.
        """
        self.base = shares(target, self.n_outputs)
        with threadpool_limits(limits=1):
            if not features.shape[1]:
                self._keep([], np.zeros((0, 0)), np.empty(0))
            elif self.holds == "label":
                self._fit_classes(features, target)
            else:
                self._fit_columns(features, target)

    def predict(self, features: Any) -> Floats:
        """Return probabilities or numbers, float64 (n, n_outputs)."""
        made: Floats = np.tile(self.base, (features.shape[0], 1))
        if not len(self.outputs):
            return made
        with threadpool_limits(limits=1):
            scores = np.asarray(features @ self.weights.T.astype(np.float64)) + self.bias
            scores *= self.sizes[self.outputs] if self.holds == "number" else 1.0
        if self.holds == "label":
            made[:] = 0.0
            binary = len(self.outputs) == 2
            made[:, self.outputs] = softmax(
                np.hstack([np.zeros_like(scores), scores]) if binary else scores, axis=1
            )
        else:
            # Around the mean, so that a number's offset costs no digits.
            made[:, self.outputs] = (
                expit(scores) if self.holds == "labels" else scores + self.base[self.outputs]
            )
        return made

    def state(self) -> dict[str, Any]:
        """Return the weights, float32 (outputs, width), and what stands beside them."""
        return {
            "outputs": self.outputs,
            "weights": self.weights,
            "bias": self.bias,
            "base": self.base,
            "sizes": self.sizes,
        }

    def load_state(self, state: dict[str, Any], width: int) -> None:
        """Take back the weights, of so many features.

        Raises:
            KeyError, ValueError: these are others.
        """
        outputs = outputs_of_state(state, self.n_outputs)
        given = len(outputs)
        rows = 1 if self.holds == "label" and given == 2 else given
        self.outputs = outputs
        self.weights = array_of(state, "weights", (rows, width if given else 0))
        self.bias = array_of(state, "bias", (rows,))
        self.base = array_of(state, "base", (self.n_outputs,))
        self.sizes = array_of(state, "sizes", (self.n_outputs,))

    def _fit_classes(self, features: Any, target: NDArray[Any]) -> None:
        classes = np.unique(target)
        if len(classes) == 1:
            self._keep([], np.zeros((0, 0)), np.empty(0))
            return
        strength = self._chosen(features, [target])
        model = _quiet(self._logistic(strength), features, target)
        self._keep(classes, model.coef_, model.intercept_)

    def _fit_columns(self, features: Any, target: NDArray[Any]) -> None:
        # What all rows agree on has nothing to tell apart: the mean it is.
        told = [k for k in range(target.shape[1]) if np.ptp(target[:, k]) > 0]
        if self.holds == "labels":
            targets = [target[:, k] for k in told]
            strength = self._chosen(features, targets)
            models = [_quiet(self._logistic(strength), features, each) for each in targets]
        else:
            centred = target - self.base
            self.sizes = magnitude(centred)
            centred /= self.sizes
            penalty = self._penalty(features, centred[:, told])
            models = [_quiet(Ridge(alpha=penalty), features, centred[:, k]) for k in told]
        weights = [model.coef_.ravel() for model in models]
        self._keep(
            told,
            np.array(weights).reshape(len(told), features.shape[1] if told else 0),
            np.array([float(np.ravel(model.intercept_)[0]) for model in models]),
        )

    def _penalty(self, features: Any, target: Floats) -> float:
        if len(target) < _TOO_FEW or not target.shape[1]:
            return 1.0
        folds = list(KFold(3, shuffle=True, random_state=self.seed).split(target))

        def error_of(penalty: float) -> float:
            return sum(
                float(
                    np.square(
                        _quiet(Ridge(alpha=penalty), features[fit], target[fit])
                        .predict(features[out])
                        .reshape(len(out), -1)
                        - target[out]
                    ).sum()
                )
                for fit, out in folds
            )

        return min(_PENALTIES, key=error_of)

    def _chosen(self, features: Any, targets: list[NDArray[Any]]) -> float:
        """Return the strength with the lowest log loss on rows left out.

        Not weighed by class, balanced or not: of a rare class a handful of rows would choose.
        """
        n = features.shape[0]
        if self.strength is not None:
            return self.strength
        if n < _TOO_FEW:
            return 1.0
        drawn = np.sort(np.random.default_rng(self.seed).permutation(n)[:_CHOOSING])
        parts = [
            (self._logistic(1.0).set_params(warm_start=True), drawn[fit], drawn[out], target)
            for fit, out in KFold(3, shuffle=True, random_state=self.seed).split(drawn)
            for target in targets
            if np.ptp(target[drawn[fit]]) > 0
        ]
        best, least = 1.0, np.inf
        for strength in _STRENGTHS:  # upwards, each from where the last one ended
            loss = 0.0
            for model, fit, out, target in parts:
                _quiet(model.set_params(C=strength), features[fit], target[fit])
                loss += _loss(model, features[out], target[out])
            if loss >= least:  # from here on it only rises
                break
            best, least = strength, loss
        return best

    def _logistic(self, strength: float) -> LogisticRegression:
        weight = "balanced" if self.balanced else None
        return LogisticRegression(C=strength, class_weight=weight, max_iter=1000)

    def _keep(self, outputs: Any, weights: NDArray[Any], bias: Floats) -> None:
        # Rounded once, before the first prediction: what is read back predicts the same.
        self.outputs = np.asarray(outputs, dtype=np.int64)
        self.weights = weights.astype(np.float32)
        self.bias = np.asarray(bias, dtype=np.float64)


def _loss(model: LogisticRegression, features: Any, target: NDArray[Any]) -> float:
    known = np.isin(target, model.classes_)  # what it has never seen no strength foresees
    at = np.searchsorted(model.classes_, target[known])
    share = model.predict_proba(features)[known, at]
    return float(-np.log(np.maximum(share, np.finfo(np.float64).tiny)).sum())


def _quiet(model: Any, features: Any, target: NDArray[Any]) -> Any:
    # A search that stops at its last step, or finds the matrix ill-conditioned, has weights, too;
    # and a class for every other row is still a class.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", LinAlgWarning)
        return model.fit(features, target)
