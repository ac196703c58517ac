"""Blends: against closed forms and brute force."""

from __future__ import annotations

import numpy as np
import pytest

from foldwise.ensemble.blend import blend, fit_weights


def noisy(target: np.ndarray, n: int, sharpness: float, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    scores = random.normal(size=(len(target), n))
    scores[np.arange(len(target)), target] += 1.0
    powers = np.exp(sharpness * scores)
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.fixture
def target() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 4, 600)


def log_loss(made: np.ndarray, target: np.ndarray) -> float:
    return float(-np.log(made[np.arange(len(target)), target]).mean())


def test_a_single_member_is_the_weight_one(target: np.ndarray) -> None:
    one, two = (noisy(target, 4, 1.0, seed) for seed in (1, 2))
    np.testing.assert_allclose(blend(np.array([0.0, 1.0]), [one, two], "label"), two, atol=1e-12)


def test_weights_are_those_of_the_least_log_loss(target: np.ndarray) -> None:
    members = [noisy(target, 4, sharpness, seed) for sharpness, seed in ((1.0, 1), (2.0, 2))]
    found = fit_weights(members, target, "label")
    tried = np.arange(0, 1.5, 0.05)
    losses = {
        (a, b): log_loss(blend(np.array([a, b]), members, "label"), target)
        for a in tried
        for b in tried
    }
    assert log_loss(blend(found, members, "label"), target) <= min(losses.values()) + 1e-3
    assert found == pytest.approx(min(losses, key=losses.get), abs=0.1)


def test_an_overconfident_member_is_cooled(target: np.ndarray) -> None:
    alone = fit_weights([noisy(target, 4, 3.0, seed=1)], target, "label")
    # Scores three times as sharp as the truth (1) want the power of a third.
    assert alone == pytest.approx([1 / 3], abs=0.05)


def test_noise_gets_no_weight(target: np.ndarray) -> None:
    random = np.random.default_rng(3).dirichlet(np.ones(4), len(target))
    weights = fit_weights([noisy(target, 4, 1.0, seed=1), random], target, "label")
    assert weights[1] < 0.1 < 0.8 < weights[0]


def test_labels_are_blended_one_by_one() -> None:
    random = np.random.default_rng(0)
    target = (random.random((500, 3)) < 0.3).astype(np.float64)
    member = 1 / (1 + np.exp(-(2 * target - 1 + random.normal(size=target.shape))))
    weights = fit_weights([member, np.full_like(member, 0.5)], target, "labels")
    made = blend(weights, [member, np.full_like(member, 0.5)], "labels")
    np.testing.assert_allclose(
        np.log(made / (1 - made)), weights[0] * np.log(member / (1 - member)), rtol=1e-9
    )
    assert weights[0] > 1


def test_numbers_are_blended_by_least_squares_whatever_their_offset() -> None:
    random = np.random.default_rng(0)
    target = 1.7e9 + random.normal(size=(400, 1)) * 100
    good, poor = (
        target + random.normal(size=(400, 1)) * 20,
        target + random.normal(size=(400, 1)) * 60,
    )
    weights = fit_weights([good, poor], target, "number")
    assert weights.sum() == pytest.approx(1)
    # Independent errors weigh as the inverse of their variance (Bates and Granger 1969).
    assert weights[0] == pytest.approx(0.9, abs=0.04)
    assert (
        np.abs(blend(weights, [good, poor], "number") - target).mean()
        < np.abs(good - target).mean()
    )
