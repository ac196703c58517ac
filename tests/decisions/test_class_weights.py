"""Class weights: by the law that right probabilities times weights give the best recall."""

from __future__ import annotations

import numpy as np

from foldwise.decisions.class_weights import POWERS, class_weights, weighed

TARGET = np.repeat([0, 1, 2], [640, 160, 10])


def recall(seen: np.ndarray) -> float:
    right = seen.argmax(axis=1) == TARGET
    return float(np.mean([right[k == TARGET].mean() for k in range(3)]))


def test_weights_are_powers_of_the_inverse_of_a_classs_rows() -> None:
    assert class_weights(TARGET, 3, 0.0).tolist() == [1, 1, 1]
    assert class_weights(TARGET, 3, 0.5).tolist() == [1, 2, 8]
    assert class_weights(TARGET, 3, 1.0).tolist() == [1, 4, 64]
    # A class without rows counts as one with a single row.
    assert class_weights(TARGET, 4, 1.0)[3] == 640


def test_weighed_probabilities_sum_to_one() -> None:
    values = np.random.default_rng(0).dirichlet(np.ones(3), 50)
    found = weighed(values, np.array([1.0, 2.0, 8.0]))
    np.testing.assert_allclose(found.sum(axis=1), 1)
    np.testing.assert_allclose(found[:, 2] / found[:, 0], 8 * values[:, 2] / values[:, 0])


def test_the_inverse_is_best_for_the_mean_recall_of_right_probabilities() -> None:
    random = np.random.default_rng(0)
    scores = random.normal(size=(len(TARGET), 3))
    scores[np.arange(len(TARGET)), TARGET] += 1.0
    powers = np.exp(scores) * np.bincount(TARGET)
    values = powers / powers.sum(axis=1, keepdims=True)
    reached = {
        power: recall(weighed(values, class_weights(TARGET, 3, power)))
        for power in (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)
    }
    assert max(reached, key=reached.__getitem__) == POWERS["recall_macro"]
    assert reached[1.0] > reached[0.0] + 0.1
