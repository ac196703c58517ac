from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from foldwise.config.rows import Data
from foldwise.table.reading import read_all
from foldwise.table.roles import guess_role, guess_roles

DATA = Path(__file__).parents[3] / "shared" / "data"
WORDS = ["the bank lost my card again", "no answer to three letters", "charged twice for one fee"]


@pytest.mark.parametrize(
    ("name", "cells", "role", "reason"),
    [
        ("note", [f"{w} {i}" for i in range(20) for w in WORDS], "text", "free text: median 6"),
        ("kind", ["a", "b", "c"] * 20, "categorical", "3 values"),
        ("issue", WORDS * 20, "categorical", "3 values"),  # long, but always the same few
        ("amount", [f"{i}.5" for i in range(60)], "numeric", "numbers from 0.5 to 59.5"),
        ("age", [str(20 + i % 40) for i in range(60)], "numeric", "numbers from 20 to 59"),
        ("stars", [str(1 + i % 5) for i in range(60)], "categorical", "5 whole numbers"),
        ("region", [f"{i % 30:05}" for i in range(60)], "categorical", "leading zeros"),
        ("ZIP code", [f"{331 + i % 9}XX" for i in range(60)], "categorical", "9 values"),
        ("ClothingId", [str(i % 40) for i in range(60)], "categorical", "codes, by its name"),
        ("Complaint ID", [str(7 * i) for i in range(60)], "identifier", "a different whole"),
        ("n", [str(i) for i in range(60)], "identifier", "a different whole number"),
        ("key", [f"x{i}" for i in range(60)], "identifier", "100% of the values are distinct"),
        ("day", [f"2024-01-{1 + i % 28:02}" for i in range(60)], "date", "such as 2024-01-01"),
        ("us day", [f"{1 + i % 12}/25/2024" for i in range(60)], "date", "such as 1/25/2024"),
        ("spelt", [f"{1 + i % 28}-Jul-18" for i in range(60)], "date", "such as 1-Jul-18"),
        ("long", [f"September {1 + i % 28}, 2021" for i in range(60)], "date", "September 1, 2021"),
        ("review", [str(31 * i % 97) for i in range(90)], "identifier", "evenly spread"),
        ("people", [str(100 + i**3) for i in range(60)], "numeric", "numbers from 100"),
        ("same", ["x"] * 9, "constant", "always 'x'"),
        ("none", [None] * 9, "empty", "no value"),
        ("gaps", [None, "1.5", None, "2.25", "3.125"] * 9, "numeric", "1.5 to 3.125"),
    ],
)
def test_a_role_is_guessed(name: str, cells: list[str | None], role: str, reason: str) -> None:
    guess = guess_role(pl.Series(name, cells, dtype=pl.String))
    assert guess.role == role
    assert reason in guess.reason


def test_filled_and_unique_are_counted() -> None:
    guess = guess_role(pl.Series("a", ["x", "y", None, "x"]))
    assert (guess.filled, guess.unique) == (3, 2)


def test_the_complaints_get_their_roles() -> None:
    path = DATA / "cfpb_dev.csv.gz"
    if not path.exists():
        pytest.skip(f"{path} isn't there")
    table, _ = read_all(Data(path=str(path), target="Product"))
    roles = {guess.column: guess.role for guess in guess_roles(table.frame)}
    assert roles["Consumer complaint narrative"] == "text"
    assert roles["Date received"] == "date"
    assert roles["Complaint ID"] == "identifier"
    for column in ("Product", "Issue", "Sub-issue", "Company", "State", "ZIP code"):
        assert roles[column] == "categorical", column


def test_the_reviews_get_their_roles() -> None:
    path = DATA / "women_clothing" / "train.parquet"
    if not path.exists():
        pytest.skip(f"{path} isn't there")
    table, _ = read_all(Data(path=str(path), target="Rating"))
    roles = {guess.column: guess.role for guess in guess_roles(table.frame)}
    assert [name for name, role in roles.items() if role == "text"] == ["Title", "Review Text"]
    assert [name for name, role in roles.items() if role == "numeric"] == [
        "Age",
        "Positive Feedback Count",
    ]
    assert roles["Clothing ID"] == roles["Rating"] == roles["Class Name"] == "categorical"
