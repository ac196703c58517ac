"""The multiclass half of a task: labels, loss, columns and metrics."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.metrics import f1_score

from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError
from foldwise.metrics.build import build_metric
from foldwise.parts.usercode import UserCode
from foldwise.preparation.build import build_task
from foldwise.tasks.multiclass import Multiclass


@pytest.fixture
def make_task() -> Callable[..., Multiclass]:
    def make(**sections: Any) -> Multiclass:
        data = {"path": "a.csv", "target": "label", "text": ["text"]}
        config = Config.model_validate({"run": {"name": "a"}, "data": data, **sections})
        return Multiclass(config, UserCode())

    return make


def labels(*values: Any) -> pl.DataFrame:
    return pl.DataFrame({"label": values})


def test_classes_are_the_labels_that_occur_sorted(make_task: Callable[..., Multiclass]) -> None:
    task = make_task()
    task.fit_target(labels("no", "001", "b", "no"))
    assert task.classes == ["001", "b", "no"]
    assert task.target_ids(labels("no", "001", "new")).tolist() == [2, 0, -1]
    assert task.stratify_key(labels("no", "001")).tolist() == ["no", "001"]


def test_state_carries_classes_and_weights_over(make_task: Callable[..., Multiclass]) -> None:
    task = make_task(loss={"class_weights": "balanced"})
    frame = labels("a", "a", "a", "b")
    task.fit_target(frame)
    task.fit_rows(frame)
    assert task.weights == pytest.approx([2 / 3, 2.0])
    other = make_task(loss={"class_weights": "balanced"})
    other.load_state(task.state())
    logits, batch = torch.randn(3, 2), {"target": torch.tensor([0, 1, 1])}
    assert torch.equal(task.loss(logits, batch), other.loss(logits, batch))


def test_weights_are_fitted_on_the_given_rows_alone(make_task: Callable[..., Multiclass]) -> None:
    task = make_task(loss={"class_weights": "balanced"})
    task.fit_target(labels("a", "a", "a", "b"))
    task.fit_rows(labels("a", "b"))
    assert task.weights == pytest.approx([1.0, 1.0])


def test_columns_hold_softmax_logits_and_the_label_of_the_largest(
    make_task: Callable[..., Multiclass],
) -> None:
    task = make_task()
    task.classes = ["001", "no", "x y"]
    logits = np.array([[1.0, 3.0, 2.0], [1000.0, -1000.0, 999.0]], dtype=np.float32)
    columns = task.to_columns(logits)
    expected = torch.from_numpy(logits).double().softmax(1).numpy()
    assert columns["prediction"] == ["no", "001"]
    for i, name in enumerate(task.classes):
        np.testing.assert_allclose(columns[f"prob_{name}"], expected[:, i], atol=1e-12)
        np.testing.assert_array_equal(columns[f"logit_{name}"], logits[:, i])


def test_label_that_no_class_has_counts_as_wrong(make_task: Callable[..., Multiclass]) -> None:
    task = make_task()
    task.classes = ["a", "b"]
    target = ["a", "b", "new", "a"]
    frame = pl.DataFrame({"target": target, **task.to_columns(np.eye(2)[[0, 1, 1, 1]])})
    ids, predicted, probabilities = task.to_arrays(frame)
    assert ids.tolist() == [0, 1, 2, 0]
    assert predicted.tolist() == [0, 1, 1, 1]
    assert probabilities.shape == (4, 2)
    scores = {
        metric.name: metric.compute(ids, predicted, probabilities) for metric in task.metrics()
    }
    expected = f1_score(target, frame["prediction"], average="macro")
    assert scores["f1_macro"] == pytest.approx(expected)
    assert scores["accuracy"] == pytest.approx(0.5)


def test_labels_that_are_numbers_match_their_classes(make_task: Callable[..., Multiclass]) -> None:
    # A task with rows of its own may hold integers; classes are always text.
    task = make_task()
    task.fit_target(labels(0, 1, 10))
    frame = pl.DataFrame({"target": [0, 10, 1], **task.to_columns(np.eye(3)[[0, 2, 1]])})
    ids, predicted, _ = task.to_arrays(frame)
    assert ids.tolist() == predicted.tolist() == [0, 2, 1]


def test_task_without_rows_asks_for_a_table(make_task: Callable[..., Multiclass]) -> None:
    with pytest.raises(FoldwiseError, match=r"^data\.path is null, but task multiclass brings no"):
        make_task().rows()


@pytest.fixture
def code(tmp_path: Path) -> UserCode:
    (tmp_path / "mine.py").write_text(
        "def share(target, prediction, probabilities, label=0):\n"
        "    return (prediction == label).mean()\n"
        "def error(target, prediction, probabilities):\n"
        "    return (prediction != target).mean()\n"
        "error.greater_is_better = False\n"
        "from torch import nn\n"
        "class Scalar(nn.Module):\n"
        "    def forward(self, logits, target): return logits.sum()\n"
        "class Bare:\n"
        "    def build_model(self): pass\n"
        "number = 3\n"
    )
    return UserCode([tmp_path / "mine.py"])


ARRAYS = (np.array([0, 1, 1, 2]), np.array([0, 1, 2, 2]), np.eye(3)[[0, 1, 2, 2]])


def test_metric_of_ones_own_gets_its_arguments(code: UserCode) -> None:
    assert build_metric("mine.share", {"label": 2}, code, "metrics[0]").compute(*ARRAYS) == 0.5


def test_metric_says_if_less_is_better(code: UserCode) -> None:
    metric = build_metric("mine.error", {}, code, "metrics[0]")
    assert not metric.greater_is_better
    assert metric.compute(*ARRAYS) == 0.25
    assert build_metric("mine.share", {}, code, "metrics[0]").greater_is_better


def test_metric_of_torchmetrics_sees_whole_folds(code: UserCode) -> None:
    name = "torchmetrics.classification.MulticlassF1Score"
    metric = build_metric(name, {"average": "macro"}, code, "metrics[0]")
    expected = f1_score(*ARRAYS[:2], average="macro")
    assert metric.greater_is_better
    assert metric.compute(*ARRAYS) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mine.number", r"^metrics\[0\]: mine\.number is not a function$"),
        ("mine.shar", r"^metrics\[0\]: .*mine\.py has no 'shar' \(it has: share, error, nn, "),
        ("torchmetrics.classification.F", r"^metrics\[0\]: there is no metric 'torchmetrics\.cl"),
        ("subprocess.run", r"^metrics\[0\]: there is no metric 'subprocess\.run'"),
    ],
)
def test_metric_that_is_none_is_refused(code: UserCode, name: str, message: str) -> None:
    with pytest.raises(FoldwiseError, match=message):
        build_metric(name, {}, code, "metrics[0]").compute(*ARRAYS)


def test_loss_that_averages_by_itself_is_refused(
    make_task: Callable[..., Multiclass], code: UserCode
) -> None:
    task = make_task(loss={"name": "mine.Scalar"})
    task.classes = ["a", "b"]
    task.code = code
    with pytest.raises(
        FoldwiseError,
        match=r"^loss\.name mine\.Scalar: returns shape \(\); it must return one value",
    ):
        task.check()


def test_task_that_lacks_methods_is_refused_naming_them(
    make_task: Callable[..., Multiclass], code: UserCode
) -> None:
    config = make_task().config.model_copy(update={"task": "mine.Bare"})
    with pytest.raises(
        FoldwiseError, match=r"^task: mine\.Bare has no check, collate, dataset, fit"
    ):
        build_task(config, code)
