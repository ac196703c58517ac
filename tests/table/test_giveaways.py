"""Columns that were filled in after the target was known."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from foldwise.table.giveaways import follows_from, nearly_empty

TARGET = pl.Series("mood", ["bad", "good", "fair", "bad"] * 25)
BAD = TARGET == "bad"


def column(*cells: str | None) -> pl.Series:
    return pl.Series("it", list(cells) * (100 // len(cells)), dtype=pl.String)


def test_a_column_that_is_filled_for_one_answer_only_follows_from_it() -> None:
    reasons = pl.Series("it", np.random.default_rng(0).choice(["late", "lost"], 100))
    assert follows_from(reasons.zip_with(BAD, pl.Series([None], dtype=pl.String)), TARGET) == (
        "whether it is empty follows from 'mood': filled in once that is known?"
    )


def test_a_column_with_one_value_an_answer_follows_from_it() -> None:
    feedback = BAD.not_().cast(pl.Int8).rename("it")
    assert follows_from(feedback, TARGET) == "it follows from 'mood': made of it?"
    assert follows_from(feedback, TARGET, sets=True) is None


@pytest.mark.parametrize(
    "cells",
    [
        column("x", "y", "y", "x", "x"),  # by chance
        column("x"),
        column("x", None, "y", None, None),
        column("late", "good", "good", "other"),  # half of one answer
    ],
)
def test_other_columns_do_not(cells: pl.Series) -> None:
    assert follows_from(cells, TARGET) is None


def test_answers_of_few_rows_tell_nothing() -> None:
    alone = pl.Series("n", [str(i // 2) for i in range(100)])
    assert follows_from(pl.Series("it", ["x", "x", "y", "y"] * 25), alone) is None


def test_a_column_that_is_nearly_empty_is_told() -> None:
    sparse = pl.Series("it", ["x"] * 4 + [None] * 96)
    assert nearly_empty(sparse) == "filled in 4 of 100 rows"
    assert nearly_empty(pl.Series("it", ["x"] * 5 + [None] * 95)) is None
