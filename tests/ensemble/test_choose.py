"""What a run answers with: honest, never worse, and by known answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from foldwise.decisions.decision import Decision
from foldwise.ensemble.choose import Rows, _standard_error, adds, choose, cross_fit, dealt


def accuracy(made: np.ndarray, rows: Rows) -> float:
    return float((made.argmax(axis=1) == rows.target).mean())


def hits(made: np.ndarray, rows: Rows) -> float:
    return float(((made > 0.5) == rows.target).mean())


def closeness(made: np.ndarray, rows: Rows) -> float:
    return -float(np.sqrt(np.square(made - rows.target).mean()))


def likelihood(made: np.ndarray, rows: Rows) -> float:
    there = made[np.arange(len(made)), rows.target]
    return float(np.log(np.maximum(there, 1e-9)).mean())


SCORES: dict[str, Any] = {"label": accuracy, "labels": hits, "number": closeness}


def told(target: np.ndarray, classes: int, strength: float, seed: int) -> np.ndarray:
    """Probabilities that know the target by so much, calibrated."""
    random = np.random.default_rng(seed)
    scores = strength * random.normal(size=(len(target), classes))
    scores[np.arange(len(target)), target] += strength**2
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def rows_of(predictions: dict[str, np.ndarray], target: np.ndarray, **changed: Any) -> Rows:
    n = len(target)
    given = {"row": np.arange(n), "fold": np.arange(n) % 5 + 1, "group": np.arange(n)} | changed
    return Rows(predictions, target, **given)


def answers(rows: Rows, holds: Any = "label", seed: int = 0) -> np.ndarray:
    return cross_fit(rows, holds, SCORES[holds], seed=seed)[0]


@pytest.fixture(scope="module")
def target() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 4, 1000)


def test_a_useless_member_gets_nearly_no_weight(target: np.ndarray) -> None:
    noise = np.random.default_rng(1).dirichlet(np.ones(4), 1000)
    rows = rows_of(
        {"a": told(target, 4, 1.0, 2), "b": told(target, 4, 1.0, 3), "noise": noise}, target
    )
    found = choose(rows, "label", likelihood, seed=0)
    assert found.blended
    assert found.weights[2] < 0.05 < 0.8 < found.weights[:2].min()


def test_equal_members_share_and_independent_ones_add_up(target: np.ndarray) -> None:
    one, other = (told(target, 4, 1.0, seed) for seed in (1, 2))
    twice = rows_of({"a": one, "again": one, "other": other}, target)
    found = choose(twice, "label", likelihood, seed=0)
    assert found.weights[0] == pytest.approx(found.weights[1], abs=1e-3)
    # Evidence of two independent, calibrated witnesses multiplies: weights of one each.
    assert found.weights[0] + found.weights[1] == pytest.approx(1, abs=0.2)
    assert found.weights[2] == pytest.approx(1, abs=0.2)
    assert found.weights.sum() > 1.6


def test_a_member_that_stays_out_is_not_needed_for_the_answer(target: np.ndarray) -> None:
    rows = rows_of(
        {
            "a": told(target, 4, 1.0, 2),
            "b": told(target, 4, 1.0, 3),
            "against": told(3 - target, 4, 1.0, 4),
        },
        target,
    )
    found = choose(rows, "label", accuracy, seed=0)
    assert found.voting == ("a", "b")
    some = {name: rows.predictions[name] for name in ("a", "b")}
    whole = found.predict(rows.predictions, "label")
    np.testing.assert_array_equal(found.predict(some, "label"), whole)


def test_a_fold_is_answered_by_the_others_alone(target: np.ndarray) -> None:
    members = {str(seed): told(target, 4, 1.0, seed) for seed in (1, 2)}
    rows = rows_of(members, target)
    made, chosen = cross_fit(rows, "label", accuracy, seed=0)
    out = rows.fold == 3
    spoiled = target.copy()
    spoiled[out] = 0
    again, chosen_again = cross_fit(rows_of(members, spoiled), "label", accuracy, seed=0)
    np.testing.assert_array_equal(again[out], made[out])
    np.testing.assert_array_equal(chosen_again[3].weights, chosen[3].weights)
    assert not np.array_equal(chosen_again[1].weights, chosen[1].weights)


def test_a_row_of_several_repeats_never_weighs_for_itself(target: np.ndarray) -> None:
    twice = np.concatenate([target, target])
    members = {str(seed): told(twice, 4, 1.0, seed) for seed in (1, 2)}
    row = np.tile(np.arange(1000), 2)
    fold = np.concatenate([np.arange(1000) % 5, 5 + np.arange(1000) // 5 % 5])
    given = {"row": row, "fold": fold, "group": row}
    made, _ = cross_fit(rows_of(members, twice, **given), "label", accuracy, seed=0)
    mine = np.isin(row, row[fold == 2])
    spoiled = np.where(mine, 0, twice)
    again, _ = cross_fit(rows_of(members, spoiled, **given), "label", accuracy, seed=0)
    np.testing.assert_array_equal(again[fold == 2], made[fold == 2])


def test_a_single_fold_is_answered_by_its_other_parts(target: np.ndarray) -> None:
    members = {str(seed): told(target, 4, 1.0, seed) for seed in (1, 2)}
    group = np.arange(1000) // 2
    given = {"fold": np.full(1000, 2), "group": group}
    rows = rows_of(members, target, **given)
    numbers = dealt(rows, 0)
    assert np.unique(numbers).tolist() == [0, 1, 2, 3, 4]
    assert (numbers[::2] == numbers[1::2]).all()  # groups stay together
    made, chosen = cross_fit(rows, "label", accuracy, seed=0)
    assert list(chosen) == [0, 1, 2, 3, 4]
    assert chosen[0].blended
    out = numbers == 1
    again = answers(rows_of(members, np.where(out, 0, target), **given))
    np.testing.assert_array_equal(again[out], made[out])


def test_several_folds_are_answered_fold_by_fold(target: np.ndarray) -> None:
    rows = rows_of({"a": told(target, 4, 1.0, 1)}, target)
    np.testing.assert_array_equal(dealt(rows, 0), rows.fold)


def test_a_group_as_large_as_the_table_leaves_the_first_member(target: np.ndarray) -> None:
    members = {"model": told(target, 4, 0.5, 1), "better": told(target, 4, 2.0, 2)}
    one = rows_of(members, target, fold=np.ones(1000, dtype=int), group=np.zeros(1000, dtype=int))
    np.testing.assert_array_equal(answers(one), members["model"])
    assert adds(one, "label", accuracy, seed=0) == {}
    # With other folds to learn from, it is only the blend that can't be tried.
    folds = rows_of(members, target, group=np.zeros(1000, dtype=int))
    np.testing.assert_array_equal(answers(folds), members["better"])


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("holds", ["label", "labels", "number"])
def test_a_few_rows_are_answered(holds: str, n: int) -> None:
    target = np.arange(n) % 2 if holds == "label" else np.arange(float(n))[:, None] % 2
    width = 2 if holds == "label" else 1
    members = {name: np.full((n, width), 1 / width / 2 ** (width == 1)) for name in "ab"}
    made = answers(rows_of(members, target), holds)
    np.testing.assert_allclose(made, members["a"])


def test_a_score_that_is_not_defined_never_wins(target: np.ndarray) -> None:
    members = {"nan": told(target, 4, 1.0, 1), "b": told(target, 4, 1.0, 2)}
    rows = rows_of(members, target)

    def score(made: np.ndarray, part: Rows) -> float:
        undefined = np.isin(made[:, 0], members["nan"][:, 0]).all()
        return float("nan") if undefined else accuracy(made, part)

    found = choose(rows, "label", score, seed=0)
    assert found.single == "b" or found.blended
    never = choose(rows, "label", lambda made, part: float("nan"), seed=0)
    assert not never.blended
    assert never.single == "nan"  # the first, where nothing can be told


@pytest.mark.parametrize("holds", ["label", "labels", "number"])
def test_the_answer_to_noise_is_chance(holds: str) -> None:
    # Members that know nothing: whatever weights are fitted, the cross-fitted score is chance. Were
    # the rows' own target used, the best of eight and their weights would beat it on every draw.
    differences = []
    for draw in range(12):
        random = np.random.default_rng(draw)
        if holds == "label":
            target: Any = random.permutation(np.arange(300) % 3)
            made = {str(i): random.dirichlet(np.ones(3), 300) for i in range(8)}
            chance = 1 / 3
        elif holds == "labels":
            target = (random.random((300, 2)) < 0.5).astype(float)
            made = {str(i): random.random((300, 2)) for i in range(8)}
            chance = 0.5
        else:
            target = random.normal(size=(300, 1))
            made = {str(i): random.normal(size=(300, 1)) for i in range(8)}
            # Eight weights around an eighth: error variance of 1 + 1/8 at best.
            chance = -np.sqrt(1 + 1 / 8)
        rows = rows_of(made, target)
        differences.append(SCORES[holds](answers(rows, holds), rows) - chance)
    error = np.std(differences) / np.sqrt(len(differences))
    assert np.mean(differences) < 2.5 * error


SITUATIONS: dict[str, Callable[[np.ndarray, int], dict[str, np.ndarray]]] = {
    "one strong, one weak": lambda y, s: {"a": told(y, 4, 2.0, s), "b": told(y, 4, 0.3, s + 1)},
    "one strong, four weak": lambda y, s: {
        str(i): told(y, 4, 2.0 if i == 0 else 0.3, s + i) for i in range(5)
    },
    "one strong, five of noise": lambda y, s: {
        str(i): told(y if i == 0 else np.roll(y, i), 4, 1.5, s + i) for i in range(6)
    },
    "equals": lambda y, s: {str(i): told(y, 4, 1.0, s + i) for i in range(4)},
    "copies": lambda y, s: {str(i): told(y, 4, 1.0, s) for i in range(4)},
    "overconfident": lambda y, s: {"a": told(y, 4, 1.0, s) ** 5, "b": told(y, 4, 1.2, s + 1)},
    "underconfident": lambda y, s: {"a": told(y, 4, 1.0, s) ** 0.1, "b": told(y, 4, 1.2, s + 1)},
    "sure and wrong": lambda y, s: {
        "a": np.eye(4)[np.where(np.arange(len(y)) % 10 == 0, 3 - y, y)],
        "b": told(y, 4, 1.0, s),
    },
    "perfect": lambda y, s: {"a": np.eye(4)[y], "b": told(y, 4, 1.0, s)},
    "constants": lambda y, s: {"a": np.full((len(y), 4), 0.25), "b": told(y, 4, 1.0, s)},
    "each knows two classes": lambda y, s: {
        "a": np.where((y < 2)[:, None], told(y, 4, 2.0, s), told(np.roll(y, 1), 4, 0.2, s)),
        "b": np.where((y > 1)[:, None], told(y, 4, 2.0, s + 1), told(np.roll(y, 1), 4, 0.2, s)),
    },
    "one member": lambda y, s: {"a": told(y, 4, 1.0, s)},
}


@pytest.mark.parametrize("name", SITUATIONS)
def test_the_answer_is_never_worse_than_the_best_member(name: str) -> None:
    differences = []
    for seed in range(4):
        target = np.random.default_rng(seed).integers(0, 4, 1000)
        made = {
            key: value / value.sum(axis=1, keepdims=True)
            for key, value in SITUATIONS[name](target, 100 * (seed + 1)).items()
        }
        rows = rows_of(made, target)
        best = max(accuracy(value, rows) for value in made.values())
        differences.append(accuracy(answers(rows), rows) - best)
    # The best member is the best on these very rows, with hindsight that the answer lacks.
    assert np.mean(differences) >= -0.005
    assert min(differences) >= -0.01 - 1e-9


@pytest.mark.parametrize(("errors", "blended"), [(0.75, True), (1.5, False)])
def test_a_member_answers_alone_where_it_is_ahead_by_more_than_a_standard_error(
    target: np.ndarray, errors: float, blended: bool
) -> None:
    # Member a scores so much more than anything else, row by row one more or one less.
    bonus = np.where(np.arange(1000) % 2, 1.0, -1.0) + errors / np.sqrt(1000)

    def score(made: np.ndarray, rows: Rows) -> float:
        of_a = np.array_equal(made, rows.predictions["a"])
        return float(bonus[rows.row].mean()) if of_a else 0.0

    rows = rows_of({"a": told(target, 4, 1.0, 1), "b": told(target, 4, 1.0, 2)}, target)
    assert choose(rows, "label", score, seed=0).blended is blended


def test_the_noise_of_a_difference_counts_a_group_of_near_duplicates_once(
    target: np.ndarray,
) -> None:
    rows = rows_of({"a": told(target, 4, 1.0, 1), "b": told(target, 4, 1.0, 2)}, target)
    ten = np.repeat(np.arange(1000), 10)
    copies = rows_of(
        {name: made[ten] for name, made in rows.predictions.items()}, target[ten], group=ten
    )
    errors = [
        _standard_error(*part.predictions.values(), part, accuracy, seed=0)
        for part in (rows, copies)
    ]
    assert errors[0] == pytest.approx(errors[1])


def test_members_that_know_nothing_are_weighed_out_and_one_of_them_answers() -> None:
    target = np.random.default_rng(0).integers(0, 4, 1000)
    against = {str(i): told(3 - target, 4, 1.0, i) for i in range(3)}
    found = choose(rows_of(against, target), "label", accuracy, seed=0)
    assert not found.blended
    assert len(found.voting) == 1


def test_the_answer_to_numbers_is_never_worse_than_the_best_member() -> None:
    random = np.random.default_rng(0)
    target = 1e9 + random.normal(size=(1000, 1))
    for noises in ([0.1, 3], [1, 1], [0.5, 0.6, 5, 5, 5], [1e-6, 1]):
        made = {
            str(i): target + noise * random.normal(size=target.shape)
            for i, noise in enumerate(noises)
        }
        rows = rows_of(made, target)
        best = max(closeness(value, rows) for value in made.values())
        assert closeness(answers(rows, "number"), rows) >= best * 1.01


def test_what_a_member_adds_is_what_the_blend_loses_without_it(target: np.ndarray) -> None:
    one, other = told(target, 4, 1.0, 1), told(target, 4, 1.0, 2)
    noise = np.random.default_rng(1).dirichlet(np.ones(4), 1000)
    rows = rows_of({"one": one, "copy": one, "other": other, "noise": noise}, target)
    found = adds(rows, "label", likelihood, seed=0)
    assert list(found) == list(rows.predictions)
    assert found["other"] > 0.1
    assert found["one"] == pytest.approx(0, abs=0.005)  # its copy is still there
    assert found["noise"] == pytest.approx(0, abs=0.005)
    alone = rows_of({"one": one}, target)
    assert adds(alone, "label", likelihood, seed=0) == {}


def test_same_rows_same_answers(target: np.ndarray) -> None:
    rows = rows_of({str(seed): told(target, 4, 1.0, seed) for seed in (1, 2)}, target)
    assert answers(rows).tobytes() == answers(rows).tobytes()


def test_a_blend_is_judged_by_what_is_named_from_it() -> None:
    # One class in ten is rare, and both members know it: named from a smaller probability it is
    # found, so that the blend is ahead of a member which names the most probable class.
    random = np.random.default_rng(0)
    target = (random.random(2000) < 0.1).astype(np.int64)
    scores = random.normal(size=(2, 2000)) + 1.2 * target - 1.4
    made = {str(i): np.stack([1 - expit(s), expit(s)], axis=1) for i, s in enumerate(scores)}
    rows = rows_of(made, target)

    def recall(made: np.ndarray, part: Rows) -> float:
        right = made.argmax(axis=1) == part.target
        return float(np.mean([right[part.target == k].mean() for k in range(2)]))

    def decide(made: np.ndarray, part: Rows, blended: bool) -> tuple[Decision, np.ndarray]:
        decision = Decision(class_weights=(1.0, 9.0)) if blended else Decision(2.0)
        return decision, decision.names_from(made)

    found = choose(rows, "label", recall, seed=0, decide=decide)
    assert found.blended
    assert found.decision.class_weights == (1.0, 9.0)
    assert found.scores["blend"] > max(recall(one, rows) for one in made.values()) + 0.1
    one = choose(rows_of({"0": made["0"]}, target), "label", recall, seed=0, decide=decide)
    assert one.decision == Decision(2.0)
    added = adds(rows, "label", recall, seed=0, decide=decide)
    assert all(0 < gain < 0.1 for gain in added.values())
