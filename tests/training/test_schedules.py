"""Learning rates over the steps, and that a resumed run lands on the same one."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from foldwise.config.training import Schedule as ScheduleConfig
from foldwise.errors import FoldwiseError
from foldwise.parts.usercode import UserCode
from foldwise.training.schedules import Plateau, build_schedule, factor

STEPS = 50


def made(steps: int = STEPS, **values: Any) -> tuple[torch.optim.Optimizer, LRScheduler]:
    model = nn.Linear(2, 2)
    groups = [{"params": [model.weight], "lr": 0.2}, {"params": [model.bias], "lr": 0.1}]
    optimizer = torch.optim.AdamW(groups)
    config = ScheduleConfig.model_validate(values)
    return optimizer, build_schedule(optimizer, config, steps, UserCode())


def run(optimizer: torch.optim.Optimizer, schedule: LRScheduler, steps: int) -> list[list[float]]:
    """Return the rates at which each of some steps is taken."""
    rates = []
    for _ in range(steps):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    return rates


@pytest.mark.parametrize(
    ("name", "first", "peak", "last"),
    [
        ("constant", 1 / 6, 1.0, 1.0),
        ("linear", 1 / 6, 1.0, 1 / 45),
        ("cosine", 1 / 6, 1.0, 0.5 * (1 + math.cos(math.pi * 44 / 45))),
    ],
)
def test_warm_up_then_curve(name: str, first: float, peak: float, last: float) -> None:
    factors = [factor(name, 0.1, STEPS)(step) for step in range(STEPS)]
    assert factors[0] == pytest.approx(first)
    assert factors[5] == max(factors) == peak
    assert factors[-1] == pytest.approx(last)
    assert all(a < b for a, b in itertools.pairwise(factors[:6]))
    assert all(a >= b for a, b in itertools.pairwise(factors[5:]))


def test_one_cycle_rises_from_a_25th_to_the_peak_and_falls_towards_a_10000th() -> None:
    curve = factor("one_cycle", 0.3, STEPS)
    factors = [curve(step) for step in range(STEPS)]
    assert factors[0] == pytest.approx(1 / 25 + 24 / 25 * (1 - math.cos(math.pi / 16)) / 2)
    assert factors[15] == max(factors) == 1.0
    assert curve(STEPS) == pytest.approx(1e-4)
    assert all(a < b for a, b in itertools.pairwise(factors[:16]))
    assert all(a > b for a, b in itertools.pairwise(factors[15:]))


def test_half_way_down_is_half_the_peak() -> None:
    assert factor("cosine", 0.0, 100)(50) == pytest.approx(0.5)
    assert factor("linear", 0.0, 100)(50) == pytest.approx(0.5)


@pytest.mark.parametrize("power", [1.0, 2.0, 0.5])
def test_polynomial_is_that_of_torch(power: float) -> None:
    ours = run(*made(name="polynomial", power=power, warmup=0.0), STEPS)
    theirs = run(*made(name="torch.optim.lr_scheduler.PolynomialLR", power=power), STEPS)
    assert [high for high, _ in ours] == pytest.approx([high for high, _ in theirs])


def test_wsd_is_that_of_transformers_but_for_the_first_step() -> None:
    from transformers import get_wsd_schedule

    ours = run(*made(name="wsd", decay=0.4, warmup=0.0), STEPS)
    optimizer, _ = made(name="constant", warmup=0.0)
    theirs = run(
        optimizer,
        get_wsd_schedule(optimizer, 0, 20, num_training_steps=STEPS, decay_type="linear"),
        STEPS,
    )
    assert ours == [pytest.approx(rates) for rates in theirs]
    factors = [factor("wsd", 0.1, STEPS, {"decay": 0.2})(step) for step in range(STEPS)]
    assert factors[5:41] == [1.0] * 36
    assert factors[40:] == pytest.approx([1 - i / 10 for i in range(10)])
    assert factors[:5] == pytest.approx([(i + 1) / 6 for i in range(5)])


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_plateau_lowers_the_rate_when_torch_does(patience: int) -> None:
    scores = np.random.default_rng(patience).normal(size=40).cumsum()
    optimizer, schedule = made(name="plateau", factor=0.3, patience=patience, warmup=0.0)
    assert isinstance(schedule, Plateau)
    other, _ = made(name="constant", warmup=0.0)
    # Torch counts the evaluations that it lets pass.
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        other, "max", factor=0.3, patience=patience - 1, threshold=0, eps=0
    )
    for i, score in enumerate(scores):
        optimizer.step()
        schedule.step()
        schedule.evaluated(bool(score > max(scores[:i], default=-math.inf)))
        theirs.step(score)
        rates = [[group["lr"] for group in o.param_groups] for o in (optimizer, other)]
        assert rates[0] == pytest.approx(rates[1], rel=1e-9)
    assert rates[0][0] < 0.2 * 0.3**2


def test_plateau_rises_first_and_does_not_count_evaluations_meanwhile() -> None:
    optimizer, schedule = made(name="plateau", patience=1)
    assert isinstance(schedule, Plateau)
    rates = []
    for _ in range(10):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
        schedule.evaluated(False)
    factors = [(i + 1) / 6 for i in range(5)] + [0.5**i for i in range(5)]
    assert rates == pytest.approx([0.2 * value for value in factors])


@pytest.mark.parametrize("name", ["constant", "linear", "cosine", "one_cycle", "polynomial", "wsd"])
@pytest.mark.parametrize("warmup", [0.0, 0.5, 0.99])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_short_runs_learn_at_every_step(name: str, warmup: float, steps: int) -> None:
    factors = [factor(name, warmup, steps)(step) for step in range(steps)]
    assert all(0 < value <= 1 for value in factors)


def test_factor_multiplies_each_groups_own_rate() -> None:
    rates = run(*made(name="cosine"), STEPS)
    expected = [factor("cosine", 0.1, STEPS)(step) for step in range(STEPS)]
    assert [high for high, _ in rates] == pytest.approx([0.2 * value for value in expected])
    assert [low for _, low in rates] == pytest.approx([0.1 * value for value in expected])


def test_schedule_of_torch_is_built_by_name_over_all_steps() -> None:
    rates = run(*made(name="torch.optim.lr_scheduler.CosineAnnealingLR", eta_min=0.01), STEPS + 1)
    expected = [0.01 + 0.19 * (1 + math.cos(math.pi * t / STEPS)) / 2 for t in range(STEPS + 1)]
    assert [high for high, _ in rates] == pytest.approx(expected)
    rates = run(*made(name="torch.optim.lr_scheduler.OneCycleLR", max_lr=0.5), STEPS)
    assert rates[0] == pytest.approx([0.5 / 25, 0.5 / 25])
    assert max(high for high, _ in rates) == pytest.approx(0.5)
    assert rates[-1] == pytest.approx([0.5 / 25 / 1e4] * 2)


@pytest.mark.parametrize(
    "values",
    [
        {"name": "constant"},
        {"name": "linear"},
        {"name": "cosine"},
        {"name": "one_cycle"},
        {"name": "polynomial", "power": 3},
        {"name": "wsd", "decay": 0.9},
        {"name": "torch.optim.lr_scheduler.CosineAnnealingLR"},
        {"name": "torch.optim.lr_scheduler.OneCycleLR", "max_lr": 0.5},
        {"name": "torch.optim.lr_scheduler.ExponentialLR", "gamma": 0.9},
        {"name": "torch.optim.lr_scheduler.PolynomialLR", "power": 2.0},
    ],
    ids=lambda values: values["name"].rpartition(".")[2],
)
@pytest.mark.parametrize("step", [1, 7, 49])
def test_resumed_state_lands_on_the_same_rates(values: dict[str, Any], step: int) -> None:
    whole = run(*made(**values), STEPS)
    optimizer, schedule = made(**values)
    run(optimizer, schedule, step)
    # Through JSON, as a checkpoint holds it.
    groups = json.loads(json.dumps(optimizer.state_dict()["param_groups"]))
    state = json.loads(json.dumps(schedule.state_dict()))
    optimizer, schedule = made(**values)
    optimizer.load_state_dict({"state": {}, "param_groups": groups})
    schedule.load_state_dict(state)
    assert run(optimizer, schedule, STEPS - step) == whole[step:]


def test_resumed_plateau_goes_on_counting() -> None:
    def play(optimizer: torch.optim.Optimizer, schedule: Any, steps: range) -> list[float]:
        rates = []
        for step in steps:
            optimizer.step()
            schedule.step()
            schedule.evaluated(step % 7 == 0)
            rates.append(optimizer.param_groups[0]["lr"])
        return rates

    values: dict[str, Any] = {"name": "plateau", "patience": 3}
    whole = play(*made(**values), range(40))
    for cut in (3, 12, 20):
        optimizer, schedule = made(**values)
        play(optimizer, schedule, range(cut))
        groups = json.loads(json.dumps(optimizer.state_dict()["param_groups"]))
        state = json.loads(json.dumps(schedule.state_dict()))
        optimizer, schedule = made(**values)
        optimizer.load_state_dict({"state": {}, "param_groups": groups})
        schedule.load_state_dict(state)
        assert play(optimizer, schedule, range(cut, 40)) == whole[cut:]
    assert len(set(whole[5:])) > 3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "torch.optim.lr_scheduler.Cosine"}, "^schedule: there is no schedule"),
        ({"name": "torch.optim.lr_scheduler.OneCycleLR"}, "^schedule: .*OneCycleLR needs max_lr$"),
        (
            {"name": "torch.optim.lr_scheduler.ReduceLROnPlateau"},
            "^schedule: .*ReduceLROnPlateau needs metrics at each step; choose one",
        ),
    ],
)
def test_schedule_that_cannot_work_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(FoldwiseError, match=message):
        made(**values)
