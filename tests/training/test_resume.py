"""Every optimizer's state goes through a checkpoint and comes back bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from foldwise.config.training import Optimizer as OptimizerConfig
from foldwise.config.training import Schedule as ScheduleConfig
from foldwise.errors import FoldwiseError
from foldwise.parts.usercode import UserCode
from foldwise.run import checkpoints
from foldwise.run.folder import FoldFolder
from foldwise.training.averaging import WeightAverage
from foldwise.training.optimizers import build_optimizer
from foldwise.training.resume import TrainingState, capture, resume
from foldwise.training.schedules import build_schedule
from foldwise.training.update import Update

# All of torch.optim but LBFGS (a closure), SparseAdam (sparse gradients), Muon (matrices alone).
NAMES = ["ASGD", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "NAdam", "RAdam"]
NAMES += ["RMSprop", "Rprop", "SGD"]


class Training:
    """A model with optimizer and schedule, without the loop."""

    def __init__(self, **values: Any) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 2))
        config = OptimizerConfig.model_validate({"lr": 0.01, **values})
        self.optimizer = build_optimizer(self.model, config, UserCode())
        self.schedule = build_schedule(self.optimizer, ScheduleConfig(), 10, UserCode())

    def steps(self, first: int, last: int) -> None:
        for step in range(first, last):
            torch.manual_seed(step)
            self.model(torch.randn(4, 8)).square().sum().backward()
            self.optimizer.step()
            self.schedule.step()
            self.optimizer.zero_grad()

    def save(self, fold: FoldFolder, step: int) -> None:
        saved = capture(TrainingState(step=step), self.model, self.update(), whole=True)
        checkpoints.save(fold, saved, best=False, last=True)

    def resume(self, fold: FoldFolder) -> TrainingState:
        return resume(fold, self.model, self.update())

    def update(self) -> Update:
        return Update(self.optimizer, self.schedule, WeightAverage(self.model, None))


def check_resume(path: Path, **values: Any) -> Training:
    whole, cut, again = Training(**values), Training(**values), Training(**values)
    fold = FoldFolder(path, 1)
    whole.steps(0, 6)
    cut.steps(0, 3)
    cut.save(fold, 3)
    assert again.resume(fold).step == 3
    again.steps(3, 6)
    for one, other in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, other)
    return again


@pytest.mark.parametrize("name", NAMES)
def test_optimizer_of_torch_goes_on_bit_for_bit(tmp_path: Path, name: str) -> None:
    arguments: dict[str, Any] = {"SGD": {"momentum": 0.9}, "Rprop": {"weight_decay": 0}}
    check_resume(tmp_path, name=f"torch.optim.{name}", **arguments.get(name, {}))


def test_adamw_8bit_goes_on_bit_for_bit_with_its_bytes_and_its_steps(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    again = check_resume(tmp_path, name="adamw_8bit", min_8bit_size=16)
    states = [again.optimizer.state[p] for p in again.model.parameters()]
    assert [state["step"] for state in states] == [6] * 6
    types = [state["state1"].dtype for state in states]  # 64, 8, 8, 8, 16 and 2 weights
    quantized, plain = torch.uint8, torch.float32
    assert types == [quantized, plain, plain, plain, quantized, plain]


def test_moments_of_a_paged_optimizer_go_back_into_its_own_buffers(tmp_path: Path) -> None:
    optim = pytest.importorskip("bitsandbytes.optim")
    fold = FoldFolder(tmp_path, 1)
    first, second = Training(), Training()
    for one in (first, second):
        one.optimizer = optim.PagedAdamW8bit(one.model.parameters(), lr=0.01, min_8bit_size=16)
        one.schedule = build_schedule(one.optimizer, ScheduleConfig(), 10, UserCode())
    with pytest.warns(UserWarning, match="Paged optimizers are not supported on CPU"):
        first.steps(0, 3)
    first.save(fold, 3)
    handed: list[int] = []
    ask = second.optimizer.get_state_buffer

    def noted(parameter: nn.Parameter, dtype: torch.dtype) -> torch.Tensor:
        buffer: torch.Tensor = ask(parameter, dtype=dtype)
        handed.append(id(buffer))
        return buffer

    second.optimizer.get_state_buffer = noted
    with pytest.warns(UserWarning, match="Paged optimizers are not supported on CPU"):
        second.resume(fold)
    held = [
        second.optimizer.state[p][key]
        for p in second.model.parameters()
        for key in ("state1", "state2")
    ]
    assert [id(buffer) for buffer in held] == handed
    for one in (first, second):
        one.steps(3, 6)
    for mine, theirs in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_state_without_plain_numbers_adds_nothing_to_the_checkpoint(tmp_path: Path) -> None:
    training = Training()
    training.steps(0, 1)
    saved = capture(TrainingState(step=1), training.model, training.update(), whole=True)
    assert set(saved.state) == {"progress", "groups", "schedule"}
    assert {key.split(".")[1] for key in saved.optimizer} == {"step", "exp_avg", "exp_avg_sq"}


def test_state_that_no_file_can_hold_is_refused_by_name(tmp_path: Path) -> None:
    training = Training()
    training.steps(0, 1)
    training.optimizer.state[training.model[0].weight]["seen"] = {1, 2}
    with pytest.raises(FoldwiseError, match=r"^optimizer: AdamW keeps a set \('seen'\) in its"):
        training.save(FoldFolder(tmp_path, 1), 1)
