from __future__ import annotations

import math
from itertools import cycle
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from foldwise.errors import FoldwiseError
from foldwise.training.batching import Sampler
from foldwise.training.loading import TrainingRows
from foldwise.training.lr_finder import range_test, suggest

ROWS = 64


class Line:
    """y = 2x, one number a row; what a task gives the loop."""

    def collate(self, rows: list[Any]) -> dict[str, Tensor]:
        x = torch.tensor(rows, dtype=torch.float32)[:, None]
        return {"x": x, "target": 2 * x[:, 0]}

    def loss(self, outputs: Tensor, batch: dict[str, Tensor]) -> Tensor:
        return (outputs[:, 0] - batch["target"]) ** 2


class Slope(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.w


def line_test(rates: np.ndarray, x: np.ndarray | None = None, **changed: Any) -> Any:
    values = np.random.default_rng(0).normal(size=ROWS) if x is None else x
    model = Slope()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    task = changed.pop("task", None) or Line()
    sampler = changed.pop("sampler", None) or Sampler(
        lengths=None,
        rows=ROWS,
        batch_size=16,
        tokens_per_batch=None,
        accumulate=1,
        seed=(0, 1),
        chunks=None,
    )
    settings = {"base": 0.1, "seed": (0, 1), "clip": None} | changed
    rows = TrainingRows(values, np.arange(len(values)), sampler)
    accelerator = Accelerator(cpu=True)
    return range_test(model, task, rows, optimizer, accelerator, rates, **settings)


def test_the_loss_falls_where_the_rate_is_right_and_the_test_ends_where_it_diverges() -> None:
    class Rough(Line):  # nothing fits it: at a loss of 0 no rate would be too high
        def collate(self, rows: list[Any]) -> dict[str, Tensor]:
            batch = super().collate(rows)
            return batch | {"target": batch["target"] + 0.1 * torch.sin(9 * batch["x"][:, 0])}

    found = line_test(np.geomspace(1e-5, 100, 120), task=Rough())
    assert found.ended == "diverged"
    # Gradient descent on a quadratic of curvature 2 E[x^2], about 2, diverges above a rate of 1.
    assert 0.3 < found.rates[-1] < 20
    assert 1e-3 < found.valley < 1
    assert found.valley < found.rates[int(np.argmin(found.smoothed))]
    assert found.minimum_tenth == pytest.approx(found.rates[int(np.argmin(found.smoothed))] / 10)


def test_the_test_ends_once_all_that_was_won_is_lost_again() -> None:
    class Floor(Line):
        def loss(self, outputs: Tensor, batch: dict[str, Tensor]) -> Tensor:
            return 3 + super().loss(outputs, batch).clamp(max=4)  # never four times the lowest

    found = line_test(np.geomspace(1e-3, 1e6, 120), task=Floor())
    assert found.ended == "diverged"
    assert found.rates[-1] < 100


def test_a_curve_is_smoothed_alike_however_many_steps_it_has() -> None:
    fine, coarse = np.geomspace(1e-5, 0.1, 161), np.geomspace(1e-5, 0.1, 41)

    def falls(rates: np.ndarray) -> np.ndarray:
        return 1 + 1 / (1 + np.exp(4 * (np.log10(rates) + 3)))

    many, few = suggest(fine, falls(fine)), suggest(coarse, falls(coarse))
    np.testing.assert_allclose(many.smoothed[::4], few.smoothed, atol=0.01)
    assert few.steepest == pytest.approx(1e-3, rel=0.3)


def test_groups_keep_their_ratios() -> None:
    # The same test at half the base says twice the rates: what counts is lr / base.
    one = line_test(np.geomspace(1e-5, 1e-1, 40))
    half = line_test(np.geomspace(1e-5, 1e-1, 40) / 2, base=0.05)
    np.testing.assert_allclose(one.losses, half.losses, rtol=1e-6)


def test_the_steps_go_over_the_same_few_windows() -> None:
    # At rates that move nothing a step's loss is that of its rows alone.
    x = np.random.default_rng(1).normal(size=16 * 5) * np.repeat([1, 2, 3, 4, 5], 16)
    rows = Sampler(None, 80, 8, None, 1, (0, 1))  # 10 windows an epoch
    found = line_test(np.geomspace(1e-12, 1e-11, 24), x, sampler=rows)
    np.testing.assert_allclose(found.losses, np.tile(found.losses[:4], 6), rtol=1e-5)
    assert len(set(np.round(found.losses, 3))) == 4


def test_more_windows_than_an_epoch_has_are_taken_from_the_next() -> None:
    sampler = Sampler(None, ROWS, 32, None, 1, (0, 1))  # 2 windows an epoch
    found = line_test(np.geomspace(1e-6, 1e-3, 30), sampler=sampler)
    assert (len(found.losses), found.ended) == (30, "steps")
    assert found.losses[0] == pytest.approx(found.losses[4], rel=1e-3)


def test_rows_weigh_as_in_training_where_tokens_fill_the_batches() -> None:
    # The curve is that of plain gradient descent on sums divided by the mean rows a window.
    x, rates = np.random.default_rng(0).normal(size=ROWS), np.geomspace(1e-3, 1e-1, 12)
    sampler = Sampler(np.arange(1, ROWS + 1), ROWS, None, 64, 1, (0, 1))
    windows = sampler.windows(0)
    assert len({len(window[0]) for window in windows}) > 3
    w, losses = 0.0, []
    for rate, (batch,) in zip(rates, cycle(windows[:4]), strict=False):
        residual = (w - 2) * x[batch]
        losses.append((residual**2).mean())  # what is shown is the mean over the step's rows
        w -= rate * (2 * residual * x[batch]).sum() / (ROWS / len(windows))
    found = line_test(rates, x, sampler=sampler)
    np.testing.assert_allclose(found.losses, losses, rtol=1e-5)


def test_a_loss_that_is_never_finite_is_refused() -> None:
    with pytest.raises(FoldwiseError, match="not finite after 0 steps"):
        line_test(np.geomspace(1e-5, 1, 40), np.full(ROWS, np.nan))


def test_a_loss_that_stops_being_finite_ends_the_test() -> None:
    class Breaks(Line):
        steps = 0

        def loss(self, outputs: Tensor, batch: dict[str, Tensor]) -> Tensor:
            self.steps += 1
            return super().loss(outputs, batch) * (math.nan if self.steps > 15 else 1)

    found = line_test(np.geomspace(1e-6, 1e-3, 40), task=Breaks())
    assert (found.ended, len(found.losses)) == ("not finite", 15)


def test_suggestions_of_a_curve_that_is_known() -> None:
    rates = np.geomspace(1e-6, 1, 121)
    falls = 1 / (1 + np.exp(4 * (np.log10(rates) + 3)))  # steepest at 1e-3
    rises = 3 * np.maximum(0, np.log10(rates) + 1.5) ** 2
    noise = np.random.default_rng(0).normal(scale=0.05, size=121)
    found = suggest(rates, 2 + falls + rises + noise)
    assert found.steepest == pytest.approx(1e-3, rel=0.5)
    assert 1e-3 < found.minimum_tenth < 10**-1.5
    assert 1e-5 < found.valley < found.minimum_tenth * 10


def test_a_loss_that_only_rises_suggests_the_lowest_rates() -> None:
    rates = np.geomspace(1e-6, 1, 50)
    found = suggest(rates, np.linspace(1, 5, 50))
    assert found.steepest == found.valley == rates[0]
