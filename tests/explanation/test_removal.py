"""The check by removal, on an answer that is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from foldwise.explanation.aim import Aim
from foldwise.explanation.credit import Credit
from foldwise.explanation.effort import Effort
from foldwise.explanation.removal import check_removal
from foldwise.explanation.words import words_in

TEXT = "up a b down c d e f g h i j"
CLASS = Aim("label", 0, "x", np.array([0.0, 1.0]))
NUMBER = Aim("number", 0, None, np.zeros(1))


class Counting:
    """Answers 0.15, 0.5 more with `up` in the text, 0.1 less with `down`, 0.05 more with c or d."""

    def predict(self, rows: pl.DataFrame) -> pl.DataFrame:
        text = pl.col("text").fill_null("")
        up = 0.5 * text.str.contains("up").cast(float)
        down = 0.1 * text.str.contains("down").cast(float)
        either = 0.05 * text.str.contains(r"\bc\b|\bd\b").cast(float)
        value = 0.15 + up - down + either
        if "number" in rows.columns:
            return rows.select(prediction=value)
        return rows.select(prob_x=value, prob_y=1 - value)


def check(credit_of: dict[str, float], aim: Aim, **columns: Any) -> Any:
    rows = pl.DataFrame({"row": [0], "text": [TEXT], **columns})
    words = words_in("text", TEXT, 100)
    values = np.array([credit_of.get(word.text, 0.0) for word in words])
    credit = Credit(words, values, np.ones(len(words), dtype=bool), 0.0, [], 0)
    full = np.array([[0.6, 0.4]])[:, : 1 if aim.holds == "number" else 2]
    predictor: Any = Counting()
    return check_removal(predictor, rows, [aim], [credit], full, Effort(random=200))[0]


def test_the_word_that_counts_is_named_and_passes() -> None:
    found = check({"up": 2.0, "a": 1.0, "down": -1.0}, CLASS)
    assert found.words == ("up",)
    assert abs(found.named - 0.5) < 1e-12
    assert abs(found.every - 0.45) < 1e-12
    assert found.passed
    # One of twelve words is drawn: 0.5 and -0.1, each in a twelfth of the draws.
    assert abs(found.random - 0.4 / 12) < 0.03


def test_credit_for_words_that_do_not_count_fails_the_check() -> None:
    found = check({"a": 5.0, "b": 4.0}, CLASS)
    assert found.words == ("a", "b")
    assert abs(found.named) < 1e-12
    assert not found.passed


def test_shades_are_checked_apart_from_the_named_words() -> None:
    found = check({"a": 5.0, "up": 0.1}, CLASS)
    assert found.words == ("up",)
    assert found.passed
    assert abs(found.shaded) < 1e-12
    assert found.shaded < found.random


def test_words_that_only_count_together_are_named_by_their_credit() -> None:
    found = check({"c": 5.0, "d": 4.0}, CLASS)
    assert found.words == ("c", "d")
    assert abs(found.named - 0.05) < 1e-12


def test_words_that_take_from_a_number_are_named_where_they_are_the_strongest() -> None:
    found = check({"down": -3.0, "up": 1.0}, NUMBER, number=[1])
    assert found.words == ("down",)
    assert abs(found.named - 0.1) < 1e-12
