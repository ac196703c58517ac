"""Losses and class weights against closed forms and torch's own."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch import nn

from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError
from foldwise.task import Multiclass
from foldwise.training.losses import CrossEntropy, class_weights
from foldwise.usercode import UserCode

CLASSES = ["a", "b", "c"]
COUNTS = (100, 25, 4)
TARGET = np.repeat([0, 1, 2], COUNTS)


def task(**loss: object) -> Multiclass:
    config = Config.model_validate(
        {
            "run": {"name": "a"},
            "data": {"path": "a.csv", "target": "label", "text": ["text"]},
            "loss": loss,
        }
    )
    built = Multiclass(config, UserCode())
    built.classes = CLASSES
    return built


@pytest.mark.parametrize(
    ("rule", "shape"),
    [
        ("sqrt", [1 / 10, 1 / 5, 1 / 2]),
        ("balanced", [1 / 100, 1 / 25, 1 / 4]),
        ("effective", [0.001 / (1 - 0.999**n) for n in COUNTS]),
        ({"a": 1.0, "b": 2.0, "c": 10.0}, [1, 2, 10]),
    ],
)
def test_weights_follow_the_rule_and_average_to_one_over_the_training_rows(
    rule: str | dict[str, float], shape: list[float]
) -> None:
    weights = class_weights(rule, TARGET, CLASSES)
    assert weights is not None
    scale = sum(COUNTS) / sum(n * w for n, w in zip(COUNTS, shape, strict=True))
    np.testing.assert_allclose(weights.numpy(), np.array(shape) * scale, rtol=1e-6)
    assert weights[torch.from_numpy(TARGET)].double().mean().item() == pytest.approx(1, abs=1e-6)


def test_balanced_is_scikit_learns() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    expected = compute_class_weight("balanced", classes=np.arange(3), y=TARGET)
    weights = class_weights("balanced", TARGET, CLASSES)
    assert weights is not None
    np.testing.assert_allclose(weights.numpy(), expected, rtol=1e-6)


def test_none_is_no_weights() -> None:
    assert class_weights("none", TARGET, CLASSES) is None


def test_class_without_training_rows_weighs_nothing_and_the_others_average_to_one() -> None:
    weights = class_weights("sqrt", np.repeat([0, 2], [9, 4]), CLASSES)
    assert weights is not None
    assert weights[1] == 0
    assert (9 * weights[0] + 4 * weights[2]).item() == pytest.approx(13, rel=1e-6)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"a": 1.0, "b": 1.0}, "'c' is missing; the classes are: a, b, c"),
        ({"a": 1.0, "b": 1.0, "c": 1.0, "x": 1.0}, "'x' is no class of the target"),
    ],
)
def test_map_with_wrong_labels_is_refused(rule: dict[str, float], message: str) -> None:
    with pytest.raises(FoldwiseError, match=re.escape(message)):
        class_weights(rule, TARGET, CLASSES)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy_is_torchs_row_by_row(weighted: bool, smoothing: float) -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(7, 3), torch.randint(3, (7,))
    weight = torch.tensor([0.5, 1.0, 3.0]) if weighted else None
    losses = CrossEntropy(weight, smoothing)(logits, target)
    expected = nn.CrossEntropyLoss(weight, reduction="none", label_smoothing=smoothing)
    torch.testing.assert_close(losses, expected(logits, target))


def test_weighted_cross_entropy_is_the_closed_form() -> None:
    logits, weight = torch.tensor([[1.0, 2.0, 0.5]]), torch.tensor([1.0, 3.0, 1.0])
    probability = float(np.exp(2) / (np.e + np.exp(2) + np.exp(0.5)))
    loss = CrossEntropy(weight)(logits, torch.tensor([1]))
    assert loss.item() == pytest.approx(-3 * np.log(probability), rel=1e-6)


def test_loss_of_torch_is_built_without_a_mean_and_with_the_class_weights() -> None:
    built = task(name="torch.nn.CrossEntropyLoss", class_weights="none")
    built.weights = [0.5, 1.0, 3.0]
    logits, target = torch.randn(4, 3), torch.tensor([0, 1, 2, 2])
    expected = nn.functional.cross_entropy(
        logits, target, torch.tensor(built.weights), reduction="none"
    )
    torch.testing.assert_close(built.loss(logits, {"target": target}), expected)


def test_arguments_reach_a_loss_of_torch() -> None:
    built = task(name="torch.nn.MultiMarginLoss", margin=0.3)
    logits, target = torch.randn(4, 3), torch.tensor([0, 1, 2, 2])
    expected = nn.functional.multi_margin_loss(logits, target, margin=0.3, reduction="none")
    torch.testing.assert_close(built.loss(logits, {"target": target}), expected)


@pytest.mark.filterwarnings("ignore:Using a target size:UserWarning:torch")
def test_loss_that_does_not_fit_the_task_is_refused_before_training() -> None:
    with pytest.raises(FoldwiseError, match=r"^loss\.name torch\.nn\.MSELoss"):
        task(name="torch.nn.MSELoss").check()


def test_argument_that_a_loss_does_not_take_is_refused() -> None:
    with pytest.raises(FoldwiseError, match=r"^loss: torch\.nn\.MultiMarginLoss takes no 'gamma'"):
        task(name="torch.nn.MultiMarginLoss", gamma=2).check()
