"""Temperatures: known ones are found, labels stay."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import log_loss as of_scikit_learn

from foldwise.decisions.temperature import Of, fit_temperature, log_loss, temper

ROWS = arrays(np.float64, (4, 3), elements=st.floats(1e-9, 1))
RNG = np.random.default_rng(0)


def shares(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def draw(probabilities: np.ndarray) -> np.ndarray:
    """Class ids that come true as often as they should."""
    return np.array([RNG.choice(len(p), p=p) for p in probabilities])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_of_classes_is_found(temperature: float) -> None:
    scores = RNG.normal(0, 2, (4000, 5))
    target = draw(shares(scores / temperature))
    assert fit_temperature(shares(scores), target, "class") == pytest.approx(temperature, rel=0.08)


def test_the_temperature_of_labels_is_found() -> None:
    scores = RNG.normal(-1, 2, (2000, 4))
    target = (RNG.random(scores.shape) < 1 / (1 + np.exp(-scores / 2))).astype(np.int64)
    values = 1 / (1 + np.exp(-scores))
    assert fit_temperature(values, target, "labels") == pytest.approx(2, rel=0.1)


def test_the_temperature_of_orders_is_found() -> None:
    raw = shares(RNG.normal(0, 2, (4000, 5)))
    target = draw(temper(raw, 2.0, "order"))
    assert fit_temperature(raw, target, "order") == pytest.approx(2, rel=0.1)


def test_few_rows_that_are_all_right_dont_make_an_answer_certain() -> None:
    raw = np.tile([0.7, 0.2, 0.1], (10, 1))
    found = fit_temperature(raw, np.zeros(10, dtype=np.int64), "class")
    assert 0.4 < found < 1
    assert temper(raw, found, "class").max() < 0.995


@settings(max_examples=60, deadline=None)
@given(ROWS, st.floats(0.05, 20), st.sampled_from(get_args(Of)))
def test_a_temperature_moves_no_label(values: np.ndarray, temperature: float, of: Of) -> None:
    raw = values if of == "labels" else values / values.sum(axis=1, keepdims=True)
    made = temper(raw, temperature, of)
    assert np.isfinite(made).all()
    assert ((made >= 0) & (made <= 1)).all()
    if of == "class":
        at = np.arange(len(raw)), raw.argmax(axis=1)
        np.testing.assert_allclose(made[at], made.max(axis=1), rtol=1e-12)
    elif of == "labels":
        clear = np.abs(raw - 0.5) > 1e-12
        assert ((made >= 0.5) == (raw >= 0.5))[clear].all()
    else:
        above, tempered = (p[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:] for p in (raw, made))
        clear = np.abs(above - 0.5) > 1e-9
        assert ((tempered > 0.5) == (above > 0.5))[clear].all()
    if of != "labels":
        np.testing.assert_allclose(made.sum(axis=1), 1)


def test_temperature_one_changes_no_bit() -> None:
    raw = shares(RNG.normal(size=(5, 3)))
    assert temper(raw, 1.0, "class") is raw


def test_the_log_loss_is_scikit_learns() -> None:
    raw, target = shares(RNG.normal(size=(50, 3))), RNG.integers(0, 3, 50)
    assert log_loss(raw, target, "class") == pytest.approx(of_scikit_learn(target, raw))
    sets = RNG.integers(0, 2, (50, 3))
    each = np.mean(
        [of_scikit_learn(s, p, labels=[0, 1]) for s, p in zip(sets.T, raw.T, strict=True)]
    )
    assert log_loss(raw, sets, "labels") == pytest.approx(each)
