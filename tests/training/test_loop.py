"""The training loop against hand-written torch code, and its resume against itself."""

from __future__ import annotations

import json
import math
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.nn import functional
from torch.optim.lr_scheduler import LRScheduler

from foldwise.config.training import Average, Training
from foldwise.errors import RunInterrupted
from foldwise.hardware.device import build_accelerator
from foldwise.models.copies import Copies
from foldwise.progress.shown import show_progress
from foldwise.run.checkpoints import load, newest, pointed
from foldwise.run.folder import FoldFolder
from foldwise.run.history import read_history
from foldwise.run.manifests import steps
from foldwise.training import loop
from foldwise.training.averaging import Share, WeightAverage, newest_share
from foldwise.training.batching import Sampler
from foldwise.training.loading import TrainingRows, reseed
from foldwise.training.loop import Destination, Evaluate, Settings, fit
from foldwise.training.resume import TrainingState
from foldwise.training.schedules import Plateau
from foldwise.training.tracking import Tracker
from foldwise.training.update import Update

ROWS, WIDTH, CLASSES = 22, 5, 3
WEIGHT = torch.tensor([0.5, 1.0, 2.5])
SETTINGS = Settings(
    seed=(7, 2),
    epochs=3,
    clip=None,
    evaluate_every=None,
    patience=None,
    save_seconds=0.0,
    log_every=1,
    metric="loss",
    greater_is_better=False,
    workers=0,
)


class Numbers:
    """Rows of numbers; `noise` draws from all three global generators, as augmentation does."""

    def __init__(self, noise: bool = False, broken: int | None = None) -> None:
        rng = np.random.default_rng(0)
        self.x = rng.normal(size=(ROWS, WIDTH)).astype(np.float32)
        self.y = rng.integers(CLASSES, size=ROWS)
        self.noise = noise
        if broken is not None:
            self.x[broken] = np.nan

    def __getitem__(self, position: int) -> tuple[np.ndarray, int]:
        x = self.x[position]
        if self.noise:
            x = x + np.float32(random.random() + np.random.rand() + torch.rand(()).item())
        return x, int(self.y[position])


class RowTask:
    """What the loop needs of a task."""

    def collate(self, rows: Sequence[tuple[np.ndarray, int]]) -> dict[str, Tensor]:
        x, y = zip(*rows, strict=True)
        return {"x": torch.from_numpy(np.stack(x)), "target": torch.tensor(y)}

    def loss(self, outputs: Tensor, batch: dict[str, Tensor]) -> Tensor:
        return functional.cross_entropy(outputs, batch["target"], weight=WEIGHT, reduction="none")


class Model(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.layers_ = nn.Sequential(
            nn.Linear(WIDTH, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, CLASSES)
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers_(x)
        return out


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1)


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1, fused=True)


def adamw_8bit(model: nn.Module) -> torch.optim.Optimizer:
    optim = pytest.importorskip("bitsandbytes.optim")
    made: torch.optim.Optimizer = optim.AdamW8bit(model.parameters(), lr=0.01, min_8bit_size=16)
    return made


def halving(optimizer: torch.optim.Optimizer, steps: int) -> LRScheduler:
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - 0.5 * step / steps)


def plateau(optimizer: torch.optim.Optimizer, steps: int) -> LRScheduler:
    return Plateau(optimizer, 2, 0.5, 2)


def build(dropout: float = 0.0, seed: int = 3) -> Model:
    torch.manual_seed(seed)
    return Model(dropout)


def build_both(dropout: float = 0.0) -> Copies:
    return Copies([build(dropout), build(dropout, seed=4)])


