"""Sizes and p-values of two samples, against closed forms and scipy."""

from __future__ import annotations

from math import comb, isnan

import numpy as np
import pytest
from scipy.stats import chi2_contingency, fisher_exact, ks_2samp

from foldwise.drift.measures import (
    RARER,
    Check,
    beyond_range,
    compare_numbers,
    compare_rate,
    compare_shares,
    holm,
)


def test_shares_are_tested_by_chi_squared_and_sized_by_total_variation() -> None:
    before, after = {"a": 600, "b": 400}, {"a": 300, "b": 700}
    found = compare_shares("values", "kind", before, after)
    expected = chi2_contingency([[600, 400], [300, 700]], correction=False).pvalue
    assert found.p == pytest.approx(expected)
    # 0.3 apart, less what chance alone makes of it, which is below 0.02 on 2,000 rows.
    assert 0.28 < found.size < 0.3
    assert [(part.name, part.training, part.new) for part in found.parts] == [
        ("a", 0.6, 0.3),
        ("b", 0.4, 0.7),
    ]


def test_rare_values_count_as_one() -> None:
    before = {"a": 50, **{f"rare {i}": 1 for i in range(50)}}
    after = {"a": 50, **{f"other {i}": 1 for i in range(50)}}
    found = compare_shares("values", "kind", before, after)
    assert {part.name for part in found.parts} == {"a", RARER}
    assert found.p == pytest.approx(1)
    assert found.size == 0


def test_a_rate_is_tested_by_fisher() -> None:
    found = compare_rate("missing", "kind", (1, 200), (30, 100), "empty")
    assert found.p == pytest.approx(fisher_exact([[1, 199], [30, 70]]).pvalue)
    assert 0.2 < found.size < 0.295


def test_numbers_are_tested_by_kolmogorov_and_smirnov() -> None:
    random = np.random.default_rng(0)
    before, after = random.normal(size=500), random.normal(1, 1, 400)
    found = compare_numbers("numbers", "amount", np.append(before, np.nan), after)
    expected = ks_2samp(before, after, method="asymp")
    assert found.p == pytest.approx(expected.pvalue)
    assert 0.25 < found.size < expected.statistic
    assert found.parts[0].new == pytest.approx(np.median(after))


def test_two_samples_of_one_source_have_about_no_size() -> None:
    random = np.random.default_rng(1)
    sizes = [
        compare_numbers("numbers", "a", random.normal(size=60), random.normal(size=60)).size
        for _ in range(200)
    ]
    assert np.mean(sizes) < 0.04  # uncorrected it would be 0.16


def test_rows_beyond_the_training_range_have_the_chance_of_their_rank() -> None:
    training, new = np.arange(20.0), np.array([5.0, 30, 40, 50])
    found = beyond_range("amount", training, new)
    assert found.p == pytest.approx(2 * comb(20 + 4 - 3, 20) / comb(24, 20))
    assert found.parts[0].new == 0.75
    assert beyond_range("amount", training, np.array([3.0])).p == 1


def test_holm_multiplies_the_smallest_by_all_and_never_turns_the_order() -> None:
    checks = [Check("numbers", None, 0, p) for p in (0.01, float("nan"), 0.04, 0.03, 0.9)]
    adjusted = holm(checks)
    assert isnan(adjusted[1])
    assert [adjusted[i] for i in (0, 2, 3, 4)] == pytest.approx([0.04, 0.09, 0.09, 0.9])


def test_an_empty_side_is_not_tested() -> None:
    assert isnan(compare_numbers("numbers", "a", np.array([np.nan]), np.ones(3)).p)
    assert isnan(compare_shares("values", "a", {}, {"x": 3}).p)
    assert isnan(compare_rate("missing", "a", (0, 0), (1, 3), "empty").p)


@pytest.mark.parametrize("new", [1, 2, 5])
def test_few_rows_have_the_chance_that_counting_gives(new: int) -> None:
    # All new rows above 96 known ones: one order of all, or the other, of so many.
    found = compare_numbers("numbers", "a", np.arange(96.0), 200.0 + np.arange(new))
    assert found.p == pytest.approx(2 / comb(96 + new, new))
