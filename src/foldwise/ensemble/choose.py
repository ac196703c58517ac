"""Which weights a run answers with: out-of-fold predictions of its members in, weights out.

Weights are fitted and the choice is made on rows that score nothing: the rows of fold k are
blended with weights that follow from the other folds' rows alone (cross-fitting), so the blend's
row in the run's table is as honest as any member's. The weights that predict new rows follow from
all rows.

What is done with the answer's probabilities (a temperature, thresholds, class weights: decisions/)
is fitted with the weights, on the same rows; of a blend on predictions that are cross-fitted within
them. A blend is judged by the labels that it would give then.

Within the rows at hand a blend is itself cross-fitted, over parts that keep near-duplicates
together, and compared with the best single member on the same rows. Where that member is better by
more than a standard error of the difference, it is the answer, as the weight 1; else the blend is
(as Breiman et al. 1984 prefer the simpler tree within one standard error: here the steadier answer,
since on few rows the best of several members is the luckiest). Other rules were measured and left
out (docs/experiments.md, "A member alone or a blend", "A whole standard error").
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foldwise.decisions.decision import AS_IT_IS, Decision
from foldwise.ensemble.blend import blend, fit_margins, margins
from foldwise.members.member import Floats, Holds

PARTS = 5
MARGIN = 1.0  # standard errors by which a member must be ahead to be preferred to the blend
_RESAMPLES = 60


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

    def part(self, chosen: NDArray[Any]) -> Rows:
        """Return some of the rows, chosen by a mask or by their places."""
        return Rows(
            {name: made[chosen] for name, made in self.predictions.items()},
            self.target[chosen],
            self.row[chosen],
            self.fold[chosen],
            self.group[chosen],
        )


# (predictions (n, n_outputs), rows) -> the selection metric, the greater the better.
Score = Callable[[Floats, Rows], float]
# (predictions (n, n_outputs), rows, whether a blend's) -> what is done with predictions like these,
# and what the score reads of these, (n, n_outputs).
Decide = Callable[[Floats, Rows, bool], tuple[Decision, Floats]]


def as_they_are(made: Floats, rows: Rows, blended: bool) -> tuple[Decision, Floats]:
    """Do nothing with predictions."""
    return AS_IT_IS, made


@dataclass(frozen=True)
class Chosen:
    """Weights, and how they came about.

    Attributes:
        names: the members, in the order of the weights.
        weights: (members,), none negative.
        blended: whether it is a blend, and not a single member's.
        scores: of each member and of the cross-fitted blend, as it is decided, the greater the
            better.
        decision: what is done with what the weights give.
    """

    names: tuple[str, ...]
    weights: Floats
    blended: bool
    scores: dict[str, float]
    decision: Decision = AS_IT_IS

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
        """Blend what the voting members have predicted of some rows; the decision comes after."""
        if not self.blended:  # the member's own, to the last bit
            return predictions[self.single]
        weights = self.weights[self.weights > 0]
        return blend(weights, [predictions[name] for name in self.voting], holds)


def choose(
    rows: Rows,
    holds: Holds,
    score: Score,
    *,
    seed: int,
    decide: Decide = as_they_are,
) -> Chosen:
    """Choose between the best single member and a blend of all, on rows that nobody trained on.

    Args:
        rows: at least one member's predictions.
        holds: label, labels or number.
        score: the selection metric, the greater the better; nan is worse than any number.
        seed: deals groups to parts.
        decide: fits what is done with the predictions.
    """
    return _chosen(rows, _margins(rows, holds), holds, score, seed, decide)


def cross_fit(
    rows: Rows,
    holds: Holds,
    score: Score,
    *,
    seed: int,
    decide: Decide = as_they_are,
) -> tuple[Floats, dict[int, Chosen]]:
    """Answer each row with what rows of other folds say; arguments as for `choose`.

    Returns:
        The answers before any decision, float64 (n, n_outputs), in the order of `rows`, and by the
        numbers that `dealt` gives the choice that answered those rows.
    """
    wrong = _margins(rows, holds)
    answers = np.empty_like(_first(rows))
    chosen: dict[int, Chosen] = {}
    for number, out, others in _folds(rows, seed):
        if others.any():
            there = rows.part(others), wrong[:, others]
            found = _chosen(*there, holds, score, seed, decide)
        else:  # one group is all there is, and no row could tell of another: the first member
            names = tuple(rows.predictions)
            found = Chosen(names, np.eye(len(names))[0], False, {})
        chosen[number] = found
        answers[out] = found.predict(rows.part(out).predictions, holds)
    return answers, chosen


def dealt(rows: Rows, seed: int) -> NDArray[np.int64]:
    """Return the number under which each row is answered: its fold's, int64 (n,).

    Where a fold has no row outside it to learn from (a run of one fold), parts of the rows take the
    folds' place, numbered from 0: whole groups, so that no row and no copy weighs for itself.
    """
    folds = np.unique(rows.fold)
    if all((~_seen(rows, rows.fold == fold)).any() for fold in folds):
        return rows.fold
    return parts_of(rows.group, seed)


def adds(
    rows: Rows, holds: Holds, score: Score, *, seed: int, decide: Decide = as_they_are
) -> dict[str, float]:
    """Say what each member adds: the blend of all members minus the blend of the others.

    Both are cross-fitted over the folds, and always blends, so that they can be compared; each is
    decided on all rows at once, as well as it can be.

    Returns:
        By member, in units of the score; positive where the member helps. Empty where one member is
        all there is.
    """
    names = list(rows.predictions)
    if len(names) < 2:
        return {}
    wrong = _margins(rows, holds)
    left_out = [np.array([name != other for name in names]) for other in names]
    made = [np.full_like(_first(rows), 1 / _first(rows).shape[1]) for _ in [None, *names]]
    for _, out, others in _folds(rows, seed):
        if not others.any():
            return {}
        there, target = wrong[:, others], rows.target[others]
        whole = fit_margins(there, target, holds)
        part = rows.part(out).predictions
        made[0][out] = blend(whole, list(part.values()), holds)
        for place, kept in enumerate(left_out, start=1):
            start = whole[kept]
            weights = fit_margins(there[kept], target, holds, start=start)
            predictions = [part[name] for name, stays in zip(names, kept, strict=True) if stays]
            made[place][out] = blend(weights, predictions, holds)
    scores = [score(decide(predictions, rows, True)[1], rows) for predictions in made]
    return {name: scores[0] - scores[place] for place, name in enumerate(names, start=1)}


def _chosen(
    rows: Rows, wrong: NDArray[Any], holds: Holds, score: Score, seed: int, decide: Decide
) -> Chosen:
    names = tuple(rows.predictions)
    scores = {name: score(made, rows) for name, made in rows.predictions.items()}
    best = max(names, key=lambda name: np.nan_to_num(scores[name], nan=-np.inf))

    def alone() -> Chosen:
        decision, _ = decide(rows.predictions[best], rows, False)
        return Chosen(names, np.array([float(n == best) for n in names]), False, scores, decision)

    parts = parts_of(rows.group, seed)
    if len(names) == 1 or len(np.unique(parts)) < 2:
        return alone()
    whole = fit_margins(wrong, rows.target, holds)
    if not whole.any():  # members that know nothing can all be weighed out: there is no blend
        return alone()
    made = np.empty_like(rows.predictions[best])
    for part in np.unique(parts):
        out = parts == part
        weights = fit_margins(wrong[:, ~out], rows.target[~out], holds, start=whole)
        made[out] = blend(weights, [rows.predictions[name][out] for name in names], holds)
    decision, seen = decide(made, rows, True)
    scores["blend"] = score(seen, rows)
    lead = scores[best] - scores["blend"]
    noise = _standard_error(rows.predictions[best], seen, rows, score, seed) if lead > 0 else 0.0
    if not lead <= MARGIN * noise:  # nan: nothing can be told
        return alone()
    return Chosen(names, whole, True, scores, decision)


def _standard_error(first: Floats, second: Floats, rows: Rows, score: Score, seed: int) -> float:
    """Return that of the difference of two scores, by resamples of groups of near-duplicates."""
    known, of_row = np.unique(rows.group, return_inverse=True)
    random = np.random.default_rng(seed)
    differences = []
    for _ in range(_RESAMPLES):
        times = np.bincount(random.integers(0, len(known), len(known)), minlength=len(known))
        drawn = np.repeat(np.arange(len(of_row)), times[of_row])
        part = rows.part(drawn)
        differences.append(score(first[drawn], part) - score(second[drawn], part))
    defined = [value for value in differences if np.isfinite(value)]
    return float(np.std(defined)) if defined else 0.0


def _folds(rows: Rows, seed: int) -> Iterator[tuple[int, NDArray[np.bool_], NDArray[np.bool_]]]:
    # Each fold's number, its rows, and the rows that may weigh for them.
    numbers = dealt(rows, seed)
    for number in np.unique(numbers):
        out = numbers == number
        yield int(number), out, ~_seen(rows, out)


def _seen(rows: Rows, out: NDArray[np.bool_]) -> NDArray[np.bool_]:
    # With repeats a row stands in other folds too: its own predictions there are left out.
    return out | np.isin(rows.row, rows.row[out])


def parts_of(group: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Deal whole groups to parts, so that a near-duplicate never weighs for its own copy, (n,)."""
    known, of_row = np.unique(group, return_inverse=True)
    random = np.random.default_rng(seed).permutation(len(known)) % PARTS
    parts: NDArray[np.int64] = random[of_row]
    return parts


def _margins(rows: Rows, holds: Holds) -> NDArray[Any]:
    return margins(list(rows.predictions.values()), rows.target, holds)


def _first(rows: Rows) -> Floats:
    return next(iter(rows.predictions.values()))
