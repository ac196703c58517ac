"""Weights: what a checkpoint holds, and what training a model takes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from foldwise.config.training import Optimizer
from foldwise.errors import FoldwiseError
from foldwise.models.copies import Copies
from foldwise.parts.usercode import UserCode
from foldwise.run.weights import load_weights, saved_weights
from foldwise.training.footprint import footprint


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))


def test_a_checkpoint_holds_everything_buffers_too() -> None:
    model = net()
    assert saved_weights(model).keys() == model.state_dict().keys()
    assert "1.running_mean" in saved_weights(model)


def test_of_a_part_that_names_what_it_saves_only_that_is_held() -> None:
    model = net()
    model[0].saved_names = frozenset({"bias"})  # type: ignore[assignment]
    held = set(model.state_dict()) - {"0.weight"}
    assert saved_weights(model).keys() == held
    other = net()
    other[0].saved_names = frozenset({"bias"})  # type: ignore[assignment]
    kept = other[0].weight.clone()
    load_weights(other, saved_weights(model))
    assert torch.equal(other[0].weight, kept)
    for name in held:
        assert torch.equal(other.state_dict()[name], model.state_dict()[name])


@pytest.mark.parametrize(
    ("change", "who"), [({"extra": torch.zeros(1)}, "checkpoint"), ({}, "model")]
)
def test_other_tensors_than_a_checkpoint_holds_are_refused(
    change: dict[str, torch.Tensor], who: str
) -> None:
    model = net()
    tensors = {**saved_weights(model), **change}
    name = "extra"
    if not change:
        name = "2.bias"
        del tensors[name]
    with pytest.raises(FoldwiseError) as caught:
        load_weights(net(), tensors)
    assert str(caught.value) == (
        f"the checkpoint doesn't fit the model: 1 tensors differ, such as {name}, which only the "
        f"{who} has"
    )


@pytest.mark.parametrize(
    ("optimizer", "states"),
    [({"name": "adamw"}, 2), ({"name": "torch.optim.SGD", "momentum": 0.9}, 1)],
)
def test_what_training_takes_follows_from_the_weights_that_learn_and_the_optimizer(
    optimizer: dict[str, object], states: int
) -> None:
    model = nn.Sequential(nn.Linear(100, 50, bias=False), nn.Linear(50, 4, bias=False))
    model[0].weight.requires_grad_(False)
    found = footprint(model, Optimizer.model_validate(optimizer), UserCode())
    assert (found.parameters, found.trainable_parameters) == (5200, 200)
    assert (found.weights_bytes, found.checkpoint_bytes) == (4 * 5200, 4 * 5200)
    # A gradient and so many states a parameter; a step counter of a few bytes besides.
    assert found.training_bytes == pytest.approx(4 * 200 * (1 + states), rel=0.01)


def test_the_footprint_reads_as_a_line() -> None:
    model = nn.Sequential(nn.Linear(2000, 1000, bias=False), nn.Linear(1000, 1, bias=False))
    model[0].weight.requires_grad_(False)
    assert str(footprint(model, Optimizer(), UserCode())) == (
        "model: 2M parameters, 1k train (0.05%); weights 7.6 MiB, gradients and optimizer "
        "0.011 MiB, activations on top; a checkpoint's weights 7.6 MiB"
    )
    both = Copies([model, nn.Sequential(nn.Linear(2000, 1000, bias=False))])
    assert str(footprint(both, Optimizer(), UserCode())).startswith(
        "model: 2 copies, together 4M parameters, 2M train (50%); weights 15 MiB, "
    )
