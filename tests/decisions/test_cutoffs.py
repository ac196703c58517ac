"""Cutoffs of ordered labels: by the law that the best line matches mean and deviation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import cohen_kappa_score

from foldwise.decisions.cutoffs import matched_cutoffs, mean_ranks, ranks_of

STEPS = np.array([-1.6, -1.0, -0.6, 0.0])


def drawn(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Ranks of five, and right probabilities of them."""
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=n)
    seen = (latent + rng.normal(size=n)) / 2
    above = norm.cdf((seen[:, None] - STEPS) / np.sqrt(0.5))
    edges = np.ones((n, 1))
    values = -np.diff(np.hstack([edges, above, 0 * edges]), axis=1)
    return np.searchsorted(STEPS, latent), values


def kappa(target: np.ndarray, named: np.ndarray) -> float:
    return float(cohen_kappa_score(target, named, weights="quadratic"))


def test_no_other_line_through_mean_ranks_has_a_larger_kappa() -> None:
    target, values = drawn(4000, 0)
    ranks = mean_ranks(values)
    cutoffs = matched_cutoffs(values, target)
    reached = kappa(target, ranks_of(values, cutoffs))
    median = (values[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:] > 0.5).sum(axis=1)
    assert reached > kappa(target, median) + 0.02
    assert reached > kappa(target, np.round(ranks).astype(int)) + 0.02
    steps = np.arange(4) + 0.5
    others = [
        kappa(target, ranks_of(values, ranks.mean() + (steps - target.mean() - shift) / slope))
        for slope in (0.7, 1.0, 1.3, 1.8, 2.5)
        for shift in (-0.3, 0.0, 0.3)
    ]
    assert reached > max(others) - 0.005


def test_named_ranks_have_the_mean_and_deviation_of_the_true_ones() -> None:
    target, values = drawn(4000, 1)
    named = ranks_of(values, matched_cutoffs(values, target))
    assert named.mean() == pytest.approx(target.mean(), abs=0.05)
    assert named.std() == pytest.approx(target.std(), rel=0.05)
    new, unseen = drawn(4000, 2)
    assert kappa(new, ranks_of(unseen, matched_cutoffs(values, target))) > 0.6


def test_probabilities_that_lean_to_one_side_are_put_right() -> None:
    target, values = drawn(4000, 4)
    leaning = values * np.array([4.0, 3.0, 2.0, 1.0, 0.5])
    leaning /= leaning.sum(axis=1, keepdims=True)
    assert mean_ranks(leaning).mean() < target.mean() - 0.3
    named = ranks_of(leaning, matched_cutoffs(leaning, target))
    assert named.mean() == pytest.approx(target.mean(), abs=0.15)


@pytest.mark.parametrize("target", [np.full(6, 3), np.array([0, 4, 4, 4, 4, 4])])
def test_what_says_the_same_of_every_row_is_named_by_the_mean(target: np.ndarray) -> None:
    values = np.tile([0.1, 0.1, 0.2, 0.3, 0.3], (6, 1))
    cutoffs = matched_cutoffs(values, target)
    assert np.isfinite(cutoffs).all()
    assert (np.diff(cutoffs) > 0).all()
    assert ranks_of(values, cutoffs).tolist() == [round(float(target.mean()))] * 6


def test_a_target_that_never_changes_is_named_everywhere() -> None:
    _, values = drawn(50, 3)
    cutoffs = matched_cutoffs(values, np.full(50, 4))
    assert np.isfinite(cutoffs).all()
    assert (np.diff(cutoffs) > 0).all()


def test_a_mean_rank_on_a_cutoff_reaches_it() -> None:
    values = np.array([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5], [1.0, 0.0, 0.0]])
    assert ranks_of(values, np.array([0.5, 1.5])).tolist() == [1, 2, 0]
