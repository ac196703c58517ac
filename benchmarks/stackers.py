"""Ways to answer by several members, for stacking.py: rows that teach and rows to answer in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression

from foldwise.ensemble.blend import blend, fit_weights, scores_of
from foldwise.ensemble.choose import Rows
from foldwise.members.member import Floats
from lever_scores import scorer

PARTS = 3
TREES = {
    "objective": "multiclass",
    "learning_rate": 0.03,
    "num_leaves": 4,
    "min_child_samples": 20,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "feature_fraction": 0.5,
    "lambda_l2": 5.0,
    "num_threads": 1,
    "seed": 0,
    "verbose": -1,
}
HARD = (0.3, 3.0, 30.0, 300.0, 3000.0)  # of the pull, in rows


@dataclass(frozen=True)
class Saved:
    """What a run has left of its rows.

    Attributes:
        name: of the run.
        rows: members' predictions, target, folds.
        columns: categories as codes, then numbers, float64 (n, columns); none of levers.py.
        categories: how many are categories.
    """

    name: str
    rows: Rows
    columns: Floats
    categories: int = 0

    def part(self, chosen: NDArray[Any]) -> Saved:
        """Return some of the rows."""
        return replace(self, rows=self.rows.part(chosen), columns=self.columns[chosen])


# Rows that teach, rows to answer -> probabilities.
Combine = Callable[[Saved, Saved], Floats]


def _blend(known: Saved, new: Saved) -> Floats:
    weights = fit_weights(list(known.rows.predictions.values()), known.rows.target, "label")
    return blend(weights, list(new.rows.predictions.values()), "label")


def _inputs(rows: Rows) -> Floats:
    # (members, n, classes): log probabilities around the row's mean.
    scores = np.stack([scores_of(made, "label") for made in rows.predictions.values()])
    centred: Floats = scores - scores.mean(axis=2, keepdims=True)
    return centred


def _parts(rows: Rows) -> NDArray[np.int64]:
    _, of_row = np.unique(rows.group, return_inverse=True)
    dealt: NDArray[np.int64] = np.random.default_rng(0).permutation(of_row.max() + 1)[of_row]
    return dealt % PARTS


@dataclass(frozen=True)
class _Drawn:
    """A blend, and what is added to it: `diagonal` or `full`."""

    kind: str

    def __call__(self, learnt: Saved, new: Saved) -> Floats:
        known = learnt.rows
        inputs, parts = _inputs(known), _parts(known)
        best, chosen = np.inf, np.inf
        for hard in (*HARD, np.inf):
            loss = 0.0
            for part in range(PARTS):
                out = parts == part
                fitted = self._fit(inputs[:, ~out], known.target[~out], hard)
                log = log_softmax(self._scores(fitted, inputs[:, out]), axis=1)
                each = log[np.arange(out.sum()), known.target[out]]
                loss -= float(each.sum())
            if loss < best:
                best, chosen = loss, hard
        fitted = self._fit(inputs, known.target, chosen)
        answer: Floats = softmax(self._scores(fitted, _inputs(new.rows)), axis=1)
        return answer

    def _fit(self, inputs: Floats, target: NDArray[Any], hard: float) -> Floats:
        members, n, classes = inputs.shape
        size = members + classes + members * classes ** (2 if self.kind == "full" else 1)
        at, rows = np.arange(n), np.arange(size) < members
        penalty = np.where(rows, 1e-3, hard / n if np.isfinite(hard) else 1e6)
        centre = np.where(rows, 1 / members, 0.0)
        flat = inputs.transpose(1, 0, 2).reshape(n, -1)

        def objective(values: Floats) -> tuple[float, Floats]:
            log = log_softmax(self._scores(values, inputs), axis=1)
            slopes = np.exp(log)
            slopes[at, target] -= 1
            slopes /= n
            parts = [np.tensordot(inputs, slopes, axes=2), slopes.sum(axis=0)]
            full = self.kind == "full"
            parts.append(((flat.T @ slopes) if full else (inputs * slopes).sum(axis=1)).ravel())
            away = values - centre
            value = -float(log[at, target].mean()) + float(penalty @ away**2)
            return value, np.concatenate(parts) + 2 * penalty * away

        if not np.isfinite(hard):
            every = [softmax(scores, axis=1) for scores in inputs]
            made = fit_weights(every, target, "label")
            return np.concatenate([made, np.zeros(size - members)])
        bounds = [(0, None)] * members + [(None, None)] * (size - members)
        options = {"maxiter": 300}
        found = minimize(
            objective, centre, jac=True, bounds=bounds, method="L-BFGS-B", options=options
        )
        values: Floats = found.x
        return values

    def _scores(self, values: Floats, inputs: Floats) -> Floats:
        members, n, classes = inputs.shape
        scores = np.tensordot(values[:members], inputs, axes=1)
        scores += values[members : members + classes]
        rest = values[members + classes :]
        if self.kind == "diagonal":
            scores += np.einsum("mnk,mk->nk", inputs, rest.reshape(members, classes))
        else:
            scores += inputs.transpose(1, 0, 2).reshape(n, -1) @ rest.reshape(-1, classes)
        return scores


def _flat(rows: Rows) -> Floats:
    inputs = _inputs(rows)
    flat: Floats = inputs.transpose(1, 0, 2).reshape(inputs.shape[1], -1)
    return flat


def _whole(model: Any, features: Floats, classes: int) -> Floats:
    # A class that no row taught has the smallest probability.
    made = np.full((len(features), classes), 1e-6)
    made[:, model.classes_] = np.maximum(model.predict_proba(features), 1e-6)
    return made / made.sum(axis=1, keepdims=True)


def _plain(learnt: Saved, new: Saved) -> Floats:
    known = learnt.rows
    features, parts = _flat(known), _parts(known)
    classes = next(iter(known.predictions.values())).shape[1]
    best, chosen = np.inf, 1.0
    for strength in (1e-4, 1e-3, 1e-2, 1e-1, 1.0):
        loss = 0.0
        for part in range(PARTS):
            out = parts == part
            model = LogisticRegression(C=strength, max_iter=300)
            model.fit(features[~out], known.target[~out])
            made = _whole(model, features[out], classes)
            loss -= float(np.log(made[np.arange(out.sum()), known.target[out]]).sum())
        if loss < best:
            best, chosen = loss, strength
    model = LogisticRegression(C=chosen, max_iter=300).fit(features, known.target)
    return _whole(model, _flat(new.rows), classes)


@dataclass(frozen=True)
class _Trees:
    """Boosted trees that begin at the blend, on scores and, if asked, the table's columns."""

    beside: bool = False

    def __call__(self, known: Saved, new: Saved) -> Floats:
        every, target = list(known.rows.predictions.values()), known.rows.target
        weights, stopping = fit_weights(every, target, "label"), _parts(known.rows) == 0
        start = [
            np.log(blend(weights, list(saved.rows.predictions.values()), "label"))
            for saved in (known, new)
        ]
        features = [_flat(saved.rows) for saved in (known, new)]
        width = features[0].shape[1]
        if self.beside:
            features = [
                np.hstack([f, s.columns]) for f, s in zip(features, (known, new), strict=True)
            ]
        coded = list(range(width, width + known.categories)) if self.beside else []
        parts = [
            lgb.Dataset(features[0][rows], target[rows], init_score=start[0][rows])
            for rows in (~stopping, stopping)
        ]
        settings = {"num_class": start[0].shape[1], "categorical_feature": coded, **TREES}
        stop = [lgb.early_stopping(30, verbose=False)]
        parts[1].reference = parts[0]
        model = lgb.train(settings, parts[0], 500, valid_sets=[parts[1]], callbacks=stop)
        raw = model.predict(features[1], raw_score=True, num_iteration=model.best_iteration)
        answer: Floats = softmax(np.asarray(raw) + start[1], axis=1)
        return answer


