"""Losses and class weights against closed forms and torch's own."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from foldwise.config.schema import Config
from foldwise.config.training import Loss
from foldwise.errors import FoldwiseError
from foldwise.losses.classes import CrossEntropy, Focal, LogitAdjustment, RDrop, class_weights
from foldwise.parts.usercode import UserCode
from foldwise.preparation.resolve import resolve
from foldwise.tasks.multiclass import Multiclass

CLASSES = ["a", "b", "c"]
COUNTS = (100, 25, 4)
TARGET = np.repeat([0, 1, 2], COUNTS)


def task(code: UserCode | None = None, **loss: object) -> Multiclass:
    config = Config.model_validate(
        {
            "run": {"name": "a"},
            "data": {"path": "a.csv", "target": "label", "text": ["text"]},
            "loss": loss,
        }
    )
    built = Multiclass(config, code or UserCode())
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


def frame_of_counts() -> pl.DataFrame:
    return pl.DataFrame({"label": np.array(CLASSES)[TARGET]})


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_focal_is_the_closed_form(gamma: float, weighted: bool) -> None:
    torch.manual_seed(0)
    logits, target = 3 * torch.randn(7, 3), torch.randint(3, (7,))
    weight = torch.tensor([0.5, 1.0, 3.0]) if weighted else None
    p = logits.softmax(dim=1)[torch.arange(7), target]
    expected = -((1 - p) ** gamma) * p.log() * (1 if weight is None else weight[target])
    torch.testing.assert_close(Focal(weight, gamma)(logits, target), expected)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focals_gradient_is_finite_where_a_row_is_certain(gamma: float) -> None:
    logits = torch.tensor([[200.0, 0.0, 0.0], [0.0, 200.0, 0.0]], requires_grad=True)
    losses = Focal(gamma=gamma)(logits, torch.tensor([0, 0]))
    assert losses.tolist() == [0.0, 200.0]
    losses.sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("tau", [0.0, 1.0, 1.5])
def test_logit_adjustment_is_cross_entropy_of_logits_and_log_priors(
    tau: float, smoothing: float
) -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(7, 3), torch.randint(3, (7,))
    priors = np.array(COUNTS) / sum(COUNTS)
    adjusted = logits.double().numpy() + tau * np.log(priors)
    logs = adjusted - np.log(np.exp(adjusted).sum(axis=1, keepdims=True))
    aims = (1 - smoothing) * np.eye(3)[target] + smoothing / 3
    losses = LogitAdjustment(torch.tensor(COUNTS), tau, smoothing)(logits, target)
    np.testing.assert_allclose(losses.numpy(), -(aims * logs).sum(axis=1), rtol=1e-5)


def test_balanced_logits_have_the_least_adjusted_loss_where_priors_tell_all() -> None:
    # One feature value for all rows: the best plain classifier predicts the most frequent class,
    # the best balanced one has no preference. The minimum is found by gradient descent.
    target = torch.from_numpy(TARGET)
    logits = torch.zeros(3, requires_grad=True)
    loss = LogitAdjustment(torch.tensor(COUNTS))
    optimizer = torch.optim.LBFGS([logits], max_iter=50)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        mean = loss(logits.expand(len(target), 3), target).mean()
        mean.backward()
        return mean

    with torch.no_grad():
        logits += torch.tensor([1.0, -1.0, 0.5])
    optimizer.step(closure)
    assert (logits - logits.mean()).abs().max().item() < 1e-3


def test_logit_adjustment_stays_finite_for_a_class_without_training_rows() -> None:
    loss = LogitAdjustment(torch.tensor([9, 0, 4]))
    assert loss(torch.zeros(1, 3), torch.tensor([1])).item() == pytest.approx(np.log(14), rel=1e-6)


def test_priors_are_those_of_the_training_rows_and_come_back_with_the_state() -> None:
    fitted = task(name="logit_adjustment", tau=1.0)
    fitted.fit_rows(frame_of_counts())
    other = task(name="logit_adjustment", tau=1.0)
    other.load_state(json.loads(json.dumps(fitted.state())))
    logits, target = torch.randn(3, 3), torch.tensor([0, 1, 2])
    expected = LogitAdjustment(torch.tensor(COUNTS))(logits, target)
    for built in (fitted, other):
        assert torch.equal(built.loss(logits, {"target": target}), expected)


def test_r_drop_is_the_papers_sum_of_both_passes_and_both_divergences() -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(8, 3), torch.tensor([0, 1, 2, 2])
    weight = torch.tensor([0.5, 1.0, 3.0])
    p, q = logits.double().softmax(dim=1).numpy().reshape(2, 4, 3)
    rows = np.arange(4)
    plain = [-np.log(r[rows, target]) * weight[target].numpy() for r in (p, q)]
    divergence = (p * np.log(p / q)).sum(axis=1) + (q * np.log(q / p)).sum(axis=1)
    expected = (plain[0] + plain[1]) / 2 + 0.7 * divergence / 2
    losses = RDrop(weight, alpha=0.7)(logits, target)
    np.testing.assert_allclose(losses.numpy(), expected, rtol=1e-5)


def test_r_drop_of_equal_passes_and_of_one_in_evaluation_is_cross_entropy() -> None:
    logits, target = torch.randn(4, 3), torch.tensor([0, 1, 2, 2])
    weight = torch.tensor([0.5, 1.0, 3.0])
    expected = CrossEntropy(weight, 0.1)(logits, target)
    loss = RDrop(weight, label_smoothing=0.1, alpha=5.0)
    torch.testing.assert_close(loss(logits.repeat(2, 1), target), expected)
    torch.testing.assert_close(loss(logits, target), expected)


def test_r_drop_refuses_to_learn_from_a_single_pass() -> None:
    logits = torch.zeros(2, 3, requires_grad=True)
    with pytest.raises(FoldwiseError, match="needs a model that passes each training batch twice"):
        RDrop()(logits, torch.tensor([0, 1]))


@pytest.mark.parametrize("name", ["cross_entropy", "logit_adjustment", "r_drop"])
def test_label_smoothing_reaches_the_losses_that_take_it(name: str) -> None:
    logits, target = torch.randn(4, 3), torch.tensor([0, 1, 2, 2])
    losses = []
    for smoothing in (0.0, 0.3):
        built = task(name=name, label_smoothing=smoothing)
        built.fit_rows(frame_of_counts())
        losses.append(built.loss(logits, {"target": target}))
    assert not torch.allclose(*losses)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "focal", "label_smoothing": 0.1}, "label_smoothing: is only used by cross_entro"),
        ({"name": "focal", "gamma": -1}, "gamma: must be a number of 0 or more, got -1"),
        ({"name": "r_drop", "alpha": "much"}, "alpha: must be a number of 0 or more, got 'much'"),
        ({"name": "logit_adjustment", "tau": True}, "tau: must be a number of 0 or more, got true"),
        (
            {"name": "logit_adjustment", "class_weights": "sqrt"},
            "class_weights: would correct twice for what logit_adjustment corrects",
        ),
    ],
)
def test_keys_that_a_loss_cannot_use_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Loss.model_validate(values)


@pytest.fixture
def mine(tmp_path: Path) -> UserCode:
    path = tmp_path / "mine.py"
    path.write_text(
        "from torch import nn\n"
        "class Plain(nn.Module):\n"
        "    def forward(self, logits, target):\n"
        "        return nn.functional.cross_entropy(logits, target, reduction='none')\n"
        "class Weighted(Plain):\n"
        "    def __init__(self, weight, class_counts):\n"
        "        super().__init__()\n"
        "        self.given = (weight, class_counts)\n"
    )
    return UserCode([path])


def test_class_weights_for_a_loss_that_takes_none_are_refused(mine: UserCode) -> None:
    with pytest.raises(FoldwiseError) as caught:
        task(mine, name="mine.Plain", class_weights="balanced").check()
    assert str(caught.value) == (
        "loss.class_weights: mine.Plain takes no class weights (its constructor has no argument "
        "`weight`); leave class_weights out, or set it to none"
    )
    task(mine, name="mine.Plain").check()
    task(mine, name="mine.Plain", class_weights="none").check()
    task(mine, name="mine.Weighted", class_weights="balanced").check()


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("cross_entropy", "sqrt"),
        ("focal", "sqrt"),
        ("r_drop", "sqrt"),
        ("logit_adjustment", "none"),
        ("torch.nn.MultiMarginLoss", "sqrt"),
        ("mine.Plain", "none"),
        ("mine.Weighted", "sqrt"),
    ],
)
def test_the_resolved_config_says_whether_classes_are_weighted(
    mine: UserCode, name: str, rule: str
) -> None:
    config = task(mine, name=name).config
    config = config.model_copy(update={"code": [str(path) for path in mine.paths.values()]})
    resolved = resolve(config)
    assert resolved.loss.class_weights == rule
    assert resolve(Config.model_validate(resolved.model_dump())) == resolved


def test_a_loss_of_yours_is_given_weights_and_counts_of_the_training_rows(mine: UserCode) -> None:
    built = task(mine, name="mine.Weighted", class_weights="balanced")
    built.fit_rows(frame_of_counts())
    built.loss(torch.zeros(1, 3), {"target": torch.tensor([0])})
    weight, counts = built._loss.given  # type: ignore[union-attr]
    assert counts.tolist() == list(COUNTS)
    torch.testing.assert_close(weight, class_weights("balanced", TARGET, CLASSES))
