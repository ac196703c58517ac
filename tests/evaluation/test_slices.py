from __future__ import annotations

import numpy as np
import pytest

from foldwise.evaluation.slices import OTHERS, by_length, by_value

RNG = np.random.default_rng(0)
N = 400
VALUES = (RNG.random(N) < 0.7).astype(np.float64)


def test_each_value_gets_its_rows_and_their_mean() -> None:
    cells = np.array(["a", "b", "c"])[RNG.choice(3, N, p=[0.5, 0.3, 0.2])]
    slices = by_value(VALUES, np.arange(N), cells.tolist(), seed=0)
    assert [s.name for s in slices] == ["a", "b", "c"]
    for part in slices:
        inside = cells == part.name
        assert (part.rows, part.score) == (inside.sum(), pytest.approx(VALUES[inside].mean()))
        spread = 1.96 * VALUES[inside].std() / np.sqrt(inside.sum())
        assert part.high - part.low == pytest.approx(2 * spread, rel=0.15)


def test_rare_values_are_pooled() -> None:
    cells = [f"v{i}" for i in range(N // 4) for _ in range(4)]
    slices = by_value(VALUES, np.arange(N), cells, seed=0, most=5)
    assert [s.rows for s in slices] == [4, 4, 4, 4, N - 16]
    assert slices[-1].name == OTHERS


def test_duplicates_widen_the_interval() -> None:
    twice = np.repeat(VALUES, 4)
    cells = ["x"] * len(twice)
    alone = by_value(twice, np.arange(len(twice)), cells, seed=0)[0]
    together = by_value(twice, np.repeat(np.arange(N), 4), cells, seed=0)[0]
    assert together.high - together.low == pytest.approx(2 * (alone.high - alone.low), rel=0.2)


def test_lengths_are_cut_into_parts_that_hold_every_row_once() -> None:
    lengths = RNG.integers(3, 500, N)
    slices = by_length(VALUES, np.arange(N), lengths, seed=0)
    assert sum(s.rows for s in slices) == N
    assert slices[0].name.startswith(f"{lengths.min()} to ")
    assert slices[-1].name.endswith(f" to {lengths.max()} tokens")


def test_equal_lengths_make_one_part() -> None:
    slices = by_length(VALUES, np.arange(N), np.full(N, 7), seed=0)
    assert [(s.name, s.rows) for s in slices] == [("7 to 7 tokens", N)]
