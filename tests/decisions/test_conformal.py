"""Sets and intervals: by the definitions written out, and by how often they hold the truth."""

from __future__ import annotations

import numpy as np
import pytest

from foldwise.decisions.conformal import Known, label_sets, number_intervals


def shares(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def known_classes(n: int, seed: int, folds: int = 3, classes: int = 4) -> Known:
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, 1, (n, classes))
    target = np.array([rng.choice(classes, p=p) for p in shares(1.5 * scores)])
    fold = np.arange(n) % folds + 1
    seen = scores + rng.normal(0, 0.5, (n, classes))  # each fold errs in its way
    return Known(shares(seen), target, fold, np.arange(n))


def test_sets_are_those_of_the_definition() -> None:
    known, new = known_classes(60, 0), {k: known_classes(9, 10 + k).values for k in (1, 2, 3)}
    found = label_sets(known, new, 0.8)
    own = known.values[np.arange(60), known.target]
    for row in range(9):
        for label in range(4):
            stranger = sum(own[i] <= new[int(known.fold[i])][row, label] for i in range(60))
            assert found[row, label] == ((1 + stranger) / 61 > 0.2)


def test_sets_by_class_compare_with_rows_of_that_class() -> None:
    known, new = known_classes(80, 0), {k: known_classes(9, 10 + k).values for k in (1, 2, 3)}
    found = label_sets(known, new, 0.8, by_class=True)
    own = known.values[np.arange(80), known.target]
    for label in range(4):
        rows = np.flatnonzero(known.target == label)
        for row in range(9):
            stranger = sum(own[i] <= new[int(known.fold[i])][row, label] for i in rows)
            assert found[row, label] == ((1 + stranger) / (1 + len(rows)) > 0.2)


def test_a_class_with_few_rows_is_in_every_set_by_class() -> None:
    known = known_classes(80, 0)
    kept = known.part((known.target != 3) | (np.cumsum(known.target == 3) <= 8))
    new = {1: np.tile([0.98, 0.01, 0.01, 0.0], (5, 1))}
    assert label_sets(kept, new, 0.9, by_class=True)[:, 3].all()
    assert not label_sets(kept, new, 0.9)[:, 3].any()


@pytest.mark.parametrize("level", [0.8, 0.9])
def test_sets_hold_the_class_as_often_as_is_asked(level: float) -> None:
    hits = []
    for seed in range(40):
        both = known_classes(400, seed, folds=1)
        known = both.part(np.arange(400) < 200)
        sets = label_sets(known, {1: both.values[200:]}, level)
        hits.append(sets[np.arange(200), both.target[200:]].mean())
    assert np.mean(hits) == pytest.approx(level, abs=0.015)


def test_copies_of_a_row_count_as_one_row() -> None:
    known = known_classes(40, 0, folds=1)
    again = np.concatenate([np.arange(40), np.zeros(30, dtype=np.int64)])
    copied = Known(known.values[again], known.target[again], known.fold[again], again)
    new = {1: known_classes(30, 5).values}
    assert (label_sets(known, new, 0.7) == label_sets(copied, new, 0.7)).all()


def known_numbers(n: int, seed: int) -> tuple[Known, dict[int, np.ndarray], np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=2 * n)
    made = truth[:n, None] + rng.normal(size=(n, 1))
    fold = np.arange(n) % 2 + 1
    new = {k: truth[n:] + rng.normal(size=n) for k in (1, 2)}
    return Known(made, truth[:n], fold, np.arange(n)), new, truth[n:]


def test_intervals_are_those_of_cv_plus() -> None:
    known, new, _ = known_numbers(49, 0)
    low, high = number_intervals(known, new, 0.8)
    error = np.abs(known.target - known.values[:, 0])
    for row in range(49):
        of_row = np.array([new[int(fold)][row] for fold in known.fold])
        # floor(0.2 * 50) and ceil(0.8 * 50)
        assert low[row] == pytest.approx(np.sort(of_row - error)[10 - 1], abs=1e-12)
        assert high[row] == pytest.approx(np.sort(of_row + error)[40 - 1], abs=1e-12)


def test_intervals_of_too_few_rows_say_nothing() -> None:
    known, new, _ = known_numbers(6, 0)
    low, high = number_intervals(known, new, 0.9)
    assert np.isneginf(low).all()
    assert np.isposinf(high).all()
    assert np.isfinite(number_intervals(known, new, 0.5)).all()


def test_intervals_hold_the_number_as_often_as_is_asked() -> None:
    hits = []
    for seed in range(40):
        known, new, truth = known_numbers(200, seed)
        low, high = number_intervals(known, {1: new[1]}, 0.9)
        hits.append(((low <= truth) & (truth <= high)).mean())
    assert np.mean(hits) == pytest.approx(0.9, abs=0.02)