def train(
    path: Path,
    *,
    settings: Settings = SETTINGS,
    optimizer: Callable[[nn.Module], torch.optim.Optimizer] = adamw,
    dataset: Numbers | None = None,
    evaluate: Evaluate | None = None,
    batch_size: int = 4,
    accumulate: int = 1,
    dropout: float = 0.0,
    sampler: Any = None,
    broken_gradient: bool = False,
    schedule: Callable[[torch.optim.Optimizer, int], LRScheduler] = halving,
    average: Share | None = None,
    scale: float | None = None,
    model: Any = None,
) -> tuple[Any, FoldFolder, TrainingState]:
    """Train a small model in `path`; goes on from what is there."""
    path.mkdir(parents=True, exist_ok=True)
    fold = FoldFolder(path, 2)
    model = model or build(dropout)
    opt = optimizer(model)
    if broken_gradient:
        model.layers_[0].weight.register_hook(lambda gradient: gradient * math.nan)
    sampler = sampler or Sampler(None, ROWS, batch_size, None, accumulate, SETTINGS.seed)
    total = sum(len(sampler.windows(epoch)) for epoch in range(settings.epochs))
    done = fit(
        model,
        RowTask(),
        TrainingRows(dataset or Numbers(), np.arange(ROWS), sampler),
        Update(
            opt,
            schedule(opt, total),
            WeightAverage(model, average),
            GradScaler("cpu", init_scale=scale or 1.0, enabled=scale is not None),
        ),
        evaluate,
        Destination(fold, Tracker(fold.history, None, None, show_progress(None, "fold 2", total))),
        build_accelerator(Training(device="cpu", precision="float32")),
        settings,
    )
    return model, fold, done


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), name


