"""Head: activation, norm and several dropout masks; the defaults are what they always were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from foldwise.config.model import Head as HeadConfig
from foldwise.errors import FoldwiseError
from foldwise.models.head import Head, build_head
from foldwise.parts.usercode import UserCode

MINE = """
import torch

class Scaled(torch.nn.Module):
    def __init__(self, hidden_size, power=1.0):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(hidden_size))
        self.power = power

    def forward(self, values):
        return values.abs() ** self.power * self.scale

class Nothing:
    pass
"""


def build(code: UserCode | None = None, **settings: Any) -> nn.Module:
    config = HeadConfig.model_validate(settings)
    torch.manual_seed(0)
    return build_head(config, 4, 2, 0.5, code or UserCode())


@pytest.fixture
def mine(tmp_path: Path) -> UserCode:
    path = tmp_path / "my_parts.py"
    path.write_text(MINE)
    return UserCode([path])


@pytest.mark.parametrize("hidden", [[], [8]])
def test_a_head_begins_at_the_logits_it_is_given(hidden: list[int]) -> None:
    config = HeadConfig.model_validate({"hidden": hidden})
    head = build_head(config, 4, 2, 0.02, UserCode(), np.array([-3.0, 0.5]))
    assert head(torch.zeros(1, 4)).tolist() == [[-3.0, 0.5]]


def test_the_default_head_has_the_parameters_and_numbers_of_a_plain_one() -> None:
    built = build(hidden=[8]).state_dict()
    torch.manual_seed(0)
    first, second = nn.Linear(4, 8), nn.Linear(8, 2)  # their own draws come first
    for layer in (first, second):
        nn.init.normal_(layer.weight, std=0.5)
    expected = {"layers.1.weight": first.weight, "layers.4.weight": second.weight}
    assert list(built) == [
        f"layers.{place}.{kind}" for place in (1, 4) for kind in ("weight", "bias")
    ]
    for name, weight in expected.items():
        assert torch.equal(built[name], weight)


@pytest.mark.parametrize(
    ("activation", "function"),
    [
        ("gelu", nn.functional.gelu),
        ("relu", torch.relu),
        ("tanh", torch.tanh),
        ("silu", lambda x: x * torch.sigmoid(x)),
        ("torch.nn.Mish", nn.functional.mish),
        ({"name": "torch.nn.LeakyReLU", "negative_slope": 0.3}, lambda x: x.where(x > 0, 0.3 * x)),
        ({"name": "my_parts.Scaled", "power": 2.0}, torch.square),
    ],
)
def test_the_activation_named_follows_each_hidden_layer(
    mine: UserCode, activation: Any, function: Any
) -> None:
    head = build(mine, hidden=[8, 6], activation=activation).eval()
    linear = [layer for layer in head.layers if isinstance(layer, nn.Linear)]  # type: ignore[union-attr]
    rows = torch.randn(5, 4)
    expected = linear[2](function(linear[1](function(linear[0](rows)))))
    torch.testing.assert_close(head(rows), expected)


def test_an_activations_own_weights_are_as_wide_as_its_layer(mine: UserCode) -> None:
    head = build(mine, hidden=[8, 6], activation="my_parts.Scaled")
    widths = [m.scale.shape for m in head.modules() if type(m).__name__ == "Scaled"]
    assert widths == [(8,), (6,)]


def test_layer_norm_stands_between_a_hidden_layer_and_its_activation() -> None:
    head = build(hidden=[8], norm="layer", dropout=0.0)
    rows = 100 * torch.randn(5, 4)
    hidden = head.layers[1](rows)  # type: ignore[index]
    centred = hidden - hidden.mean(dim=1, keepdim=True)
    normal = centred / centred.var(dim=1, correction=0, keepdim=True).sqrt()
    last = head.layers[-1]  # type: ignore[index]
    torch.testing.assert_close(head(rows), last(nn.functional.gelu(normal)), rtol=1e-4, atol=1e-4)


def test_logits_in_training_are_the_average_over_the_masks() -> None:
    head = build(dropout=0.5, samples=3)
    rows = torch.randn(5, 4)
    torch.manual_seed(1)
    found = head.train()(rows)
    torch.manual_seed(1)
    masks = nn.functional.dropout(torch.ones(15, 4), 0.5).reshape(3, 5, 4)
    last = head.layers[-1]  # type: ignore[index]
    expected = sum(last(rows * mask) for mask in masks) / 3
    torch.testing.assert_close(found, expected)


def test_several_masks_change_nothing_in_evaluation() -> None:
    rows = torch.randn(5, 4)
    one, many = build(samples=1).eval(), build(samples=8).eval()
    assert torch.equal(one(rows), many(rows))


@pytest.mark.parametrize(
    ("activation", "message"),
    [
        ("my_parts.Nothing", "model.head.activation: my_parts.Nothing must be a class derived "),
        ("torch.nn.Linear", "model.head.activation: torch.nn.Linear needs in_features, out_feat"),
        ("torch.nn.functional.relu", "model.head.activation: there is no activation 'torch.nn.fun"),
    ],
)
def test_what_is_no_activation_is_refused(mine: UserCode, activation: str, message: str) -> None:
    with pytest.raises(FoldwiseError) as caught:
        build(mine, hidden=[8], activation=activation)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"activation": "relu"}, "activation: does nothing without hidden layers"),
        ({"norm": "layer"}, "norm: does nothing without hidden layers"),
        ({"samples": 4, "dropout": 0.0}, "samples: does nothing where dropout is 0"),
    ],
)
def test_a_setting_that_would_do_nothing_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        HeadConfig.model_validate(settings)


def test_a_head_can_be_built_without_a_config() -> None:
    head = Head(4, 2, [8], 0.1, 0.5)
    assert head(torch.zeros(3, 4)).shape == (3, 2)
