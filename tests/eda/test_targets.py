from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from eda.tables import clean

Looking = Callable[..., Any]


def test_sets_of_labels_are_counted_label_by_label(look: Looking) -> None:
    sets = ["a;b", "a", ";", "b;a;c", "a"] * 80
    frame = clean().with_columns(pl.Series("label", sets))
    found, kinds = look(frame, task="multilabel")
    sizes = {entry.label: entry.rows for entry in found.target.classes}
    assert sizes == {"a": 320, "b": 160, "c": 80}
    assert found.target.cardinality == {0: 80, 1: 160, 2: 80, 3: 80}
    assert found.target.ratio == 4
    assert kinds == {}


def test_a_column_that_tells_the_labels_is_found(look: Looking) -> None:
    sets = ["a;b", "a", "c", "b;c"] * 100
    frame = clean().with_columns(pl.Series("label", sets), pl.Series("shop", list("wxyz") * 100))
    found, kinds = look(frame, task="multilabel")
    assert kinds["leak"][0].says.startswith("'shop' copies the target")
    # Each label's share is a half: all three are predicted for everyone, which no row has.
    assert found.leaks.baseline == {"subset_accuracy": 0.0, "f1_macro": pytest.approx(2 / 3)}


def test_a_number_has_quantiles_and_a_histogram(look: Looking) -> None:
    values = np.arange(400) / 10
    frame = clean().with_columns(pl.Series("label", values))
    found, kinds = look(frame, task="regression")
    assert found.target.quantiles[0] == 0
    assert found.target.quantiles[3] == pytest.approx(19.95)
    assert found.target.quantiles[6] == pytest.approx(39.9)
    assert sum(rows for _, _, rows in found.target.histogram) == 400
    assert found.leaks.baseline == {"r2": 0.0}
    assert set(kinds) <= {"leak"}  # nothing about classes


def test_a_number_that_repeats_the_target_is_found(look: Looking) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=400)
    frame = clean().with_columns(
        pl.Series("label", values), pl.Series("price", values * 3 + rng.normal(size=400) / 10)
    )
    found, kinds = look(frame, task="regression")
    assert "'price' gives the target away" in kinds["leak"][0].says
    assert found.leaks.powers[0].scores["r2"] > 0.9


def test_empty_cells_and_a_number_by_the_correlation_ratio(look: Looking) -> None:
    rng = np.random.default_rng(0)
    empty = np.arange(400) % 4 == 0
    values = rng.normal(size=400) + 3 * empty
    frame = clean().with_columns(
        pl.Series("label", values),
        pl.when(pl.Series(empty)).then(None).otherwise("shop").alias("shop"),
    )
    found, _ = look(frame, task="regression")
    (entry,) = found.missing
    # The correlation ratio of two groups is the correlation with their indicator.
    assert entry.strength == pytest.approx(abs(np.corrcoef(values, empty)[0, 1]))
    assert entry.tells
    assert entry.means == pytest.approx((values[empty].mean(), values[~empty].mean()))


def test_ordered_classes_keep_their_order(look: Looking) -> None:
    labels = ["10", "9", "10", "2"] * 100
    frame = clean().with_columns(pl.Series("label", labels))
    found, _ = look(frame, task="ordinal")
    assert [entry.label for entry in found.target.classes] == ["2", "9", "10"]
    named = frame.with_columns(pl.col("label").replace({"2": "low", "9": "mid", "10": "high"}))
    order = {"order": ["low", "mid", "high"]}
    found, _ = look(named, task="ordinal", data=order)
    assert [entry.label for entry in found.target.classes] == ["low", "mid", "high"]


def test_a_table_without_text_is_looked_at_too(look: Looking) -> None:
    frame = clean().drop("text").with_columns(pl.Series("shop", list("abcde") * 80))
    found, kinds = look(
        frame.with_columns(pl.lit("7").alias("price")),
        data={"text": [], "categorical": ["shop"], "numeric": ["price"]},
        model={"fusion": "concat", "backbone": "none"},
    )
    assert found.tokens is None
    assert found.twins.near.n_groups_multi == 0
    assert set(kinds) == {"column"}  # and no block: five values in turn aren't a copy


def test_rows_without_target_only_stand_aside(look: Looking) -> None:
    frame = clean().with_columns(
        pl.when(pl.int_range(400) < 3).then(None).otherwise("label").alias("label")
    )
    found, kinds = look(frame)
    assert found.rows.frame.height == 400
    assert found.rows.used.height == 397
    (finding,) = kinds["target"]
    assert finding.says == "3 of 400 rows have no 'label'."
    assert finding.changes[0].config == {"data": {"missing": {"target": "drop"}}}


def test_a_sample_is_looked_at_as_the_run_draws_it(look: Looking) -> None:
    found, _ = look(clean(), data={"sample": 100})
    assert (found.rows.frame.height, found.rows.full.height, len(found.answers)) == (400, 400, 100)
