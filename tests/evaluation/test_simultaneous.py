"""Intervals for all pairs: the plain tests for one pair, and honest for the best of many.

The simulated runs are equal: what is called clear among them is wrong.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from foldwise.evaluation.simultaneous import (
    SeedNoise,
    fold_differences,
    row_differences,
    seed_noise,
)

APART = np.array([0.02, 0.05, -0.01, 0.04, 0.03])


def of_folds(apart: np.ndarray, test_to_train: float = 0.0) -> tuple[float, float, float, float]:
    """Test one pair with these differences: mean, interval, p-value."""
    scores = np.stack([apart, np.zeros(len(apart))])
    ((found, p_value),) = fold_differences(scores, test_to_train, [1, 1], None)
    return found.value, found.low, found.high, p_value


def test_the_t_test_is_the_plain_one_where_training_sets_do_not_overlap() -> None:
    _, *ends, p_value = of_folds(APART)
    plain = stats.ttest_1samp(APART, 0.0)
    assert ends == pytest.approx(list(plain.confidence_interval(0.95)))
    assert p_value == pytest.approx(plain.pvalue)


def test_the_t_test_widens_by_nadeau_and_bengios_factor() -> None:
    (mean, _, plain, _), (_, _, wider, _) = of_folds(APART), of_folds(APART, 0.25)
    assert (wider - mean) / (plain - mean) == pytest.approx(math.sqrt((1 / 5 + 1 / 4) / (1 / 5)))


def test_differences_without_spread_have_no_p_value() -> None:
    *interval, p_value = of_folds(np.zeros(4), 0.25)
    assert interval == [0, 0, 0]
    assert math.isnan(p_value)


@pytest.mark.parametrize("folds", [1, 2])
def test_two_folds_have_a_mean_and_no_interval(folds: int) -> None:
    mean, low, high, p_value = of_folds(np.full(folds, 0.1), 0.25)
    assert mean == pytest.approx(0.1)
    assert all(math.isnan(x) for x in (low, high, p_value))


def test_all_pairs_of_equal_configs_hold_together_with_95_percent() -> None:
    drawn = np.random.default_rng(1).normal(size=(20_000, 4, 5))
    pairs = [drawn[:, i] - drawn[:, j] for i in range(4) for j in range(i)]
    own = np.array([pair.var(axis=1, ddof=1) for pair in pairs])
    means = np.abs([pair.mean(axis=1) for pair in pairs])
    largest = (means / np.sqrt(np.maximum(own, own.mean(axis=0)) / 5)).max(axis=0)
    scores = np.random.default_rng(2).normal(size=(4, 5))
    apart = [scores[0] - scores[j] for j in range(1, 4)]
    every = [(scores[i] - scores[j]).var(ddof=1) for i in range(4) for j in range(i)]
    for ahead, (found, p_value) in zip(
        apart, fold_differences(scores, 0.0, [1] * 4, None), strict=True
    ):
        error = math.sqrt(max(ahead.var(ddof=1), np.mean(every)) / 5)
        assert found.value == pytest.approx(ahead.mean())
        reach = (found.high - found.value) / error
        assert (largest > reach).mean() == pytest.approx(0.05, abs=0.005)
        assert p_value == pytest.approx((largest > abs(found.value) / error).mean(), abs=0.02)


def test_the_p_value_and_the_interval_say_the_same() -> None:
    for seed in range(10):
        scores = np.random.default_rng(seed).normal(size=(5, 5)) + 2 * np.eye(5)[:1].T
        for pair, p_value in fold_differences(scores, 0.0, [1] * 5, None):
            assert (p_value < 0.05) == (pair.low > 0 or pair.high < 0)


def test_the_bootstrap_of_one_pair_is_the_one_by_hand() -> None:
    draws = np.random.default_rng(0).normal([0.8, 0.7], 0.02, size=(4000, 2))
    (found,) = row_differences(np.array([0.8, 0.7]), draws, [1, 1], None)
    assert found.value == pytest.approx(0.1)
    ends = np.quantile(draws[:, 0] - draws[:, 1], [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx(ends, abs=0.003)


def test_a_draw_without_a_score_does_not_count() -> None:
    draws = np.random.default_rng(0).normal([0.8, 0.7], 0.02, size=(500, 2))
    without = row_differences(np.array([0.8, 0.7]), draws[1:], [1, 1], None)
    draws[0, 1] = np.nan
    assert row_differences(np.array([0.8, 0.7]), draws, [1, 1], None) == without


def equal_runs(random: np.random.Generator, runs: int, rows: int = 250) -> tuple[np.ndarray, ...]:
    """Runs that are right on 70% of the rows: scores, scores by fold, scores of resamples."""
    right = (random.random((runs, rows)) < 0.7).astype(np.float64)
    drawn = random.multinomial(rows, np.full(rows, 1 / rows), size=400)
    by_fold = right.reshape(runs, 5, -1).mean(axis=2)
    return right.mean(axis=1), by_fold, drawn @ right.T / rows


def test_the_best_of_ten_equal_runs_is_seldom_clearly_ahead_of_any() -> None:
    # By Bonferroni over the best's nine intervals, 14% of such tens had one above zero.
    by_folds = over_rows = 0
    for seed in range(150):
        values, by_fold, draws = equal_runs(np.random.default_rng(seed), 10)
        order = np.argsort(-values)
        values, by_fold, draws = values[order], by_fold[order], draws[:, order]
        found = fold_differences(by_fold, 0.25, [1] * 10, None)
        by_folds += any(pair.clear for pair, _ in found)
        over_rows += any(pair.clear for pair in row_differences(values, draws, [1] * 10, None))
    # At 5%, more than 14 of 150 have a chance of 0.01.
    assert by_folds <= 14
    assert over_rows <= 14


def test_a_run_that_is_better_is_found_among_ten() -> None:
    values, by_fold, draws = equal_runs(np.random.default_rng(0), 10, rows=1000)
    values[0], by_fold[0], draws[:, 0] = values[0] + 0.3, by_fold[0] + 0.3, draws[:, 0] + 0.3
    assert all(pair.clear for pair in row_differences(values, draws, [1] * 10, None))
    assert all(pair.clear for pair, _ in fold_differences(by_fold, 0.25, [1] * 10, None))


def test_seed_noise_is_the_variance_between_the_seeds_of_a_config() -> None:
    pooled = [np.array([0.70, 0.74]), np.array([0.60, 0.62, 0.67]), np.array([0.9])]
    # Whole runs move up and down, and nothing else does.
    by_fold = [scores[:, None] + np.array([[0.0, 0.1, -0.1]]) for scores in pooled]
    found = seed_noise(by_fold, pooled)
    assert found is not None
    pooled_variance = (1 * pooled[0].var(ddof=1) + 2 * pooled[1].var(ddof=1)) / 3
    assert (found.rows, found.degrees) == (pytest.approx(pooled_variance), 3)
    assert found.folds == pytest.approx(pooled_variance)
    assert seed_noise(by_fold[2:], pooled[2:]) is None


def test_noise_of_single_folds_is_not_counted_twice() -> None:
    random = np.random.default_rng(0)
    by_fold = [random.normal(0.7, 0.02, size=(2, 5)) for _ in range(400)]
    found = seed_noise(by_fold, [scores.mean(axis=1) for scores in by_fold])
    assert found is not None
    assert found.rows == pytest.approx(0.02**2 / 5, rel=0.15)
    assert found.folds < 0.1 * found.rows


def test_two_equal_configs_of_a_noisy_training_are_told_apart_only_with_one_seed() -> None:
    # Seeds move a run by 0.05, more than rows (0.03) do: with one seed each, the bootstrap over
    # rows, which can't see that, takes chance for a difference; two seeds each tell it.
    wrong = {1: 0, 2: 0}
    for draw in range(200):
        random = np.random.default_rng(draw)
        for seeds in wrong:
            runs = random.normal(0.7, 0.05, size=(2, seeds))
            rows = random.normal(0, 0.02, size=(2, 1))
            draws = runs.mean(axis=1) + (rows + random.normal(0, 0.02, size=(2, 400))).T
            by_fold = [np.repeat(r[:, None], 5, axis=1) for r in runs]
            noise = seed_noise(by_fold, list(runs))
            values = runs.mean(axis=1) + rows[:, 0]
            draws += values - draws.mean(axis=0)
            (found,) = row_differences(values, draws, [seeds, seeds], noise)
            wrong[seeds] += found.clear or found.high < 0
    assert wrong[1] / 200 > 0.3
    assert wrong[2] / 200 <= 0.08


def test_the_noise_of_seeds_widens_both_tests_by_howes_rule() -> None:
    noise = SeedNoise(rows=0.01**2, folds=0.01**2, degrees=2)
    scores = np.stack([APART, np.zeros(5)])
    ((found, _),) = fold_differences(scores, 0.0, [2, 2], noise)
    own = stats.t.ppf(0.975, 4) * math.sqrt(APART.var(ddof=1) / 5)
    added = stats.t.ppf(0.975, 2) * 0.01
    assert found.high - found.value == pytest.approx(math.hypot(own, added))
    draws = np.random.default_rng(0).normal([0.8, 0.7], 0.002, size=(4000, 2))
    (over_rows,) = row_differences(np.array([0.8, 0.7]), draws, [2, 2], noise)
    # Rows hardly move the scores: what is left is t with the seeds' two degrees.
    assert over_rows.high - over_rows.value == pytest.approx(0.01 * stats.t.ppf(0.975, 2), rel=0.1)