def _auc(made: Floats, rows: Rows) -> float:
    return scorer(rows.target, made, "auc")(np.ones(len(rows.target), dtype=np.int64))


def _greedy(learnt: Saved, new: Saved) -> Floats:
    known = learnt.rows
    names, picked = list(known.predictions), np.zeros(len(known.predictions))
    every = [known.predictions[name] for name in names]
    summed, best, chosen = np.zeros_like(every[0]), -np.inf, picked
    for count in range(1, 26):
        worth = [_auc((summed + made) / count, known) for made in every]
        at = int(np.argmax(worth))
        summed, picked = summed + every[at], picked + np.eye(len(names))[at]
        if worth[at] > best:
            best, chosen = worth[at], picked
    made: Floats = np.tensordot(
        chosen / chosen.sum(), [new.rows.predictions[name] for name in names], axes=1
    )
    return made


def _climbed(learnt: Saved, new: Saved) -> Floats:
    known = learnt.rows
    every = list(known.predictions.values())
    weights = fit_weights(every, known.target, "label")
    best, step = _auc(blend(weights, every, "label"), known), 0.2
    while step > 0.02:
        moved = False
        for member in range(len(every)):
            for sign in (1, -1):
                tried = weights.copy()
                tried[member] = max(0.0, tried[member] + sign * step)
                if tried.any() and (worth := _auc(blend(tried, every, "label"), known)) > best:
                    best, weights, moved = worth, tried, True
        step = step if moved else step / 2
    return blend(weights, list(new.rows.predictions.values()), "label")


WAYS: dict[str, Combine] = {
    "blend": _blend,
    "diagonal": _Drawn("diagonal"),
    "full": _Drawn("full"),
    "plain": _plain,
    "trees": _Trees(),
    "columns": _Trees(beside=True),
    "greedy": _greedy,
    "climbed": _climbed,
}
