"""What cross-validation promises of new rows, and what other class shares explain."""

from __future__ import annotations

import numpy as np
import pytest

from foldwise.evaluation.new_rows import Evaluation
from foldwise.evaluation.promise import Promise, Scored, promises
from foldwise.metrics.metric import builtin_metric

ACCURACY = [builtin_metric("accuracy")]
SHARES = np.array([0.7, 0.3])
RIGHT = np.array([0.9, 0.5])


def rows_of(
    n: int, seed: int, shares: np.ndarray = SHARES, copies: int = 1, right: np.ndarray = RIGHT
) -> Scored:
    """n rows of two classes, each `copies` times."""
    random = np.random.default_rng(seed)
    target = random.choice(2, n // copies, p=shares)
    guess = np.where(random.random(len(target)) < right[target], target, 1 - target)
    rows = np.repeat(np.arange(len(target)), copies)
    return Scored(target[rows], guess[rows], np.eye(2)[guess][rows], rows)


def promised(own: Scored, new: Scored, resamples: int = 300) -> Promise:
    return promises(ACCURACY, own, new, classes=2, seed=0, resamples=resamples)[0]


def test_the_interval_is_the_normal_one_of_a_difference_of_two_shares() -> None:
    own, new = rows_of(2000, 0), rows_of(500, 1)
    found = promised(own, new, 1000)
    share = found.estimate
    reach = 1.96 * np.sqrt(share * (1 - share) * (1 / 2000 + 1 / 500))
    assert found.low == pytest.approx(share - reach, abs=0.006)
    assert found.high == pytest.approx(share + reach, abs=0.006)


def test_the_interval_holds_for_nineteen_in_twenty_tables() -> None:
    inside = [
        promised(rows_of(400, seed, copies=2), rows_of(150, 1000 + seed), 100).where == "inside"
        for seed in range(40)
    ]
    assert 0.85 <= np.mean(inside) < 1


def test_copies_of_rows_promise_no_more_than_the_rows() -> None:
    own = rows_of(2000, 0)
    once, copied = promised(own, rows_of(100, 1)), promised(own, rows_of(400, 1, copies=4))
    assert copied.high - copied.low == pytest.approx(once.high - once.low, rel=0.1)
    many = promised(own, rows_of(400, 1))
    assert many.high - many.low < 0.7 * (once.high - once.low)


def test_other_class_shares_explain_what_follows_from_them_alone() -> None:
    own = rows_of(3000, 0)
    found = promised(own, rows_of(600, 1, shares=np.array([0.1, 0.9])))
    assert found.where == "below"
    assert found.worse
    # 0.9 and 0.5 weighed by 0.1 and 0.9, less the same weighed by 0.7 and 0.3.
    assert found.by_shares == pytest.approx(-0.24, abs=0.03)
    assert found.shares_explain
    told = found.told(600)
    assert "lies below what cross-validation promised of 600 rows like its own" in told
    assert "The other shares of its classes explain that" in told


def test_harder_rows_are_not_explained_by_class_shares() -> None:
    found = promised(rows_of(3000, 0), rows_of(600, 1, right=np.array([0.6, 0.3])))
    assert found.where == "below"
    assert not found.shares_explain
    assert "these rows are harder for the run" in found.told(600)
    assert "alone account for" in found.told(600)
    assert found.as_json()["inside"] is False


def test_a_loss_above_its_promise_is_worse() -> None:
    found = Promise("log_loss", False, 1.2, 0.5, 0.4, 0.6)
    assert (found.where, found.worse) == ("above", True)
    assert Promise("log_loss", False, 0.3, 0.5, 0.4, 0.6).worse is False


def test_one_row_is_promised_any_accuracy() -> None:
    found = promised(rows_of(300, 0), rows_of(1, 1))
    assert found.where == "inside"
    assert found.low == 0 or found.low < 0.1
    assert found.high == 1.0


def test_no_wrong_row_among_few_is_no_promise_of_none() -> None:
    always = np.array([1.0, 1.0])
    own, new = rows_of(100, 0, right=always), rows_of(100, 1, right=always)
    found = promised(own, new)
    assert (found.estimate, found.high) == (1, 1)
    # One wrong row in a hundred is expected by a rule of succession, and a few are possible.
    assert 0.95 <= found.low <= 0.98


def test_an_undefined_score_is_held_against_nothing() -> None:
    own = rows_of(300, 0)
    alike = rows_of(20, 1, shares=np.array([1.0, 0.0]))
    found = promises([builtin_metric("auroc_macro")], own, alike, classes=2, seed=0, resamples=50)
    assert not found[0].defined
    assert "isn't defined" in found[0].told(20)
    assert found[0].as_json()["inside"] is None


def test_labels_that_the_run_does_not_know_have_no_part_in_the_shares() -> None:
    new = rows_of(200, 1)
    new.target[:50] = 2
    found = promised(rows_of(1000, 0), new)
    assert found.by_shares == pytest.approx(0, abs=0.05)
    assert found.where == "below"


def test_another_metric_outside_its_promise_is_told_beside_the_verdict() -> None:
    kept = Promise("f1_macro", True, 0.6, 0.6, 0.5, 0.7)
    broken = Promise("accuracy", True, 0.4, 0.6, 0.5, 0.7)
    found = Evaluation(10, {}, [kept, broken], "f1_macro", "", {"odd": 3}, 0.7)
    assert found.told.startswith("macro-F1 0.600 lies within")
    assert found.notes[0].startswith("accuracy 0.400 lies below")
    assert found.notes[1].startswith("3 rows count as wrong: the run doesn't know 'odd' (3)")
