"""A model in parts: how it is built and sent, what is gathered by itself, how often all run it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from foldwise.config.training import Training
from foldwise.hardware import team
from foldwise.models.empty import is_sent, without_memory
from foldwise.training.batching import Sampler
from foldwise.training.inference import infer
from foldwise.training.loading import TrainingRows, steps_left
from foldwise.training.shards import _blocks, _cast, _share, build, part_of


class Backbone(nn.Module):
    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.config = SimpleNamespace(num_hidden_layers=blocks)
        self.words = nn.Embedding(5, 4)
        self.layer = nn.ModuleList(nn.Linear(4, 4) for _ in range(blocks))


class Model(nn.Module):
    def __init__(self, blocks: int = 3) -> None:
        super().__init__()
        self.backbone, self.head = Backbone(blocks), nn.Linear(4, 4)


def test_the_blocks_of_backbones_are_gathered_one_by_one() -> None:
    model = nn.ModuleList([Model(3), Model(2), nn.Linear(2, 2)])
    assert _blocks(model) == [*model[0].backbone.layer, *model[1].backbone.layer]  # type: ignore[union-attr]
    assert _blocks(nn.Sequential(nn.Linear(2, 2))) == []


def test_blocks_that_share_a_weight_are_gathered_with_what_they_share_it_with() -> None:
    model = Model()
    first, second, third = model.backbone.layer
    model.head.weight = second.weight  # type: ignore[assignment]
    assert _blocks(model) == [first, third]
    third.weight = first.weight
    assert _blocks(model) == []


class Kept(Model):
    """Has a weight twice, one that doesn't learn, and buffers that are saved and that aren't."""

    def __init__(self) -> None:
        super().__init__()
        self.head.weight = self.backbone.words.weight  # type: ignore[assignment]
        self.backbone.layer[0].requires_grad_(False)
        self.register_buffer("drawn", torch.rand(3))
        self.register_buffer("made", torch.rand(3), persistent=False)


def test_what_is_sent_fills_a_model_without_memory_and_leaves_what_is_no_checkpoints(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[Tensor] = []
    whole = Kept()
    monkeypatch.setattr(team, "share", sent.append)
    _share(whole)
    with without_memory():
        empty = Kept()
    made = empty.made.clone()
    monkeypatch.setattr(team, "share", lambda tensor: tensor.detach().copy_(sent.pop(0)))
    _share(empty)
    assert sent == []
    for (name, tensor), (other, filled) in zip(
        whole.state_dict(keep_vars=True).items(),
        empty.state_dict(keep_vars=True).items(),
        strict=True,
    ):
        assert (name, tensor.requires_grad) == (other, filled.requires_grad)
        assert torch.equal(tensor, filled)
    assert empty.head.weight is empty.backbone.words.weight
    assert torch.equal(empty.made, made)


@pytest.mark.parametrize(
    ("made_of", "whole"),
    [
        (lambda weight: None, False),
        (lambda weight: weight.sum().item(), True),
        (lambda weight: weight.detach().norm(), True),
        (lambda weight: nn.Parameter(weight.detach() * 2), False),
    ],
)
def test_of_several_processes_only_the_lead_has_the_weights_unless_a_part_is_made_of_them(
    monkeypatch: pytest.MonkeyPatch, made_of: Callable[[Tensor], Any], whole: bool
) -> None:
    def build_model() -> nn.Module:
        with without_memory() if is_sent() else nullcontext():
            model = Model()
        model.head.scale = made_of(model.head.weight)
        return model

    task: Any = SimpleNamespace(build_model=build_model)
    for leads, shard in ((True, True), (False, False), (False, True)):
        monkeypatch.setattr(team, "leads", lambda leads=leads: leads)
        model = build(task.build_model, Training(shard=shard, device="cpu"))
        empty = not leads and shard and not whole
        assert {parameter.is_meta for parameter in model.parameters()} == {empty}


@pytest.mark.parametrize("size", [2, 3, 5])
def test_all_processes_run_as_many_micro_batches_and_each_counts_once(size: int) -> None:
    sampler = Sampler(None, 23, 4, None, accumulate=2, seed=(7, 1), shares=2)
    rows = TrainingRows(list(range(23)), np.arange(23), sampler)

    def counted(mine: slice) -> list[list[tuple[int, bool, list[int]]]]:
        steps = steps_left(rows, list, (7, 1), 1, mine=mine, evenly=True)
        return [[(n, n in step.mine, list(rows)) for n, rows in step.batches] for step in steps]

    alone = counted(slice(None))
    assert all(counts for step in alone for _, counts, _ in step)
    dealt = [counted(slice(rank, None, size)) for rank in range(size)]
    for number, step in enumerate(alone):
        ran = [process[number] for process in dealt]
        assert {len(pieces) for pieces in ran} == {-(-len(step) // size)}
        assert sorted(p for pieces in ran for p in pieces if p[1]) == sorted(step)


class Counting(nn.Module):
    calls = 0

    def forward(self, values: Tensor) -> Tensor:
        self.calls += 1
        return values * 2


@pytest.mark.parametrize(("parts", "calls"), [(False, [2, 1]), (True, [2, 2])])
def test_all_processes_run_a_model_in_parts_as_often_over_rows(
    monkeypatch: pytest.MonkeyPatch, parts: bool, calls: list[int]
) -> None:
    def collate(rows: Sequence[float]) -> dict[str, Tensor]:
        return {"values": torch.tensor(rows).unsqueeze(1)}

    found = np.zeros((6, 1), np.float32)
    monkeypatch.setattr(team, "size", lambda: 2)
    monkeypatch.setattr(team, "filled", lambda rows: rows)
    monkeypatch.setattr("foldwise.training.inference.in_parts", lambda model: parts)
    for rank in range(2):
        monkeypatch.setattr(team, "mine", lambda rank=rank: slice(rank, None, 2))
        model, rows = Counting(), [float(n) for n in range(6)]
        positions: Any = np.arange(6)
        logits, _ = infer(
            model, rows, positions, collate, Accelerator(cpu=True), batch_size=2, together=True
        )
        assert model.calls == calls[rank]
        found += logits
    assert found.ravel().tolist() == [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]  # each row of one process


def test_of_a_whole_model_each_process_takes_all() -> None:
    value, parameter = torch.arange(6.0), nn.Parameter(torch.zeros(6))
    assert part_of(value, parameter) is value
    assert part_of(value, None) is value


def test_of_a_blocks_inputs_the_hidden_states_are_rounded_and_a_mask_stays_finite() -> None:
    states, mask = torch.ones(2, 3), torch.full((2,), torch.finfo(torch.float32).min)
    for args, named in (((states, mask), {}), ((), {"hidden_states": states, "mask": mask})):
        cast = _cast(torch.bfloat16, nn.Linear(1, 1), args, named)
        found = [*cast[0], *cast[1].values()]
        assert [tensor.dtype for tensor in found] == [torch.bfloat16, torch.float32]
        assert found[1].isfinite().all()
