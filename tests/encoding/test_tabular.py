"""Encoders of categories and numbers: slots, scaling, bins, and what they may be fitted on."""

from __future__ import annotations

import json
from hashlib import blake2b

import numpy as np
import polars as pl
import pytest
from sklearn.preprocessing import QuantileTransformer, StandardScaler

from foldwise.encoding.tabular import (
    FIRST_SLOT,
    MISSING_SLOT,
    UNSEEN_SLOT,
    Category,
    Encoders,
    fit_category,
    fit_number,
    read_cells,
)


def slots_of(values: list[str | None], fitted: pl.DataFrame, **settings: int) -> list[int]:
    settings = {"hash_above": 1000, "buckets": 16} | settings
    encoder = fit_category(fitted, Category("c"), **settings)
    cells = read_cells(pl.DataFrame({"c": values}, schema={"c": pl.String}), [Category("c")], [])
    return encoder.slots(cells.keys[:, 0]).tolist()


def test_each_value_of_the_training_rows_has_a_slot_and_others_share_two() -> None:
    fitted = pl.DataFrame({"c": ["b", "a", "b", None, "missing"]})
    found = slots_of(["b", "a", "z", None, "missing", "A"], fitted)
    assert found == [
        FIRST_SLOT,
        FIRST_SLOT + 1,
        UNSEEN_SLOT,
        MISSING_SLOT,
        MISSING_SLOT,
        UNSEEN_SLOT,
    ]


def test_a_column_without_any_value_knows_none() -> None:
    assert slots_of(["a", None], pl.DataFrame({"c": [None, None]}, schema={"c": pl.String})) == [
        UNSEEN_SLOT,
        MISSING_SLOT,
    ]


def test_slots_do_not_depend_on_the_order_of_the_rows() -> None:
    values = ["d", "a", "c", "c", "b", "d", "e"]
    forward, backward = (
        fit_category(pl.DataFrame({"c": order}), Category("c"), 1000, 16).values
        for order in (values, values[::-1])
    )
    assert forward == backward == ["c", "d", "a", "b", "e"]


def test_rare_values_of_a_large_column_share_buckets_by_a_hash_of_their_text() -> None:
    fitted = pl.DataFrame({"c": ["x"] * 3 + ["y"] * 2 + ["p", "q"]})

    def bucket(text: str) -> int:
        digest = blake2b(text.encode(), digest_size=8).digest()
        return FIRST_SLOT + 2 + int.from_bytes(digest, "little") % 5

    found = slots_of(["x", "y", "p", "q", "new", None], fitted, hash_above=2, buckets=5)
    expected = [FIRST_SLOT, FIRST_SLOT + 1, bucket("p"), bucket("q"), bucket("new"), MISSING_SLOT]
    assert found == expected
    assert fit_category(fitted, Category("c"), 2, 5).size == FIRST_SLOT + 2 + 5


def test_prefix_keeps_the_first_characters_and_what_is_missing() -> None:
    frame = pl.DataFrame({"c": ["94117", "94199", "10001", None, "9"]})
    keys = read_cells(frame, [Category("c", 3)], []).keys[:, 0]
    assert keys[0] == keys[1] != keys[2]
    assert keys[3] == 0
    assert fit_category(frame, Category("c", 3), 1000, 16).values == ["941", "100", "9"]


@pytest.mark.parametrize("scale", ["quantile", "standard"])
def test_scaling_is_scikit_learns(scale: str) -> None:
    rng = np.random.default_rng(0)
    # Ties, skew, and values beyond the fitted ones.
    fitted = np.concatenate([rng.exponential(size=200), np.full(40, 0.5)])
    new = np.concatenate([fitted, [-1.0, 0.5, 100.0], rng.normal(size=50)])
    encoder = fit_number(pl.DataFrame({"n": fitted}), "n", scale=scale, fill="mean", bins=0)
    theirs = (
        QuantileTransformer(n_quantiles=len(fitted), output_distribution="normal")
        if scale == "quantile"
        else StandardScaler()
    ).fit(fitted[:, None])
    expected = theirs.transform(new[:, None])[:, 0]
    np.testing.assert_allclose(encoder.scale(new), expected, atol=1e-3)


@pytest.mark.parametrize(
    ("fill", "stands_in"), [("mean", 2.0), ("median", 1.0), ("zero", 0.0), ("drop", 2.0)]
)
def test_missing_numbers_keep_their_mark_and_have_a_stand_in(fill: str, stands_in: float) -> None:
    frame = pl.DataFrame({"n": [1.0, None, 0.0, 5.0]})
    encoder = fit_number(frame, "n", scale="standard", fill=fill, bins=0)
    scaled = encoder.scale(np.array([np.nan, stands_in]))
    assert np.isnan(scaled[0])
    assert encoder.fill == pytest.approx(scaled[1])


def test_a_column_of_one_value_or_none_becomes_zero() -> None:
    for values in ([4.0, 4.0], [None, None]):
        frame = pl.DataFrame({"n": values}, schema={"n": pl.Float64})
        encoder = fit_number(frame, "n", scale="quantile", fill="mean", bins=4)
        assert encoder.scale(np.array([4.0 if values[0] else 0.0])).tolist() == [0.0]
        assert encoder.fill == 0.0
        assert encoder.edges == [0.0, 1.0]


def test_bins_hold_equally_many_training_rows() -> None:
    numbers = np.random.default_rng(0).exponential(size=1000)
    encoder = fit_number(pl.DataFrame({"n": numbers}), "n", scale="standard", fill="mean", bins=8)
    counts, _ = np.histogram(encoder.scale(numbers), bins=encoder.edges)
    assert counts.tolist() == [125] * 8


def test_state_survives_json_and_encodes_the_same() -> None:
    frame = pl.DataFrame({"c": ["a", "b", "b", "d"], "n": [0.1, None, 0.3, 1 / 3]})
    encoders = Encoders(
        (fit_category(frame, Category("c"), 1, 3),),
        (fit_number(frame, "n", scale="quantile", fill="median", bins=3),),
    )
    back = Encoders.from_state(json.loads(json.dumps(encoders.state())))
    cells = read_cells(frame, [Category("c")], ["n"])
    first, second = (e.batch(cells.keys, cells.numbers) for e in (encoders, back))
    assert first["categorical"].tolist() == second["categorical"].tolist()
    assert first["categorical"].dtype.is_signed
    assert first["numeric"].isnan().tolist() == [[False], [True], [False], [False]]
    assert first["numeric"].nan_to_num().tolist() == second["numeric"].nan_to_num().tolist()
