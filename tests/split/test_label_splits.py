"""Splits of rows with several labels, and of rows with numbers."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from foldwise.split.splitters import deal, deal_labels, quantile_bins, set_aside


def drawn(rows: int, labels: int, seed: int) -> np.ndarray:
    """Labels of very different frequency."""
    rng = np.random.default_rng(seed)
    return rng.random((rows, labels)) < np.geomspace(0.5, 0.05, labels)


def spread(labels: np.ndarray, fold: np.ndarray, n: int) -> np.ndarray:
    """How far each label's rows in a fold are from an even share: (n, labels)."""
    counts = np.stack([labels[fold == k].sum(axis=0) for k in range(n)])
    return np.abs(counts - labels.sum(axis=0) / n)


@given(st.integers(0, 1000), st.integers(2, 6))
@settings(max_examples=25)
def test_every_label_is_spread_evenly(seed: int, n: int) -> None:
    labels = drawn(120, 6, seed)
    fold = deal(labels, np.arange(120), n, np.random.default_rng(seed))
    assert set(fold) == set(range(n))
    apart = spread(labels, fold, n)
    rarest = int(np.where(labels.any(axis=0), labels.sum(axis=0), 999).argmin())
    assert apart[:, rarest].max() < 1  # dealt first: as even as rows permit
    assert apart.max() < 3
    by_chance = [
        spread(labels, np.random.default_rng([seed, i]).integers(0, n, 120), n).mean()
        for i in range(20)
    ]
    assert apart.mean() <= min(by_chance)
    assert np.ptp(np.bincount(fold)) <= 3


def test_groups_of_rows_with_labels_are_dealt_whole() -> None:
    labels = drawn(90, 4, 3)
    groups = np.repeat(np.arange(45), 2)
    fold = deal_labels(labels, groups, np.full(3, 1 / 3), np.random.default_rng(0))
    np.testing.assert_array_equal(fold[::2], fold[1::2])
    assert spread(labels, fold, 3).max() <= 4


def test_rows_without_any_label_even_out_the_sizes() -> None:
    labels = np.zeros((30, 2), dtype=bool)
    labels[:4] = True
    fold = deal_labels(labels, np.arange(30), np.full(3, 1 / 3), np.random.default_rng(0))
    assert np.bincount(fold).tolist() == [10, 10, 10]


def test_share_of_each_label_is_set_aside() -> None:
    labels = drawn(200, 5, 1)
    out = set_aside(labels, np.arange(200), 0.2, np.random.default_rng(0))
    assert abs(out.sum() - 40) <= 2
    assert np.abs(labels[out].sum(axis=0) - 0.2 * labels.sum(axis=0)).max() <= 2


def test_same_seed_deals_the_same() -> None:
    labels = drawn(60, 4, 2)
    folds = [deal(labels, np.arange(60), 3, np.random.default_rng(5)) for _ in range(2)]
    np.testing.assert_array_equal(*folds)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=80))
def test_bins_follow_the_order_and_keep_equal_numbers_together(values: list[float]) -> None:
    numbers = np.array(values)
    bins = quantile_bins(numbers)
    assert bins.max() < 10
    order = np.argsort(numbers)
    assert (np.diff(bins[order]) >= 0).all()
    assert len({(n, b) for n, b in zip(values, bins, strict=True)}) == len(
        {float(v) for v in values}
    )


def test_bins_are_tenths() -> None:
    assert (
        np.bincount(
            quantile_bins(np.random.default_rng(0).permutation(100.0 * np.arange(50)))
        ).tolist()
        == [5] * 10
    )
