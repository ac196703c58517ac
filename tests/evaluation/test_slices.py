from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from foldwise.evaluation.slices import OTHERS, Slice, by_length, by_value, score_slices

RNG = np.random.default_rng(0)
N = 400
VALUES = (RNG.random(N) < 0.7).astype(np.float64)
ALONE = np.arange(N)


def scored(
    cells: list[str], values: np.ndarray = VALUES, groups: np.ndarray = ALONE
) -> list[Slice]:
    """Score the values of one column."""
    return score_slices([by_value(cells)], values, groups, smaller_is_better=False, seed=0)[0]


def test_each_value_gets_its_rows_and_their_mean() -> None:
    cells = np.array(["a", "b", "c"])[RNG.choice(3, N, p=[0.5, 0.3, 0.2])]
    slices = scored(cells.tolist())
    assert [s.name for s in slices] == ["a", "b", "c"]
    for part in slices:
        inside = cells == part.name
        assert (part.rows, part.score) == (inside.sum(), pytest.approx(VALUES[inside].mean()))


def test_the_interval_of_a_share_is_wilsons() -> None:
    (part,) = scored(["x"] * N)
    wilson = stats.binomtest(int(VALUES.sum()), N).proportion_ci(0.95, "wilson")
    assert (part.low, part.high) == pytest.approx((wilson.low, wilson.high))


def test_two_wrong_rows_are_told_as_unsure_and_never_marked() -> None:
    values = np.ones(N)
    values[:2] = 0
    values[10:60] = 0
    rare, common = scored(["two"] * 2 + ["x"] * (N - 2), values)[::-1]
    assert (rare.rows, rare.score, rare.enough, rare.worse) == (2, 0, False, False)
    wilson = stats.binomtest(0, 2).proportion_ci(0.95, "wilson")
    assert (rare.low, rare.high) == pytest.approx((0, wilson.high))
    assert (common.enough, common.worse) == (True, False)


def test_the_interval_of_a_mean_error_is_students() -> None:
    values = RNG.exponential(size=N)
    (part,) = scored(["x"] * N, values)
    plain = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (part.low, part.high) == pytest.approx((plain.low, plain.high))
    alone = scored(["a"] + ["b"] * (N - 1), values)[1]
    assert alone.score == values[0]
    assert math.isnan(alone.low)
    assert math.isnan(alone.high)


@pytest.mark.parametrize("binary", [True, False])
def test_duplicates_widen_the_interval(binary: bool) -> None:
    values = VALUES if binary else RNG.exponential(size=N)
    twice, cells = np.repeat(values, 4), ["x"] * (4 * N)
    (alone,) = scored(cells, twice, np.arange(4 * N))
    (together,) = scored(cells, twice, np.repeat(ALONE, 4))
    assert together.high - together.low == pytest.approx(2 * (alone.high - alone.low), rel=0.02)


def test_rare_values_are_pooled() -> None:
    cells = [f"v{i}" for i in range(N // 4) for _ in range(4)]
    slices = by_value(cells, most=5)
    assert [part.inside.sum() for part in slices] == [4, 4, 4, 4, N - 16]
    assert slices[-1].name == OTHERS


@pytest.mark.parametrize("copies", [1, 3])
@pytest.mark.parametrize("binary", [True, False])
def test_unrelated_columns_seldom_give_a_flag(binary: bool, copies: int) -> None:
    # Four columns of 3 to 12 values and the lengths, none of which has to do with the score: of
    # 120 such tables 3 may have a flag; 9 or more have a chance of 0.004.
    flagged = 0
    for seed in range(120):
        rng = np.random.default_rng(seed)
        rows = 240
        values = rng.random(rows) < 0.8 if binary else rng.exponential(size=rows)
        columns = [by_value(rng.integers(k, size=rows).astype(str).tolist()) for k in (3, 6, 9, 12)]
        columns.append(by_length(rng.integers(5, 300, size=rows)))
        groups = np.arange(rows) // copies
        values = np.asarray(values, dtype=np.float64)[groups]
        found = score_slices(
            columns, values, groups, smaller_is_better=not binary, seed=seed, permutations=399
        )
        flagged += any(part.worse for slices in found for part in slices)
    assert flagged <= 8


@pytest.mark.parametrize("binary", [True, False])
def test_a_value_that_is_worse_is_found_among_many_columns(binary: bool) -> None:
    rng = np.random.default_rng(3)
    cells = rng.integers(8, size=N).astype(str)
    chance = np.where(cells == "5", 0.4, 0.8)
    values = rng.random(N) < chance if binary else rng.exponential(size=N) / chance**2
    columns = [by_value(rng.integers(10, size=N).astype(str).tolist()) for _ in range(8)]
    found = score_slices(
        [*columns, by_value(cells.tolist())],
        values.astype(np.float64),
        ALONE,
        smaller_is_better=not binary,
        seed=0,
    )
    assert [part.name for part in found[-1] if part.worse] == ["5"]
    assert not any(part.worse for slices in found[:-1] for part in slices)


def test_a_value_that_is_better_is_not_marked() -> None:
    values = np.repeat([1.0, 0.0, 1.0, 0.0], [100, 100, 10, 190])
    cells = ["good"] * 100 + ["bad"] * 100 + ["x"] * 200
    assert {part.name: part.worse for part in scored(cells, values)} == {
        "good": False,
        "bad": True,
        "x": True,
    }


def test_lengths_are_cut_into_parts_that_hold_every_row_once() -> None:
    lengths = RNG.integers(3, 500, N)
    slices = by_length(lengths)
    assert sum(part.inside.sum() for part in slices) == N
    assert slices[0].name.startswith(f"{lengths.min()} to ")
    assert slices[-1].name.endswith(f" to {lengths.max()} tokens")


def test_equal_lengths_make_one_part() -> None:
    assert [(s.name, s.inside.sum()) for s in by_length(np.full(N, 7))] == [("7 to 7 tokens", N)]
