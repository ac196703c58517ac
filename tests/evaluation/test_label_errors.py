from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import make_blobs
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from foldwise.evaluation.label_errors import likely_label_errors, witness


def test_five_percent_of_flipped_labels_are_found() -> None:
    x, true = make_blobs(1500, centers=4, cluster_std=0.9, random_state=0)
    rng = np.random.default_rng(0)
    flipped = rng.permutation(1500)[:75]
    given = true.copy()
    given[flipped] = (given[flipped] + rng.integers(1, 4, 75)) % 4
    model = LogisticRegression(max_iter=500)
    probabilities = cross_val_predict(model, x, given, cv=5, method="predict_proba")
    found = likely_label_errors(given, probabilities)
    hits = np.isin(found, flipped)
    assert hits.mean() > 0.75  # precision
    assert hits.sum() / 75 > 0.85  # recall
    assert hits[:30].mean() >= hits.mean()  # the likeliest stand first


def test_the_label_with_the_smallest_probability_stands_first() -> None:
    target = np.repeat([0, 1, 2], 100)
    probabilities = np.full((300, 3), 0.25)
    probabilities[np.arange(300), target] = 0.5
    # By margin (-0.60 for row 120, -0.84 for 250, -0.72 for 4) the order would be 250, 4, 120.
    probabilities[4] = [0.13, 0.85, 0.02]
    probabilities[120] = [0.61, 0.01, 0.38]
    probabilities[250] = [0.02, 0.91, 0.07]
    assert likely_label_errors(target, probabilities).tolist() == [120, 250, 4]


def test_clean_labels_are_left_alone() -> None:
    x, true = make_blobs(600, centers=3, cluster_std=0.5, random_state=1)
    probabilities = cross_val_predict(LogisticRegression(), x, true, cv=5, method="predict_proba")
    assert len(likely_label_errors(true, probabilities)) == 0


def test_classes_without_rows_and_unknown_labels_do_no_harm() -> None:
    rng = np.random.default_rng(0)
    target = rng.integers(2, size=200) * 2  # class 1 has no row
    target[:5] = 3  # and 3 no column
    probabilities = np.full((200, 3), 0.1)
    probabilities[np.arange(200), np.minimum(target, 2)] = 0.8
    probabilities[7] = [0.95, 0.0, 0.05] if target[7] == 2 else [0.05, 0.0, 0.95]
    assert likely_label_errors(target, probabilities).tolist() == [7]
    assert likely_label_errors(np.zeros(9, dtype=np.int64), np.ones((9, 1))).tolist() == []


@pytest.mark.filterwarnings("error")
def test_the_only_row_of_a_class_is_left_alone_without_a_warning() -> None:
    target = np.repeat([0, 1, 2], [100, 100, 1])
    probabilities = np.full((201, 3), 0.1)
    probabilities[np.arange(201), target] = 0.8
    probabilities[[5, 200]] = [0.1, 0.9, 0.0]
    assert likely_label_errors(target, probabilities).tolist() == [5]


def test_a_list_carries_how_good_its_model_is() -> None:
    target = np.array([0] * 60 + [1] * 40 + [2])  # label 2 is new to the model
    guess = target.copy() % 2
    guess[[0, 1, *range(60, 86)]] = 1 - guess[[0, 1, *range(60, 86)]]
    found = witness(target, np.eye(2)[guess])
    assert (found.rows, found.agrees, found.frequent) == (100, 0.72, 0.6)
    assert found.informed
    assert found.told.startswith(
        "The model agrees with 72.0% of the 100 labels (the most frequent one alone: 60.0%). Most "
        "of the list is likely to be its own mistakes: "
    )
    good = witness(target, np.eye(2)[target % 2])
    assert good.told == (
        "The model agrees with 100.0% of the 100 labels (the most frequent one alone: 60.0%)."
    )


def test_a_model_that_learnt_nothing_is_not_believed() -> None:
    target = np.array([0] * 60 + [1] * 40)
    found = witness(target, np.eye(2)[np.zeros(100, dtype=np.int64)])
    assert found.told == (
        "Don't believe this list: the model contradicts 40.0% of the labels, and is no better "
        "than always naming the most frequent one (60.0% of the rows)."
    )