def assert_close(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    for name in left:
        torch.testing.assert_close(left[name], right[name], atol=1e-6, rtol=1e-6)


def own_loss(model: nn.Module) -> dict[str, dict[str, float]]:
    """Score by a number that depends on the weights, so that a wrong resume shows in it."""
    value = sum(float(p.detach().double().abs().sum()) for p in model.parameters())
    return {"training": {"loss": value}, "validation": {"loss": value, "f1": 1 / value}}


def scripted(scores: Sequence[float], name: str = "loss") -> Evaluate:
    left = iter(scores)
    return lambda model: {"validation": {name: next(left)}}


class Fixed:
    """Windows given by hand."""

    def __init__(self, *windows: list[list[int]]) -> None:
        self.fixed = [[np.array(batch) for batch in window] for window in windows]

    def windows(self, epoch: int) -> list[list[np.ndarray]]:
        return self.fixed

    def divisors(self, windows: list[list[np.ndarray]]) -> list[int]:
        return [sum(len(batch) for batch in window) for window in windows]


def by_hand(
    optimizer: Callable[[nn.Module], torch.optim.Optimizer],
    big_batches: list[list[int]],
    clip: float | None = None,
    divisor: float | None = None,
) -> dict[str, Tensor]:
    """One epoch of big batches in plain torch."""
    model, data = build(), Numbers()
    opt = optimizer(model)
    for number, batch in enumerate(big_batches):
        for group in opt.param_groups:
            group["lr"] = group.setdefault("peak", group["lr"]) * (
                1 - 0.5 * number / len(big_batches)
            )
        logits = model(torch.from_numpy(data.x[batch]))
        target = torch.from_numpy(data.y[batch])
        log_p = logits.log_softmax(1)[torch.arange(len(batch)), target]
        loss = -(WEIGHT[target] * log_p).sum() / (divisor or len(batch))
        opt.zero_grad()
        loss.backward()
        if clip is not None:
            norm = math.sqrt(sum(float((p.grad**2).sum()) for p in model.parameters()))
            for p in model.parameters():
                p.grad *= min(1.0, clip / norm)
        opt.step()
    return weights(model)


@pytest.mark.parametrize("optimizer", [sgd, adamw])
def test_accumulated_gradient_is_the_big_batchs_also_in_a_window_that_does_not_fill(
    tmp_path: Path, optimizer: Callable[[nn.Module], torch.optim.Optimizer]
) -> None:
    # 22 rows: two windows of 4 + 4, and a last one of 4 + 2.
    order = list(range(ROWS))
    windows = [[order[i : i + 4], order[i + 4 : i + 8]] for i in (0, 8, 16)]
    assert [len(batch) for batch in windows[-1]] == [4, 2]
    one = replace(SETTINGS, epochs=1)
    expected = by_hand(optimizer, [order[:8], order[8:16], order[16:]])
    model, _, _ = train(tmp_path / "a", settings=one, optimizer=optimizer, sampler=Fixed(*windows))
    assert_close(weights(model), expected)
    big = [[a + b] for a, b in windows]
    model, _, _ = train(tmp_path / "b", settings=one, optimizer=optimizer, sampler=Fixed(*big))
    assert_close(weights(model), expected)


def test_each_row_weighs_the_same_where_tokens_fill_the_batches(tmp_path: Path) -> None:
    # Lengths from 1 to 22 at 24 tokens a batch: from 1 row of 22 tokens to 6 of 4.
    sampler = Sampler(np.arange(1, ROWS + 1), ROWS, None, 24, 2, SETTINGS.seed)
    windows = sampler.windows(0)
    big = [[int(row) for batch in window for row in batch] for window in windows]
    assert len(set(map(len, big))) > 2
    one = replace(SETTINGS, epochs=1)
    model, _, _ = train(tmp_path, settings=one, optimizer=sgd, sampler=sampler)
    assert_close(weights(model), by_hand(sgd, big, divisor=ROWS / len(windows)))


def test_gradient_norm_is_clipped_over_all_parameters(tmp_path: Path) -> None:
    batches = [list(range(8)), list(range(8, 16))]
    clipped = replace(SETTINGS, epochs=1, clip=0.05)
    model, fold, _ = train(
        tmp_path, settings=clipped, optimizer=sgd, sampler=Fixed(*([b] for b in batches))
    )
    assert_close(weights(model), by_hand(sgd, batches, clip=0.05))
    assert all(line["grad_norm"] > 0.05 for line in read_history(fold.history))


@pytest.mark.parametrize("optimizer", [sgd, adamw])
def test_each_copy_ends_with_the_weights_of_one_that_is_trained_alone(
    tmp_path: Path, optimizer: Callable[[nn.Module], torch.optim.Optimizer]
) -> None:
    clipped = replace(SETTINGS, clip=0.8)
    options: dict[str, Any] = {"settings": clipped, "optimizer": optimizer, "accumulate": 2}
    both, fold, _ = train(tmp_path / "both", model=build_both(), **options)
    alone = [train(tmp_path / f"{seed}", model=build(seed=seed), **options)[:2] for seed in (3, 4)]
    for copy, (model, _) in zip(both.copies, alone, strict=True):
        assert_equal(weights(copy), weights(model))
    assert not torch.equal(both.copies[0].layers_[0].weight, both.copies[1].layers_[0].weight)
    # What is told of a step: the mean of the copies' losses, and the largest of their norms.
    told, *theirs = (read_history(each.history) for each in (fold, *(one for _, one in alone)))
    for line, first, second in zip(told, *theirs, strict=True):
        assert line["loss"] == pytest.approx((first["loss"] + second["loss"]) / 2, rel=1e-6)
        assert line["grad_norm"] == max(first["grad_norm"], second["grad_norm"])
    norms = [line["grad_norm"] for line in told]
    assert min(norms) < 0.8 < max(norms)


def test_the_first_of_several_copies_has_the_dropout_of_one_alone_and_the_second_its_own(
    tmp_path: Path,
) -> None:
    alone, _, _ = train(tmp_path / "alone", dropout=0.3)
    alike = Copies([build(0.3), build(0.3)])
    both, _, _ = train(tmp_path / "both", model=alike, dropout=0.3)
    assert_equal(weights(both.copies[0]), weights(alone))
    assert not torch.equal(both.copies[0].layers_[0].weight, both.copies[1].layers_[0].weight)


def test_copies_go_on_from_a_checkpoint_with_the_same_bytes(tmp_path: Path) -> None:
    options: dict[str, Any] = {"dropout": 0.3, "average": newest_share(Average(ema=0.8), 18)}
    whole, _, _ = train(tmp_path / "whole", model=build_both(0.3), evaluate=own_loss, **options)

    def dying(model: nn.Module) -> dict[str, dict[str, float]]:
        if max(steps(FoldFolder(tmp_path / "cut", 2)), default=0) >= 8:
            raise Stop
        return own_loss(model)

    with pytest.raises(Stop):
        train(tmp_path / "cut", model=build_both(0.3), evaluate=dying, **options)
    again, _, done = train(tmp_path / "cut", model=build_both(0.3), evaluate=own_loss, **options)
    assert done.step == 18
    assert_equal(weights(again), weights(whole))


def test_loss_that_is_not_finite_stops_before_the_update_and_saves_nothing(tmp_path: Path) -> None:
    # Batches of 4 in order: row 13 comes in step 4 of the first epoch.
    order = Fixed(*([list(range(i, i + 4))] for i in range(0, 20, 4)))
    with pytest.raises(
        RunInterrupted,
        match=r"^fold 2, epoch 1, step 4: the loss is nan .* nothing saved .* \[12, 13, 14, 15\]$",
    ):
        train(tmp_path / "a", dataset=Numbers(broken=13), sampler=order, optimizer=sgd)
    fold = FoldFolder(tmp_path / "a", 2)
    assert max(steps(fold)) == 3
    history = read_history(fold.history)
    assert [line["step"] for line in history] == [1, 2, 3, 4]
    assert history[-1]["loss"] is history[-1]["grad_norm"] is None
    (event,) = fold.run.events()
    assert {key: event[key] for key in ("event", "fold", "step", "loss", "grad_norm", "rows")} == {
        "event": "not finite",
        "fold": 2,
        "step": 4,
        "loss": "nan",
        "grad_norm": "nan",
        "rows": [12, 13, 14, 15],
    }
    found = newest(fold)
    assert found is not None
    assert all(bool(value.isfinite().all()) for value in found.model.values())


@pytest.fixture
def as_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the loop read losses only where something hangs on them."""
    asked, device = loop._is_read, SimpleNamespace(device=torch.device("cuda"))
    monkeypatch.setattr(
        loop, "_is_read", lambda done, step, _, more: asked(done, step, device, more)
    )


@pytest.mark.parametrize("every", [1, 5])
def test_losses_that_are_read_late_are_the_same(
    tmp_path: Path, request: pytest.FixtureRequest, every: int
) -> None:
    settings = replace(SETTINGS, log_every=every, save_seconds=1000.0)
    at_once, fold, _ = train(tmp_path / "a", settings=settings, evaluate=own_loss, dropout=0.3)
    request.getfixturevalue("as_on_cuda")
    late, other, _ = train(tmp_path / "b", settings=settings, evaluate=own_loss, dropout=0.3)
    assert_equal(weights(at_once), weights(late))
    assert fold.history.read_bytes() == other.history.read_bytes()


@pytest.mark.usefixtures("as_on_cuda")
@pytest.mark.parametrize("save_seconds", [0.0, 1000.0])
def test_loss_that_is_read_late_stops_before_anything_is_saved_and_names_its_own_step(
    tmp_path: Path, save_seconds: float
) -> None:
    # Row 13 comes in step 4 of 6; the epoch's end is the first that would be saved or logged.
    order = Fixed(*([list(range(i, min(i + 4, ROWS)))] for i in range(0, ROWS, 4)))
    settings = replace(SETTINGS, log_every=100, save_seconds=save_seconds)
    late = "no weight was changed" if save_seconds == 0 else "it was read after step 6"
    with pytest.raises(RunInterrupted, match=rf"step 4: .* norm nan; {late}.*15\]$") as caught:
        train(tmp_path, dataset=Numbers(broken=13), sampler=order, settings=settings)
    assert "nothing" in str(caught.value)
    fold = FoldFolder(tmp_path, 2)
    assert max(steps(fold), default=0) == (3 if save_seconds == 0 else 0)
    assert [line["step"] for line in read_history(fold.history)] == [4]


def test_scaled_losses_leave_the_weights_as_they_are(tmp_path: Path) -> None:
    # A power of two moves no digit of float32.
    plain, _, _ = train(tmp_path / "a", dropout=0.3, settings=replace(SETTINGS, clip=0.5))
    scaled, fold, _ = train(
        tmp_path / "b", dropout=0.3, settings=replace(SETTINGS, clip=0.5), scale=2.0**16
    )
    assert_equal(weights(plain), weights(scaled))
    found = newest(fold)
    assert found is not None
    assert found.state["scaler"]["scale"] == 2.0**16


def test_scale_that_is_too_large_is_halved_and_goes_on_from_the_checkpoint(tmp_path: Path) -> None:
    def overflowing(model: nn.Module) -> torch.optim.Optimizer:
        # As float16 ends at 65504: the first steps leave the weights alone.
        for parameter in model.parameters():
            parameter.register_hook(lambda grad: grad.where(grad.abs() < 1000, math.inf))
        return sgd(model)

    big = {"optimizer": overflowing, "scale": 2.0**16, "evaluate": own_loss}
    straight, fold, _ = train(tmp_path / "a", **big)
    norms = [line["grad_norm"] for line in read_history(fold.history) if line["split"] == "step"]
    skipped = norms.count(None)
    assert 0 < skipped < len(norms)
    assert norms[:skipped] == [None] * skipped
    assert all(bool(value.isfinite().all()) for value in weights(straight).values())
    stopped = replace(SETTINGS, epochs=1)
    train(tmp_path / "b", **big, settings=stopped)
    _, other, _ = train(tmp_path / "b", **{**big, "scale": 1.0})
    found = [newest(f) for f in (fold, other)]
    assert found[0] is not None
    assert found[1] is not None
    assert found[0].state["scaler"] == found[1].state["scaler"]


def test_gradient_that_is_not_finite_at_any_scale_stops(tmp_path: Path) -> None:
    with pytest.raises(RunInterrupted, match=r"step 4: the loss is \d.* gradient norm nan"):
        train(tmp_path, broken_gradient=True, scale=8.0)  # 8, 4, 2, 1


def test_gradient_that_is_not_finite_stops_too(tmp_path: Path) -> None:
    with pytest.raises(
        RunInterrupted, match=r"step 1: the loss is \d.* gradient norm nan; no weight"
    ):
        train(tmp_path, broken_gradient=True)
    assert steps(FoldFolder(tmp_path, 2)) == []


def test_model_in_memory_is_unchanged_by_a_step_that_is_not_finite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Model] = []
    original = build

    def remember(dropout: float = 0.0) -> Model:
        made.append(original(dropout))
        return made[-1]

    monkeypatch.setitem(globals(), "build", remember)
    with pytest.raises(RunInterrupted):
        train(tmp_path, dataset=Numbers(broken=1), sampler=Fixed([[0, 1, 2, 3]]))
    assert_equal(weights(made[0]), weights(original()))


def test_training_stops_when_patience_is_out(tmp_path: Path) -> None:
    scores = [1.0, 0.8, 0.9, 0.8, 0.7, 0.1]
    settings = replace(SETTINGS, epochs=6, patience=2)
    _, fold, done = train(tmp_path, settings=settings, evaluate=scripted(scores))
    assert done.step == 4 * 6  # 6 steps an epoch; epochs 3 and 4 were no better than 2
    assert (done.best, done.best_step, done.stale) == (0.8, 12, 2)
    assert pointed(fold, "best").name == "step-000012"
    assert pointed(fold, "last").name == "step-000024"


def test_training_that_stopped_early_does_not_go_on_when_continued(tmp_path: Path) -> None:
    settings = replace(SETTINGS, epochs=6, patience=1)
    scores = [1.0, 2.0, 0.5, 0.4, 0.3, 0.2]
    first, _, done = train(tmp_path, settings=settings, evaluate=scripted(scores))
    again, fold, after = train(tmp_path, settings=settings, evaluate=scripted(scores))
    assert done.step == after.step == 12
    assert_equal(weights(first), weights(again))
    assert max(steps(fold)) == 12


@pytest.mark.parametrize(
    ("greater", "scores", "best"),
    [
        (True, [0.1, 0.5, 0.5, 0.4], 2),
        (False, [0.9, 0.5, 0.6, 0.5], 2),
        (True, [0.1, math.nan, 0.2, 0.0], 3),
    ],
)
def test_best_is_the_first_best_score_in_the_metrics_direction(
    tmp_path: Path, greater: bool, scores: list[float], best: int
) -> None:
    settings = replace(SETTINGS, epochs=4, metric="f1", greater_is_better=greater)
    _, fold, done = train(tmp_path, settings=settings, evaluate=scripted(scores, "f1"))
    assert done.best_step == 6 * best
    assert pointed(fold, "best").name == f"step-{6 * best:06d}"
    marked = [line["step"] for line in read_history(fold.history) if line.get("best")]
    assert marked[-1] == 6 * best


def test_best_weights_on_disk_are_those_of_the_best_step(tmp_path: Path) -> None:
    _, fold, _ = train(tmp_path / "a", settings=SETTINGS, evaluate=scripted([0.5, 0.1, 0.9]))
    seen: list[dict[str, Tensor]] = []

    def evaluate(model: nn.Module) -> dict[str, dict[str, float]]:
        seen.append(weights(model))
        return {"validation": {"loss": 1.0}}

    train(tmp_path / "b", settings=SETTINGS, evaluate=evaluate)
    assert_equal(load(pointed(fold, "best")).model, seen[1])


def test_without_evaluation_best_is_last(tmp_path: Path) -> None:
    model, fold, _ = train(tmp_path)
    assert pointed(fold, "best") == pointed(fold, "last") == fold.checkpoints / "step-000018"
    assert_equal(load(pointed(fold, "best")).model, weights(model))


@pytest.mark.parametrize(("every", "expected"), [(4, [4, 8, 12, 16, 18]), (None, [6, 12, 18])])
def test_evaluation_comes_every_n_steps_or_every_epoch_and_at_the_end(
    tmp_path: Path, every: int | None, expected: list[int]
) -> None:
    settings = replace(SETTINGS, evaluate_every=every)
    _, fold, _ = train(tmp_path, settings=settings, evaluate=own_loss)
    lines = read_history(fold.history)
    assert [line["step"] for line in lines if line["split"] == "validation"] == expected
    assert [line["step"] for line in lines if line["split"] == "training"] == expected


@pytest.mark.parametrize(("every", "expected"), [(1, list(range(1, 19))), (5, [5, 10, 15, 18])])
def test_log_has_each_due_step_once(tmp_path: Path, every: int, expected: list[int]) -> None:
    _, fold, _ = train(tmp_path, settings=replace(SETTINGS, log_every=every), evaluate=own_loss)
    logged = [line for line in read_history(fold.history) if line["split"] == "step"]
    assert [line["step"] for line in logged] == expected
    assert [line["epoch"] for line in logged] == pytest.approx([step / 6 for step in expected])


@pytest.mark.parametrize("tokens", [None, 24])
def test_logged_loss_is_the_mean_over_the_rows_since_the_last_line(
    tmp_path: Path, tokens: int | None
) -> None:
    # With a rate of 0 the weights stand still, so the mean can be computed from outside.
    def still(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=0.0)

    settings = replace(SETTINGS, epochs=1, log_every=100)
    sampler = Sampler(np.arange(1, ROWS + 1), ROWS, None, tokens, 1, SETTINGS.seed)
    sampler = replace(sampler, batch_size=None if tokens else 4)
    _, fold, _ = train(tmp_path, settings=settings, optimizer=still, sampler=sampler)
    data = Numbers()
    expected = functional.cross_entropy(
        build()(torch.from_numpy(data.x)), torch.from_numpy(data.y), WEIGHT, reduction="none"
    )
    (line,) = read_history(fold.history)
    assert line["loss"] == pytest.approx(expected.mean().item(), abs=1e-6)


def test_two_trainings_from_scratch_are_bit_identical(tmp_path: Path) -> None:
    results = []
    for name in ("a", "b"):
        torch.manual_seed(len(results))  # what was drawn before must not matter
        model, fold, _ = train(tmp_path / name, evaluate=own_loss, dropout=0.3)
        results.append((weights(model), fold.history.read_bytes()))
    assert_equal(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]


def test_dropout_depends_on_the_seed(tmp_path: Path) -> None:
    a, _, _ = train(tmp_path / "a", dropout=0.3, sampler=Fixed([[0, 1, 2]], [[3, 4]]))
    other = replace(SETTINGS, seed=(8, 2))
    b, _, _ = train(
        tmp_path / "b", dropout=0.3, settings=other, sampler=Fixed([[0, 1, 2]], [[3, 4]])
    )
    assert not torch.equal(a.state_dict()["layers_.0.weight"], b.state_dict()["layers_.0.weight"])


def test_rows_that_draw_from_global_generators_are_the_same_in_any_number_of_workers(
    tmp_path: Path,
) -> None:
    settings = replace(SETTINGS, epochs=2)
    plain, _, _ = train(tmp_path / "plain", settings=settings, dropout=0.3)
    alone, _, _ = train(tmp_path / "0", settings=settings, dataset=Numbers(noise=True), dropout=0.3)
    many, _, _ = train(
        tmp_path / "2",
        settings=replace(settings, workers=2),
        dataset=Numbers(noise=True),
        dropout=0.3,
    )
    assert_equal(weights(alone), weights(many))
    assert not torch.equal(
        plain.state_dict()["layers_.0.weight"], alone.state_dict()["layers_.0.weight"]
    )


class Stop(BaseException):
    """Ends a training as a kill would, right after a step's checkpoint is on disk."""


@pytest.mark.parametrize("optimizer", [sgd, adamw])
@pytest.mark.parametrize("patience", [None, 2])
def test_resume_from_the_checkpoint_of_every_step_ends_with_the_same_bytes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    optimizer: Callable[[nn.Module], torch.optim.Optimizer],
    patience: int | None,
) -> None:
    from foldwise.run import checkpoints

    # Mid-epoch saves, accumulation, dropout, random augmentation, evaluation between log lines.
    options: dict[str, Any] = {
        "settings": replace(SETTINGS, log_every=4, evaluate_every=3, patience=patience),
        "optimizer": optimizer,
        "dataset": Numbers(noise=True),
        "evaluate": own_loss,
        "accumulate": 2,
        "batch_size": 3,
        "dropout": 0.3,
    }
    snapshots: list[Path] = []
    save = checkpoints.save

    def save_and_keep(fold: FoldFolder, *arguments: Any, **named: Any) -> None:
        save(fold, *arguments, **named)
        snapshots.append(tmp_path / f"at-{len(snapshots) + 1}")
        shutil.copytree(fold.path, snapshots[-1])

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", save_and_keep)
        whole, fold, done = train(tmp_path / "whole", **options)
    assert len(snapshots) == done.step
    if patience is None:
        assert done.step == 12  # 8 micro-batches of 3 (the last of 1), 4 windows, 3 epochs
    for snapshot in snapshots:
        # The process died after logging a step that no checkpoint has.
        with (snapshot / "metrics.jsonl").open("a") as file:
            file.write(
                json.dumps({"split": "step", "step": 999, "epoch": 9.0}) + "\n" + '{"split": "st'
            )
        reseed(len(snapshot.name))
        again, continued, after = train(snapshot, **options)
        assert_equal(weights(again), weights(whole))
        assert replace(after, elapsed_s=0) == replace(done, elapsed_s=0)
        assert continued.history.read_bytes() == fold.history.read_bytes()
        assert continued.best.read_bytes() == fold.best.read_bytes()
        for name in ("model.safetensors", "optimizer.safetensors"):
            last = [pointed(f, "last") / name for f in (fold, continued)]
            assert last[0].read_bytes() == last[1].read_bytes()


