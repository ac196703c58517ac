"""Averages of the weights: closed forms, torch's own averages, and the model left as it was."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn

from foldwise.config.training import Average as AverageConfig
from foldwise.training.averaging import WeightAverage, newest_share


def share(**values: float) -> AverageConfig:
    return AverageConfig.model_validate(values)


def model_with_everything() -> nn.Sequential:
    """A frozen layer, a trained one, and a batch norm with float and whole-number buffers."""
    torch.manual_seed(0)
    frozen = nn.Linear(3, 3).requires_grad_(False)
    return nn.Sequential(frozen, nn.Linear(3, 4), nn.BatchNorm1d(4))


def wander(model: nn.Module, seed: int) -> None:
    """Stand in for a step: move what is trained, and the batch norm's statistics with it."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter))
    model(torch.randn(8, 3))


def copied(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.999])
def test_ema_is_torchs_from_zero_without_its_bias(decay: float) -> None:
    model = model_with_everything()
    average = WeightAverage(model, newest_share(share(ema=decay), 20))
    moving, theirs = get_ema_avg_fn(decay), torch.zeros_like(model[1].weight)
    for step in range(1, 21):
        wander(model, step)
        average.update(step)
        theirs = moving(theirs, model[1].weight.detach(), torch.tensor(step))
        expected = theirs / (1 - decay**step)
        torch.testing.assert_close(average.average["1.weight"], expected, rtol=1e-4, atol=1e-5)


def test_first_ema_is_the_first_steps_weights_not_the_initial_ones() -> None:
    model = model_with_everything()
    average = WeightAverage(model, newest_share(share(ema=0.999), 20))
    wander(model, 1)
    average.update(1)
    assert torch.equal(average.average["1.weight"], model[1].weight)


def test_swa_is_torchs_mean_over_the_last_share_of_the_steps() -> None:
    model = model_with_everything()
    theirs = AveragedModel(model, use_buffers=True)
    average = WeightAverage(model, newest_share(share(swa=0.25), 20))
    for step in range(1, 21):
        wander(model, step)
        average.update(step)
        if step > 15:
            theirs.update_parameters(model)
    raw, counted = copied(model), "2.num_batches_tracked"
    with average.applied():
        assert model.state_dict()[counted] == raw[counted] == 20
        for name, value in theirs.module.state_dict().items():
            if name != counted:
                torch.testing.assert_close(model.state_dict()[name], value, rtol=1e-5, atol=1e-6)
    assert not torch.equal(raw["1.weight"], average.average["1.weight"])


@pytest.mark.parametrize(("share_of", "begins"), [(0.25, 16), (1.0, 1), (0.001, 20)])
def test_swa_begins_with_the_first_of_the_last_steps(share_of: float, begins: int) -> None:
    newest = newest_share(share(swa=share_of), 20)
    assert newest is not None
    assert [newest(step) for step in range(1, begins)] == [0.0] * (begins - 1)
    assert [newest(step) for step in range(begins, 21)] == [1 / n for n in range(1, 22 - begins)]


def test_average_is_in_the_model_only_while_it_is_applied() -> None:
    model = model_with_everything()
    average = WeightAverage(model, newest_share(share(ema=0.9), 20))
    for step in (1, 2):
        wander(model, step)
        average.update(step)
    raw, pointers = copied(model), [p.data_ptr() for p in model.parameters()]
    with average.applied():
        assert torch.equal(model[1].weight, average.average["1.weight"])
        assert not torch.equal(model[1].weight, raw["1.weight"])
        assert torch.equal(average.raw["1.weight"], raw["1.weight"])
    with pytest.raises(KeyError), average.applied():
        raise KeyError  # an evaluation that fails leaves the weights as they were
    assert all(torch.equal(value, raw[name]) for name, value in model.state_dict().items())
    assert [p.data_ptr() for p in model.parameters()] == pointers
    assert average.raw == {}


def test_frozen_weights_and_whole_numbers_are_not_averaged() -> None:
    model = model_with_everything()
    average = WeightAverage(model, newest_share(share(ema=0.9), 20))
    wander(model, 1)
    average.update(1)
    assert set(average.average) == {
        *("1.weight", "1.bias", "2.weight", "2.bias", "2.running_mean", "2.running_var")
    }


def test_without_an_average_nothing_is_kept_or_changed() -> None:
    model = model_with_everything()
    average = WeightAverage(model, newest_share(None, 20))
    before = copied(model)
    average.update(1)
    with average.applied():
        assert average.raw == {}
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert (average.average, average.current) == ({}, {})


def test_resumed_average_goes_on_as_if_nothing_had_happened() -> None:
    model = model_with_everything()
    average = WeightAverage(model, newest_share(share(ema=0.9), 20))
    for step in (1, 2):
        wander(model, step)
        average.update(step)
    with average.applied():
        saved = copied(model)
        raw = {name: average.raw[name].clone() for name in sorted(average.raw)}
    other = model_with_everything()
    other.load_state_dict(saved)
    resumed = WeightAverage(other, newest_share(share(ema=0.9), 20))
    resumed.resume(raw)
    for one, its in ((model, average), (other, resumed)):
        wander(one, 3)
        its.update(3)
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])
    for name, value in average.average.items():
        assert torch.equal(value, resumed.average[name])
