"""What processes that train together add up is what one process has, whoever works on what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError, RunInterrupted
from foldwise.hardware import team
from foldwise.preparation.resolve import resolve
from foldwise.run.folder import FoldFolder
from foldwise.training.averaging import WeightAverage
from foldwise.training.batching import Sampler
from foldwise.training.loading import TrainingRows, steps_left
from foldwise.training.together import (
    add_up_gradients,
    check_alike,
    check_parallel,
    start_alike,
    told_shares,
)
from foldwise.training.update import Update

ROWS = 23


def sampler(shares: int = 1, accumulate: int = 2, **more: Any) -> Sampler:
    lengths = np.random.default_rng(0).integers(1, 30, ROWS)
    sizes = {"batch_size": 4, "tokens_per_batch": None, **more}
    return Sampler(lengths, ROWS, accumulate=accumulate, seed=(7, 1), shares=shares, **sizes)


def with_others(monkeypatch: pytest.MonkeyPatch, others: Sequence[Tensor]) -> list[Tensor]:
    """Stand in for another process: it adds these, in turn; return what it was given."""
    left, given = iter(others), []

    def add_up(tensor: Tensor) -> None:
        given.append(tensor.clone())
        tensor += next(left).to(tensor.dtype)

    monkeypatch.setattr(team, "size", lambda: 2)
    monkeypatch.setattr(team, "add_up", add_up)
    return given


@pytest.mark.parametrize("more", [{}, {"batch_size": None, "tokens_per_batch": 60}])
@pytest.mark.parametrize("shares", [2, 3, 8])
def test_shares_cut_micro_batches_and_leave_rows_and_steps_as_they_are(
    shares: int, more: dict[str, Any]
) -> None:
    whole, cut = sampler(**more), sampler(shares, **more)
    for epoch in range(3):
        left, right = whole.windows(epoch), cut.windows(epoch)
        assert [sorted(np.concatenate(w)) for w in left] == [
            sorted(np.concatenate(w)) for w in right
        ]
        assert whole.divisors(left) == cut.divisors(right)
        for window, pieces in zip(left, right, strict=True):
            assert len(pieces) == sum(min(shares, len(batch)) for batch in window)
            assert min(map(len, pieces)) > 0


@pytest.mark.parametrize("size", [2, 3, 5])
def test_each_micro_batch_goes_to_one_process_under_the_number_that_it_has_in_one(
    size: int,
) -> None:
    rows = TrainingRows(list(range(100, 100 + ROWS)), np.arange(ROWS), sampler(2))

    def dealt(mine: slice) -> list[list[tuple[int, list[int]]]]:
        steps = steps_left(rows, list, (7, 1), 2, epoch=0, window=1, mine=mine)
        return [[(micro, list(batch)) for micro, batch in step.batches] for step in steps]

    alone = dealt(slice(None))
    shared = [dealt(slice(rank, None, size)) for rank in range(size)]
    for number, step in enumerate(alone):
        together = [piece for process in shared for piece in process[number]]
        assert sorted(together) == sorted(step)


@pytest.mark.parametrize(
    ("size", "accumulate", "asked", "shares"),
    [(1, 1, "auto", 1), (2, 1, "auto", 2), (4, 6, "auto", 2), (3, 3, "auto", 1), (2, 1, 5, 5)],
)
def test_a_run_that_several_processes_begin_has_as_many_pieces_for_each(
    make_config: Callable[..., Config],
    monkeypatch: pytest.MonkeyPatch,
    size: int,
    accumulate: int,
    asked: int | str,
    shares: int,
) -> None:
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("WORLD_SIZE", str(size))
    config = make_config(training={"accumulate": accumulate, "shares": asked})
    begun = resolve(config)
    assert begun.training.pieces == shares
    monkeypatch.setenv("WORLD_SIZE", "7")  # who goes on with it doesn't matter
    assert resolve(config, like=begun).training.pieces == shares


def test_gradients_and_losses_are_added_up_and_what_nobody_reaches_has_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    both, here, there, frozen = (nn.Parameter(torch.zeros(2)) for _ in range(4))
    both.grad, here.grad = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])
    loss = torch.tensor(1.5, dtype=torch.float64)
    with_others(
        monkeypatch,
        [
            torch.tensor([0.25, 1.0, 0.0, 1.0, 0.0]),  # its loss, and which it has reached
            torch.tensor([10.0, 20.0, 0.0, 0.0, 30.0, 40.0, 0.0, 0.0]),
        ],
    )
    add_up_gradients([both, here, there, frozen], loss)
    assert loss.item() == 1.75
    assert both.grad.tolist() == [11.0, 22.0]
    assert here.grad.tolist() == [3.0, 4.0]
    assert there.grad is not None
    assert there.grad.tolist() == [30.0, 40.0]
    assert frozen.grad is None


def test_gradients_of_other_types_and_many_numbers_go_in_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("foldwise.training.together._BUCKET", 5)
    parameters = [nn.Parameter(torch.zeros(3)) for _ in range(3)]
    parameters.append(nn.Parameter(torch.zeros(1, dtype=torch.bfloat16)))
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    given = with_others(monkeypatch, [torch.zeros(5), *(torch.ones(n) for n in (3, 3, 3, 1))])
    add_up_gradients(parameters, torch.zeros((), dtype=torch.float64))
    assert [len(part) for part in given[1:]] == [3, 3, 3, 1]
    assert all((parameter.grad == 2).all() for parameter in parameters)


def test_models_that_came_apart_stop_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Linear(2, 1)
    sums = [p.detach().view(torch.uint8).sum() for p in model.parameters()]
    zero = torch.zeros((), dtype=torch.int64)
    with_others(monkeypatch, [torch.stack(sums), zero])
    check_alike(model, "fold 1")
    with_others(monkeypatch, [torch.stack(sums) + 1, zero])
    with pytest.raises(RunInterrupted, match=r"^fold 1: the models of the 2 .* have come apart"):
        check_alike(model, "fold 1")


def test_a_process_that_sees_other_checkpoints_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters())
    constant = torch.optim.lr_scheduler.ConstantLR(optimizer)
    update = Update(optimizer, constant, WeightAverage(model, None))
    monkeypatch.setattr(team, "size", lambda: 2)
    monkeypatch.setattr(team, "leads", lambda: False)
    monkeypatch.setattr(team, "hear", lambda: {"step": 12})
    with pytest.raises(FoldwiseError, match=r"step 0 instead of 12\); all machines need the same"):
        start_alike(FoldFolder(tmp_path, 1), model, update, None)


def test_batch_norm_is_refused_and_layer_norm_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.LayerNorm(3), nn.BatchNorm1d(3))
    check_parallel(model)  # one process sees all rows
    monkeypatch.setattr(team, "size", lambda: 2)
    check_parallel(model[:1])
    with pytest.raises(FoldwiseError, match=r"^1 \(BatchNorm1d\) keeps means of the rows"):
        check_parallel(model)


def test_who_has_nothing_to_do_is_told(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(training={"shares": 2, "accumulate": 2})
    assert told_shares(config) == []
    monkeypatch.setattr(team, "size", lambda: 4)
    (line,) = told_shares(config)
    assert line.startswith("4 processes train each fold together: a step has 4 pieces")
    monkeypatch.setattr(team, "size", lambda: 5)
    assert "so 1 of them has nothing to do" in told_shares(config)[0]