def test_resume_three_times_in_one_epoch_ends_with_the_same_bytes(tmp_path: Path) -> None:
    whole, fold, _ = train(tmp_path / "whole", evaluate=own_loss, dropout=0.3)
    path = tmp_path / "cut"
    for survived in (2, 3, 5):

        def dying(model: nn.Module, survived: int = survived) -> dict[str, dict[str, float]]:
            if max(steps(FoldFolder(path, 2)), default=0) >= survived:
                raise Stop
            return own_loss(model)

        every = replace(SETTINGS, evaluate_every=1)
        with pytest.raises(Stop):
            train(path, evaluate=dying, dropout=0.3, settings=every)
    again, continued, _ = train(
        path, evaluate=own_loss, dropout=0.3, settings=replace(SETTINGS, evaluate_every=1)
    )
    assert_equal(weights(again), weights(whole))
    logged = [
        [line for line in read_history(f.history) if line["split"] == "step"]
        for f in (fold, continued)
    ]
    assert logged[0] == logged[1]


@pytest.mark.parametrize("values", [{"ema": 0.8}, {"swa": 0.5}])
def test_average_is_scored_and_kept_while_the_weights_train_on_as_without_it(
    tmp_path: Path, values: dict[str, float]
) -> None:
    every = replace(SETTINGS, evaluate_every=1)
    each: list[dict[str, Tensor]] = []

    def watch(model: nn.Module) -> dict[str, dict[str, float]]:
        each.append(weights(model))
        return {"validation": {"loss": 1.0 / len(each)}}

    plain, _, _ = train(tmp_path / "plain", settings=every, evaluate=watch, dropout=0.3)
    raw, each = each, []
    share = newest_share(Average(**values), 18)
    model, fold, _ = train(
        tmp_path / "average", settings=every, average=share, evaluate=watch, dropout=0.3
    )
    assert_equal(weights(model), weights(plain))
    for step in (1, 5, 10, 18):
        if "ema" in values:
            counts = [0.2 * 0.8 ** (step - i) / (1 - 0.8**step) for i in range(1, step + 1)]
        else:  # the mean over steps 10 to 18; before those the weights themselves
            first = min(step, 10)
            counts = [1 / (step + 1 - first) * (i >= first) for i in range(1, step + 1)]
        expected = {
            name: sum((c * w[name] for c, w in zip(counts, raw[:step], strict=True)), Tensor([0]))
            for name in raw[0]
        }
        assert_close(each[step - 1], expected)
    best = pointed(fold, "best")
    assert best == pointed(fold, "last")
    assert_equal(load(best).model, each[-1])
    kept = {f"raw.{name}": value for name, value in raw[-1].items()}
    assert_equal({k: v for k, v in load(best).optimizer.items() if k.startswith("raw.")}, kept)


