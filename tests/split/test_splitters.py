"""Splitters: groups stay whole, classes are even, time runs forwards, the table's folds stand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import KFold, ShuffleSplit, StratifiedKFold

from foldwise.errors import FoldwiseError
from foldwise.split.splitters import (
    deal,
    from_column,
    from_time,
    latest,
    set_aside,
    time_ranks,
    with_splitter,
)


def table(codes: list[int], groups: list[int]) -> tuple[np.ndarray, np.ndarray]:
    # Every class from 0 to the largest occurs, as np.unique gives them.
    return np.unique(codes, return_inverse=True)[1], np.array(groups)


@st.composite
def grouped(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    size = draw(st.integers(1, 60))
    codes = draw(st.lists(st.integers(0, 4), min_size=size, max_size=size))
    groups = draw(st.lists(st.integers(0, 40), min_size=size, max_size=size))
    return table(codes, groups)


def times(*cells: str | None) -> pl.Series:
    return pl.Series("when", cells, dtype=pl.String)


pytestmark = pytest.mark.filterwarnings("ignore:The groups parameter is ignored")


class Pairs:
    """A splitter that yields what it was given."""

    def __init__(self, *pairs: Any) -> None:
        self.pairs = pairs

    def split(self, x: Any, y: Any = None, groups: Any = None) -> Iterator[Any]:
        yield from self.pairs


@settings(max_examples=60, deadline=None)
@given(
    codes=st.lists(st.integers(0, 6), min_size=1, max_size=80),
    n=st.integers(2, 7),
    seed=st.integers(0, 99),
)
def test_without_groups_classes_and_sizes_differ_by_one_row_at_most(
    codes: list[int], n: int, seed: int
) -> None:
    codes_, groups = table(codes, list(range(len(codes))))
    fold = deal(codes_, groups, n, np.random.default_rng(seed))
    counts = np.array(
        [np.bincount(codes_[fold == k], minlength=codes_.max() + 1) for k in range(n)]
    )
    assert np.ptp(counts, axis=0).max() <= 1
    assert np.ptp(counts.sum(axis=1)) <= 1
    assert counts.sum() == len(codes)


def test_classes_are_as_even_as_scikit_learns() -> None:
    codes = np.repeat([0, 1, 2], [41, 23, 7])
    fold = deal(codes, np.arange(len(codes)), 5, np.random.default_rng(0))
    ours = sorted(np.bincount(codes[fold == k]).tolist() for k in range(5))
    theirs = StratifiedKFold(5, shuffle=True, random_state=0).split(codes, codes)
    spread = np.ptp([np.bincount(codes[test]) for _, test in theirs], axis=0)
    assert np.ptp(ours, axis=0).tolist() == spread.tolist()


@settings(max_examples=60, deadline=None)
@given(rows=grouped(), n=st.integers(2, 6), seed=st.integers(0, 99))
def test_dealt_groups_stay_whole(rows: tuple[np.ndarray, np.ndarray], n: int, seed: int) -> None:
    codes, groups = rows
    fold = deal(codes, groups, n, np.random.default_rng(seed))
    assert fold.min() >= 0
    assert fold.max() < n
    for group in np.unique(groups):
        assert len(set(fold[groups == group])) == 1


@settings(max_examples=60, deadline=None)
@given(rows=grouped(), n=st.integers(2, 6), seed=st.integers(0, 99))
def test_no_fold_is_empty_with_as_many_groups_as_folds(
    rows: tuple[np.ndarray, np.ndarray], n: int, seed: int
) -> None:
    codes, groups = rows
    fold = deal(codes, groups, n, np.random.default_rng(seed))
    assert len(np.unique(fold)) == min(n, len(np.unique(groups)))


@settings(max_examples=60, deadline=None)
@given(rows=grouped(), n=st.integers(2, 6), seed=st.integers(0, 99))
def test_by_size_alone_folds_differ_by_the_largest_group_at_most(
    rows: tuple[np.ndarray, np.ndarray], n: int, seed: int
) -> None:
    _, groups = rows
    fold = deal(np.zeros(len(groups), dtype=np.int64), groups, n, np.random.default_rng(seed))
    assert np.ptp(np.bincount(fold, minlength=n)) <= np.bincount(groups).max()


def test_lone_rows_level_what_groups_left_uneven() -> None:
    groups = np.concatenate([np.zeros(4), np.arange(1, 9)]).astype(np.int64)
    fold = deal(np.zeros(12, dtype=np.int64), groups, 3, np.random.default_rng(0))
    assert np.bincount(fold).tolist() == [4, 4, 4]


@settings(max_examples=80, deadline=None)
@given(rows=grouped(), fraction=st.floats(0.01, 0.99, exclude_max=True), seed=st.integers(0, 99))
def test_set_aside_takes_whole_groups_and_no_class_beyond_its_rounded_share(
    rows: tuple[np.ndarray, np.ndarray], fraction: float, seed: int
) -> None:
    codes, groups = rows
    taken = set_aside(codes, groups, fraction, np.random.default_rng(seed))
    for code in np.unique(codes):
        assert taken[codes == code].sum() <= (codes == code).sum() * fraction + 0.5
    for group in np.unique(groups):
        assert len(set(taken[groups == group])) == 1


def test_set_aside_takes_exactly_the_rounded_share_of_lone_rows() -> None:
    codes = np.repeat([0, 1, 2], [20, 15, 4])
    taken = set_aside(codes, np.arange(39), 0.1, np.random.default_rng(0))
    assert [int(taken[codes == code].sum()) for code in range(3)] == [2, 2, 0]


@pytest.mark.parametrize("pairs", [0, 20, 200, 500])
def test_set_aside_takes_the_same_share_of_grouped_and_lone_rows(pairs: int) -> None:
    groups = np.concatenate([np.repeat(np.arange(pairs), 2), np.arange(pairs, 1000 - pairs)])
    taken = set_aside(np.zeros(1000, dtype=np.int64), groups, 0.1, np.random.default_rng(0))
    assert taken.sum() == 100
    assert taken[: 2 * pairs].sum() == pairs // 5


def test_set_aside_leaves_a_group_larger_than_the_share() -> None:
    groups = np.concatenate([np.zeros(6), np.arange(1, 5)]).astype(np.int64)
    taken = set_aside(np.zeros(10, dtype=np.int64), groups, 0.3, np.random.default_rng(0))
    assert not taken[:6].any()
    assert taken.sum() == 3


def test_column_folds_are_the_tables_own_and_empty_cells_are_never_scored() -> None:
    fold = from_column(pl.Series(["b", None, "a", "b"]), "part", 2)
    assert fold.tolist() == [1, -1, 0, 1]


@pytest.mark.parametrize(
    "cells",
    [
        [str(i) for i in range(12)],
        [str(i) for i in range(-3, 9)],
        [f"{i}.0" for i in range(12)],  # what pandas makes of an integer column with empty cells
    ],
)
def test_column_folds_that_are_numbers_are_ordered_as_numbers(cells: list[str]) -> None:
    fold = from_column(pl.Series([*cells, None]), "part", 12)
    assert fold.tolist() == [*range(12), -1]


def test_column_folds_that_only_look_like_numbers_are_ordered_as_text() -> None:
    assert from_column(pl.Series(["--1", "²", "--1"]), "part", 2).tolist() == [0, 1, 0]


def test_column_with_another_number_of_folds_is_refused() -> None:
    with pytest.raises(FoldwiseError) as caught:
        from_column(pl.Series(["a", "b", None, "c"]), "part", 5)
    assert str(caught.value) == (
        "column 'part' holds 3 different folds, but folds.n is 5; set folds.n: 3"
    )


@settings(max_examples=80, deadline=None)
@given(
    values=st.lists(st.integers(0, 30), min_size=1, max_size=60),
    twins=st.lists(st.integers(0, 60), min_size=60, max_size=60),
    n=st.integers(2, 4),
)
def test_time_folds_never_train_on_the_future(values: list[int], twins: list[int], n: int) -> None:
    groups = np.array(twins[: len(values)])
    when = np.array(values)
    try:
        fold, idle = from_time(times(*map(str, values)), "when", groups, n)
    except FoldwiseError:
        return
    assert sorted(np.unique(fold)) == list(range(-1, n))
    latest = np.array([when[groups == group].max() for group in groups])
    for k in range(n):
        trains = np.setdiff1d(np.flatnonzero(fold != k), idle[k])
        # A scored row may be an early twin of a late one; its group's latest row sets the time.
        assert when[trains].max() < latest[fold == k].min()
        assert not np.isin(groups[trains], groups[fold == k]).any()


def test_equal_times_share_a_fold() -> None:
    fold, _ = from_time(times(*"1122334455"), "when", np.arange(10), 3)
    assert all(fold[i] == fold[i + 1] for i in range(0, 10, 2))
    assert fold.tolist() == sorted(fold)


def test_a_group_goes_with_its_latest_row() -> None:
    fold, idle = from_time(times(*"12345678"), "when", np.array([0, 1, 2, 3, 4, 5, 6, 0]), 3)
    assert fold.tolist() == [2, -1, 0, 0, 1, 1, 2, 2]
    assert [part.tolist() for part in idle] == [[0, 4, 5, 6, 7], [0, 6, 7], []]


def test_too_few_times_are_refused() -> None:
    with pytest.raises(FoldwiseError, match=r"has 3 different times, too few for 3 folds"):
        from_time(times("1", "2", "3", "3"), "when", np.arange(4), 3)


def test_times_so_uneven_that_a_fold_is_empty_are_refused() -> None:
    with pytest.raises(FoldwiseError, match="leave a fold empty"):
        from_time(times(*"1111111123"), "when", np.arange(10), 2)


def last_of(times: list[int], fraction: float, groups: list[int] | None = None) -> list[int]:
    group = np.arange(len(times)) if groups is None else np.array(groups)
    values = pl.Series("when", [str(time) for time in times])
    return np.flatnonzero(latest(values, "when", group, fraction, "key", "leave it")).tolist()


@pytest.mark.parametrize(
    ("fraction", "first"), [(0.02, 40), (0.05, 36), (0.2, 36), (0.25, 36), (0.3, 24), (0.9, 12)]
)
def test_the_latest_times_whose_rows_come_nearest_to_the_share_are_taken(
    fraction: float, first: int
) -> None:
    # 12, 12, 12 and 4 rows: 4, 16 or 28 can be taken; none where the share is less than a row.
    assert last_of([i // 12 for i in range(40)], fraction) == list(range(first, 40))


@settings(max_examples=50, deadline=None)
@given(times=st.lists(st.integers(0, 6), min_size=2, max_size=40), fraction=st.floats(0.01, 0.99))
def test_rows_of_equal_time_are_taken_together(times: list[int], fraction: float) -> None:
    if len(set(times)) == 1:
        return
    taken = {times[i] for i in last_of(times, fraction)}
    assert not taken or taken == {time for time in times if time >= min(taken)} < set(times)


def test_duplicates_that_reach_over_all_times_leave_nothing_to_divide() -> None:
    message = "^key: 4 rows can't be divided by time: duplicate texts reach over all times of co"
    with pytest.raises(FoldwiseError, match=message):
        last_of([0, 1, 2, 3], 0.5, [0, 1, 0, 1])


def test_numbers_are_ordered_as_numbers() -> None:
    assert time_ranks(times("10", "9", "-1", "9.5"), "when").tolist() == [3, 1, 0, 2]


@pytest.mark.parametrize(
    "ordered",
    [
        ["2019-12-31", "2020-01-01", "2020-01-01T00:00:01", "2020-01-02"],
        ["2020-01-01T09:00:00", "2020-01-01 10:00:00", "2020-01-01T11:00:00"],
        ["2020-01-01T23:30:00+02:00", "2020-01-01T22:00:00+00:00", "2020-01-01T18:00:00-05:00"],
        ["2020-01-01 10:00:00.5", "2020-01-01 10:00:00.6Z", "2020-01-01 10:00:01"],
    ],
)
def test_iso_dates_are_ordered_as_moments(ordered: list[str]) -> None:
    shuffled = [ordered[-1], *ordered[:-1]]
    assert time_ranks(times(*shuffled), "when").tolist() == [
        len(ordered) - 1,
        *range(len(ordered) - 1),
    ]


def test_the_same_moment_written_twice_is_one_time() -> None:
    ranks = time_ranks(times("2020-01-01", "2020-01-01T01:00:00+01:00"), "when")
    assert ranks.tolist() == [0, 0]


@pytest.mark.parametrize("odd", ["31/01/2024", "Jan 5", "2024-01-31 or so", "2024-13-01", "nan"])
def test_other_formats_are_refused_by_name(odd: str) -> None:
    with pytest.raises(FoldwiseError) as caught:
        time_ranks(times("2024-01-30", odd), "when")
    assert str(caught.value) == (
        f"column 'when' (folds.time) holds {odd!r}; times are numbers or ISO 8601 dates such as "
        "2024-01-31"
    )


def test_an_empty_time_is_refused() -> None:
    with pytest.raises(FoldwiseError, match=r"column 'when' \(folds.time\) has 2 empty cells"):
        time_ranks(times("1", None, None), "when")


def test_a_splitters_folds_are_kept_and_what_it_leaves_out_is_unused() -> None:
    fold, idle = with_splitter(Pairs(([0, 1], [2]), ([2], [0])), None, np.arange(4), 2, "my.Cut")
    assert fold.tolist() == [1, -1, 0, -1]
    assert [part.tolist() for part in idle] == [[3], [1, 3]]


def test_a_splitter_of_scikit_learn_gives_its_own_folds() -> None:
    fold, idle = with_splitter(KFold(4), None, np.zeros(10, dtype=np.int64), 4, "KFold")
    for k, (_, test) in enumerate(KFold(4).split(np.zeros(10))):
        assert np.flatnonzero(fold == k).tolist() == test.tolist()
        assert len(idle[k]) == 0


@pytest.mark.parametrize(
    ("splitter", "message"),
    [
        (KFold(3), "folds.strategy my.Cut yields 3 folds, but folds.n is 2"),
        (ShuffleSplit(2, random_state=0, test_size=0.75), "scores a row in more than one fold"),
        (Pairs(([0], [1, 1]), ([1], [0])), "scores a row in more than one fold"),
        (Pairs(([0, 1], [1]), ([1], [0])), "fold 1 trains on rows it scores"),
        (Pairs(([0], [1]), ([], [0])), "fold 2 is empty on one side"),
        (Pairs(([0], [1]), ([1], [9])), "fold 2 names a row that isn't there"),
        (Pairs(([0], [1]), ([1], [-1])), "fold 2 names a row that isn't there"),
        (Pairs(([0], [1]), 7), "split() failed: "),
        (StratifiedKFold(2), "split() failed: "),
    ],
)
def test_a_splitter_that_breaks_the_rules_is_refused(splitter: Any, message: str) -> None:
    with pytest.raises(FoldwiseError) as caught:
        with_splitter(splitter, None, np.arange(4), 2, "my.Cut")
    assert str(caught.value).startswith("folds.strategy my.Cut")
    assert message in str(caught.value)
