"""What each kind of target learns from rows, and how logits become its columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from foldwise.config.schema import Config
from foldwise.encoding.batches import stack_targets
from foldwise.errors import FoldwiseError
from foldwise.parts.registry import find_part
from foldwise.parts.usercode import UserCode
from foldwise.tasks.regression import Regression
from foldwise.tasks.task import with_taught


def make(task: str, **sections: Any) -> Any:
    data = {"path": "a.csv", "target": "y", "text": ["text"], **sections.pop("data", {})}
    config = Config.model_validate({"run": {"name": "a"}, "task": task, "data": data, **sections})
    return find_part("target", task, UserCode(), "task")(config, UserCode())


def rows(*values: Any) -> pl.DataFrame:
    return pl.DataFrame({"y": values})


# Ordinal.


def test_labels_that_are_numbers_are_ordered_as_numbers() -> None:
    target = make("ordinal")
    target.fit_target(rows("10", "2", "-1", "2"))
    assert target.classes == ["-1", "2", "10"]
    assert target.n_outputs == 2
    assert target.target_values(rows("10", "-1")).tolist() == [2, 0]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["low", "high"], r"^column 'y': label 'high' isn't a number, so the order isn't known; "),
        (["1", "1.0", "2"], r"^column 'y': labels '1' and '1\.0' are the same number; write them"),
    ],
)
def test_order_that_is_not_known_is_asked_for(labels: list[str], message: str) -> None:
    with pytest.raises(FoldwiseError, match=message):
        make("ordinal").fit_target(rows(*labels))


def test_label_outside_of_the_order_is_refused() -> None:
    target = make("ordinal", data={"order": ["low", "high"]})
    message = "^column 'y': label 'hihg' isn't among those of data.order: low, high$"
    with pytest.raises(FoldwiseError, match=message):
        target.fit_target(rows("low", "hihg"))


@given(hnp.arrays(np.float32, (5, 3), elements=st.floats(-1000, 1000, width=32)))
def test_chance_of_exceeding_a_rank_never_rises_with_it(logits: np.ndarray) -> None:
    target = make("ordinal")
    target.classes = ["1", "2", "3", "4"]
    columns = target.to_columns(logits)
    probabilities = np.stack([columns[f"prob_{name}"] for name in target.classes], axis=1)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert (probabilities >= 0).all()
    exceeding = 1 - probabilities.cumsum(axis=1)
    assert (np.diff(exceeding, axis=1) <= 1e-12).all()


def test_probabilities_and_logits_of_ordered_labels_say_the_same() -> None:
    target = make("ordinal")
    target.classes = ["1", "2", "3"]
    logits = np.array([[0.5, -1.0], [2.0, 3.0]])
    columns = target.to_columns(logits)
    assert columns["prediction"] == ["2", "3"]
    probabilities = np.stack([columns[f"prob_{name}"] for name in "123"], axis=1)
    again = target.from_probabilities(probabilities)
    assert again["prediction"] == columns["prediction"]
    for i, name in enumerate(("logit_above_1", "logit_above_2")):
        np.testing.assert_allclose(again[name], logits[:, i])


def test_class_weights_weigh_rows_of_ordered_labels() -> None:
    target = make("ordinal", loss={"class_weights": "balanced"})
    frame = rows("1", "1", "1", "2")
    target.fit_target(frame)
    target.fit_rows(frame)
    losses = target.loss(torch.zeros(2, 1), {"target": torch.tensor([0, 1])})
    np.testing.assert_allclose(losses, np.log(2) * np.array([2 / 3, 2]), rtol=1e-6)


# Numbers.


def test_numbers_are_standardised_by_the_training_rows_and_come_back_in_their_units() -> None:
    target = make("regression")
    target.fit_rows(rows(10.0, 14.0))
    assert (target.mean, target.deviation) == (12.0, 2.0)
    columns = target.to_columns(np.array([[0.0], [1.5]], dtype=np.float32))
    assert columns["prediction"].tolist() == [12.0, 15.0]
    other = make("regression")
    other.load_state(target.state())
    batch = {"target": torch.tensor([16.0, 12.0])}
    assert other.loss(torch.tensor([[1.0], [0.5]]), batch).tolist() == [1.0, 0.25]


@pytest.mark.parametrize(
    ("loss", "expected"),
    [("mse", 9.0), ("mae", 3.0), ("huber", 2.5), ({"name": "huber", "delta": 2.0}, 4.0)],
)
def test_losses_of_numbers(loss: Any, expected: float) -> None:
    target = make("regression", loss=loss)
    assert target.loss(torch.zeros(1, 1), {"target": torch.tensor([3.0])}).tolist() == [expected]


def test_numbers_far_from_zero_keep_their_differences() -> None:
    # Seconds since 1970 over seven minutes: as float32 these thousand were four values.
    values = 1.7e9 + np.arange(1000) * 0.4
    frame = pl.DataFrame({"y": values})
    target = make("regression")
    target.fit_rows(frame)
    found = target.target_values(frame)
    assert (found.dtype, found.tolist()) == (np.float64, values.tolist())
    batch = stack_targets(list(found))
    outputs = torch.from_numpy((values - values.mean()) / values.std()).float().unsqueeze(1)
    losses = target.loss(outputs, batch)
    assert losses.dtype == torch.float32  # as the model's outputs are, whatever the loss
    assert losses.max() < 1e-10
    predictions = target.to_columns(outputs.numpy())["prediction"]
    assert predictions.dtype == np.float64
    np.testing.assert_allclose(predictions, values, rtol=0, atol=1e-4)


@given(value=st.floats(-1e12, 1e12), n=st.integers(1, 50))
def test_training_rows_that_are_all_alike_have_a_deviation_of_one(value: float, n: int) -> None:
    # The mean of equal numbers may be off by a rounding, which is no deviation to divide by.
    target = make("regression")
    target.fit_rows(rows(*[value] * n))
    assert target.deviation == 1.0


def test_numbers_that_are_all_alike_teach_nothing() -> None:
    with pytest.raises(FoldwiseError, match=r"^column 'y' holds a single value, 3\.0: nothing to"):
        make("regression").fit_target(rows(3.0, 3.0))


def test_task_of_ones_own_is_told_which_metrics_fit_numbers() -> None:
    config = make("multiclass").config  # as a subclass of Regression has it by default
    with pytest.raises(FoldwiseError, match=r"^metric f1_macro isn't for a regression target: ch"):
        Regression(config, UserCode()).check()


def test_loss_without_one_value_a_row_is_refused() -> None:
    target = make("regression", loss="torch.nn.GaussianNLLLoss")
    with pytest.raises(FoldwiseError, match=r"^loss\.name torch\.nn\.GaussianNLLLoss fails on log"):
        target.check()


# Sets of labels.


def test_labels_are_indicators_and_text_again() -> None:
    target = make("multilabel", folds={"n": 2})
    target.fit_target(rows("a;b", "", "b", "a;c", "c"))
    assert target.classes == ["a", "b", "c"]
    assert target.target_values(rows("a;c", "", "b;new")).tolist() == [
        [1, 0, 1],
        [0] * 3,
        [0, 1, 0],
    ]
    columns = target.to_columns(np.array([[3.0, -1.0, 0.0], [-2.0, -800.0, -2.0]]))
    assert columns["prediction"] == ["a;c", ""]
    np.testing.assert_allclose(columns["prob_a"], [1 / (1 + np.exp(-3)), 1 / (1 + np.exp(2))])
    assert columns["prob_b"][1] < 1e-300
    made = target.from_probabilities(np.array([[0.25, 0.5, 1.0]]))
    assert made["prediction"] == ["b;c"]
    assert made["logit_a"] == pytest.approx(np.log(1 / 3))


def test_new_label_counts_as_missed_and_a_dropped_one_not_at_all() -> None:
    target = make("multilabel", folds={"n": 2}, data={"rare_classes": "drop"})
    target.fit_target(rows("a", "a;rare"))
    assert target.classes == ["a"]
    frame = pl.DataFrame({"target": ["a;rare", "new"], **target.to_columns(np.ones((2, 1)))})
    indicators, predicted, probabilities = target.to_arrays(frame)
    assert indicators.tolist() == [[1, 0], [0, 1]]
    assert predicted.tolist() == [[1, 0], [1, 0]]
    assert probabilities.shape == (2, 1)


def test_label_rarer_than_folds_is_refused() -> None:
    with pytest.raises(FoldwiseError, match=r"^column 'y': fewer than folds\.n = 2 rows have lab"):
        make("multilabel", folds={"n": 2}).fit_target(rows("a", "a;rare"))


@pytest.mark.parametrize(
    ("rule", "weights"),
    [
        ("none", None),
        ("balanced", [3.0, 1 / 3]),
        ("sqrt", [3**0.5, 3**-0.5]),
        ({"a": 2.0, "b": 5.0}, [2.0, 5.0]),
    ],
)
def test_class_weights_weigh_positives(rule: Any, weights: list[float] | None) -> None:
    target = make("multilabel", loss={"class_weights": rule})
    target.classes = ["a", "b"]
    target.fit_rows(rows("a;b", "b", "b", ""))
    assert target.weights == (None if weights is None else pytest.approx(weights))
    other = make("multilabel", loss={"class_weights": rule})
    other.load_state(target.state())
    batch = {"target": torch.tensor([[1.0, 0.0]])}
    expected = np.log(2) * (1 + (1 if weights is None else weights[0])) / 2
    assert other.loss(torch.zeros(1, 2), batch).item() == pytest.approx(expected)


@pytest.mark.parametrize(("rule", "expected"), [("none", [2 / 6, 4 / 6]), ("balanced", None)])
def test_labels_begin_at_their_share_of_the_training_rows(
    rule: str, expected: list[float] | None
) -> None:
    target = make("multilabel", loss={"class_weights": rule})
    target.classes = ["a", "b"]
    assert target.start() is None  # nothing was fitted
    target.fit_rows(rows("a;b", "b", "b", ""))
    columns = target.to_columns(target.start()[None])
    shares = [columns["prob_a"][0], columns["prob_b"][0]]
    # Of two rows more, one with the label: a label that no row has isn't impossible. Weighed until
    # both sides are alike, each is about as likely as not.
    assert shares == (pytest.approx(expected) if expected else pytest.approx([0.6, 0.4]))


def test_torch_loss_is_averaged_over_labels() -> None:
    target = make("multilabel", loss="torch.nn.MultiLabelSoftMarginLoss")
    target.classes = ["a", "b"]
    target.check()
    soft = target.loss(torch.zeros(2, 2), {"target": torch.ones(2, 2)})
    target = make("multilabel", loss="torch.nn.BCEWithLogitsLoss")
    target.classes = ["a", "b"]
    target.check()
    plain = target.loss(torch.zeros(2, 2), {"target": torch.ones(2, 2)})
    assert soft.tolist() == plain.tolist() == pytest.approx([np.log(2)] * 2)


@pytest.mark.parametrize("task", ["ordinal", "regression"])
def test_built_in_losses_pass_their_own_check(task: str) -> None:
    target = make(task)
    target.classes = ["1", "2"]
    target.check()
    assert target.loss(torch.zeros(2, 1), {"target": torch.tensor([0, 1])}).shape == (2,)


# Rows that are taught something else than their label.


@pytest.mark.parametrize(
    ("task", "loss", "passes"),
    [
        ("multiclass", {"name": "cross_entropy", "class_weights": {"1": 2.0, "2": 1, "3": 0.5}}, 1),
        ("multiclass", {"name": "focal"}, 1),
        ("multiclass", {"name": "r_drop"}, 2),
        ("ordinal", {}, 1),
    ],
)
def test_loss_of_taught_rows_is_the_mean_over_the_labels(
    task: str, loss: dict[str, Any], passes: int
) -> None:
    target = make(task, loss=loss)
    frame = rows("1", "2", "3", "2")
    target.fit_target(frame)
    values = np.array([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0], [0.0, 0.6, 0.4], [0.1, 0.1, 0.8]])
    taught = with_taught(frame.with_columns(y=pl.Series(["1", None, "3", "2"])), values)
    target.fit_rows(taught)  # a row without a label weighs no class
    assert target.class_counts == [1, 1, 1]
    logits = torch.randn(4 * passes, target.n_outputs, generator=torch.manual_seed(0))
    found = target.loss(
        logits, {"target": stack_targets([*target.target_values(taught)])["target"]}
    )
    expected = torch.zeros(4)
    for number in range(3):
        ids = torch.full((4,), number)
        expected += torch.tensor(values[:, number]).float() * target.loss(logits, {"target": ids})
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_soft_labels_of_the_plain_loss_are_those_of_torch() -> None:
    target = make("multiclass", loss={"class_weights": "none"})
    target.fit_target(rows("a", "b", "c"))
    values = torch.tensor([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]], dtype=torch.float64)
    logits = torch.tensor([[0.1, 2.0, -1.0], [0.5, 0.5, 3.0]])
    expected = torch.nn.functional.cross_entropy(logits, values.float(), reduction="none")
    np.testing.assert_allclose(target.loss(logits, {"target": values}), expected, rtol=1e-6)


def test_taught_sets_of_labels_and_numbers_are_targets_as_they_are() -> None:
    labels = make("multilabel")
    frame = rows("a;b", "b", "a", "a;b", "a;b", "a;b")
    labels.fit_target(frame)
    values = np.full((6, 2), 0.25)
    assert labels.target_values(with_taught(frame, values)).tolist() == values.tolist()
    number = make("regression")
    unlabelled = with_taught(rows(10.0, None), np.array([[11.0], [4.0]]))
    number.fit_rows(unlabelled)
    assert number.mean == 10.0
    assert number.target_values(unlabelled).tolist() == [11.0, 4.0]