@pytest.mark.parametrize(
    ("optimizer", "values"), [(adamw_8bit, {"ema": 0.9}), (adamw, {"swa": 0.6}), (adamw_8bit, None)]
)
def test_average_bytes_and_plateau_go_on_after_a_kill_with_the_same_bytes(
    tmp_path: Path,
    optimizer: Callable[[nn.Module], torch.optim.Optimizer],
    values: dict[str, float] | None,
) -> None:
    share = newest_share(Average(**values) if values else None, 18)
    options: dict[str, Any] = {
        "settings": replace(SETTINGS, evaluate_every=1),
        "average": share,
        "optimizer": optimizer,
        "schedule": plateau,
        "dropout": 0.3,
    }
    whole, fold, _ = train(tmp_path / "whole", evaluate=own_loss, **options)
    path = tmp_path / "cut"
    for survived in (4, 11):

        def dying(model: nn.Module, survived: int = survived) -> dict[str, dict[str, float]]:
            if max(steps(FoldFolder(path, 2)), default=0) >= survived:
                raise Stop
            return own_loss(model)

        with pytest.raises(Stop):
            train(path, evaluate=dying, **options)
    again, continued, _ = train(path, evaluate=own_loss, **options)
    assert_equal(weights(again), weights(whole))
    for which in ("best", "last"):
        one, other = (load(pointed(f, which)) for f in (fold, continued))
        assert one.step == other.step
        assert_equal(one.model, other.model)
        assert_equal(one.optimizer, other.optimizer)
        assert one.state["schedule"] == other.state["schedule"]
    assert continued.history.read_bytes() == fold.history.read_bytes()
    rates = [line["lr"] for line in read_history(fold.history) if line["split"] == "step"]
    assert rates[-1] < max(rates)
