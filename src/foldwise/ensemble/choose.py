"""Which weights a run answers with: out-of-fold predictions of its members in, weights out.

Weights are fitted and the choice is made on rows that score nothing: the rows of fold k are
blended with weights that follow from the other folds' rows alone (cross-fitting), so the blend's
row in the run's table is as honest as any member's. The weights that predict new rows follow from
all rows.

A blend must earn its place. Within the rows at hand it is itself cross-fitted, over parts that
keep near-duplicates together, and compared with the best single member on the same rows: unless it
is better, the single member is the answer, as the weight 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foldwise.ensemble.blend import blend, fit_weights
from foldwise.members.member import Floats, Holds

PARTS = 5


@dataclass(frozen=True)
class Rows:
    """Members' out-of-fold predictions of the same rows.

    Attributes:
        predictions: of each member by name, float64 (n, n_outputs).
        target: class ids (n,), indicators (n, labels) or numbers (n, 1).
        row: number in the table, int64 (n,); a row scored in several repeats stands several times.
        fold: the fold that scored each, int64 (n,).
        group: near-duplicates have equal numbers, int64 (n,).
    """

    predictions: Mapping[str, Floats]
    target: NDArray[Any]
    row: NDArray[np.int64]
    fold: NDArray[np.int64]
    group: NDArray[np.int64]

    def part(self, chosen: NDArray[np.bool_]) -> Rows:
        """Return some of the rows."""
        return Rows(
            {name: made[chosen] for name, made in self.predictions.items()},
            self.target[chosen],
            self.row[chosen],
            self.fold[chosen],
            self.group[chosen],
        )


# (predictions (n, n_outputs), rows) -> the selection metric, the greater the better.
Score = Callable[[Floats, Rows], float]


@dataclass(frozen=True)
class Chosen:
    """Weights, and how they came about.

    Attributes:
        names: the members, in the order of the weights.
        weights: (members,), none negative.
        blended: whether it is a blend, and not a single member's.
        scores: of each member and of the cross-fitted blend, the greater the better.
    """

    names: tuple[str, ...]
    weights: Floats
    blended: bool
    scores: dict[str, float]

    @property
    def single(self) -> str:
        """The member with the largest weight: the answer itself where nothing is blended."""
        return self.names[int(self.weights.argmax())]

    @property
    def voting(self) -> tuple[str, ...]:
        """The members that the answer hangs on."""
        if not self.blended:
            return (self.single,)
        return tuple(n for n, weight in zip(self.names, self.weights, strict=True) if weight > 0)

    def predict(self, predictions: Mapping[str, Floats], holds: Holds) -> Floats:
        """Return the answer to rows that the voting members have predicted."""
        if not self.blended:  # the member's own, to the last bit
            return predictions[self.single]
        weights = self.weights[self.weights > 0]
        return blend(weights, [predictions[name] for name in self.voting], holds)


def choose(rows: Rows, holds: Holds, score: Score, *, macro: bool, seed: int) -> Chosen:
    """Choose between the best single member and a blend of all, on rows that nobody trained on.

    Args:
        rows: at least one member's predictions.
        holds: label, labels or number.
        score: the selection metric, the greater the better.
        macro: whether that metric is a mean over classes.
        seed: deals groups to parts.
    """
    names = tuple(rows.predictions)
    scores = {name: score(made, rows) for name, made in rows.predictions.items()}
    best = max(names, key=lambda name: np.nan_to_num(scores[name], nan=-np.inf))
    single = np.array([float(name == best) for name in names])
    parts = _parts(rows.group, seed)
    if len(names) == 1 or len(np.unique(parts)) < 2:
        return Chosen(names, single, False, scores)
    made = np.empty_like(rows.predictions[best])
    for part in np.unique(parts):
        out = parts == part
        weights = _fitted(rows.part(~out), holds, macro=macro)
        made[out] = blend(weights, [rows.predictions[name][out] for name in names], holds)
    scores["blend"] = score(made, rows)
    if not scores["blend"] > scores[best]:
        return Chosen(names, single, False, scores)
    return Chosen(names, _fitted(rows, holds, macro=macro), True, scores)


def cross_fit(
    rows: Rows, holds: Holds, score: Score, *, macro: bool, seed: int
) -> tuple[Floats, dict[int, Chosen]]:
    """Answer each fold's rows with what the other folds' rows say.

    Returns:
        The answers, float64 (n, n_outputs), in the order of `rows`, and the choice of each fold.
    """
    answers = np.empty_like(next(iter(rows.predictions.values())))
    chosen: dict[int, Chosen] = {}
    for fold in np.unique(rows.fold):
        out = rows.fold == fold
        # With repeats a row stands in other folds too: its own predictions there are left out.
        others = rows.part(~out & ~np.isin(rows.row, rows.row[out]))
        if not len(
            others.row
        ):  # a single fold, or one that scores every row: nothing to learn from
            others = rows.part(out)
            first = next(iter(rows.predictions))
            weights = np.array([float(name == first) for name in rows.predictions])
            found = Chosen(tuple(rows.predictions), weights, False, {})
        else:
            found = choose(others, holds, score, macro=macro, seed=seed)
        chosen[int(fold)] = found
        part = rows.part(out)
        answers[out] = found.predict(part.predictions, holds)
    return answers, chosen


def adds(rows: Rows, holds: Holds, score: Score, *, macro: bool) -> dict[str, float]:
    """Say what each member adds: the blend of all members minus the blend of the others.

    Both are cross-fitted over the folds, and always blends, so that they can be compared.

    Returns:
        By member, in units of the score; positive where the member helps.
    """
    names = list(rows.predictions)
    whole = score(_blended(rows, holds, macro=macro), rows)
    without = {name: _without(rows, name) for name in names}
    return {
        name: whole - score(_blended(part, holds, macro=macro), part)
        for name, part in without.items()
    }


def _without(rows: Rows, name: str) -> Rows:
    others = {other: made for other, made in rows.predictions.items() if other != name}
    return replace(rows, predictions=others)


def _blended(rows: Rows, holds: Holds, *, macro: bool) -> Floats:
    made = np.empty_like(next(iter(rows.predictions.values())))
    for fold in np.unique(rows.fold):
        out = rows.fold == fold
        others = rows.part(~out & ~np.isin(rows.row, rows.row[out]))
        weights = _fitted(others if len(others.row) else rows, holds, macro=macro)
        made[out] = blend(weights, list(rows.part(out).predictions.values()), holds)
    return made


def _fitted(rows: Rows, holds: Holds, *, macro: bool) -> Floats:
    return fit_weights(list(rows.predictions.values()), rows.target, holds, macro=macro)


def _parts(group: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    # Whole groups are dealt out, so that a near-duplicate never weighs for its own copy.
    known, of_row = np.unique(group, return_inverse=True)
    dealt = np.random.default_rng(seed).permutation(len(known)) % PARTS
    parts: NDArray[np.int64] = dealt[of_row]
    return parts


def weights_as_json(names: Sequence[str], weights: Floats) -> dict[str, float]:
    """Return the weights by member, rounded for people; the files keep all digits."""
    return {name: float(weight) for name, weight in zip(names, weights, strict=True)}
