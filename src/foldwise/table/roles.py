"""What a column is: its cells in, a role and the reason for it out.

A guess for a person to correct, made from the values alone, by rules that can be said in a sentence
each. Text stays text: ZIP codes, phone numbers and other numbers that aren't amounts are told by
leading zeros, masks and the column's name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

Role = Literal["text", "categorical", "numeric", "date", "identifier", "constant", "empty"]

_CODE = re.compile(r"(^|[^a-z])(ids?|code|zip|zipcode|postal|postcode|phone|key|number)($|[^a-z])")
_DATES = ("%Y-%m-%d", "%m/%d/%Y", "%d/%m/%Y", "%d.%m.%Y", "%Y/%m/%d", "%m/%d/%y", "%Y-%m")
_SPELT = ("%d-%b-%y", "%d-%b-%Y", "%b %d, %Y", "%B %d, %Y", "%d %b %Y", "%d %B %Y")
_TEXT_WORDS = 3.0  # median words of free text, at least
_TEXT_DISTINCT = 0.2  # share of distinct values of free text, at least
_FEW = 12  # whole numbers of as few values are levels rather than amounts


@dataclass(frozen=True)
class Guess:
    """A column's guessed role.

    Attributes:
        column: its name.
        role: what it is taken for.
        reason: why, in a few words.
        filled: cells that aren't empty.
        unique: distinct values among them.
    """

    column: str
    role: Role
    reason: str
    filled: int
    unique: int


def guess_roles(frame: pl.DataFrame) -> list[Guess]:
    """Guess the role of each column.

    Args:
        frame: strings, null for empty cells, as `table.read_all` gives them.
    """
    return [guess_role(frame[name]) for name in frame.columns]


def guess_role(cells: pl.Series) -> Guess:
    """Guess one column's role; the series' name is the column's."""
    known = cells.cast(pl.String).drop_nulls()
    filled, unique = len(known), known.n_unique()
    role, reason = _role(cells.name, known, filled, unique)
    return Guess(cells.name, role, reason, filled, unique)


def _role(name: str, known: pl.Series, filled: int, unique: int) -> tuple[Role, str]:
    if not filled:
        return "empty", "no value"
    if unique == 1:
        return "constant", f"always {known[0]!r}"[:60]
    distinct = unique / filled
    words = known.str.count_matches(r"\S+")
    median = float(words.median() or 0)  # type: ignore[arg-type]
    if _are_dates(known):
        return "date", f"dates, such as {known.to_list()[0]}"
    if _are_numbers(known):
        return _number_role(name, known, filled, unique)
    if median >= _TEXT_WORDS and distinct >= _TEXT_DISTINCT:
        return "text", f"free text: median {median:.0f} words, {distinct:.0%} distinct"
    if distinct > 0.9 and filled >= 20:
        return "identifier", f"{distinct:.0%} of the values are distinct"
    return "categorical", f"{unique:,} values"


def _number_role(name: str, known: pl.Series, filled: int, unique: int) -> tuple[Role, str]:
    numbers = known.cast(pl.Float64)
    whole = bool((numbers == numbers.floor()).all())
    named = _CODE.search(re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower()) is not None
    if whole and unique == filled and filled >= 20 and (named or _counts_up(numbers)):
        return "identifier", "a different whole number in each row"
    if whole and unique == filled and filled >= 50 and _evenly_spread(numbers):
        return "identifier", "a different whole number in each row, evenly spread"
    zeros = bool(known.str.contains(r"^0\d").any())
    if whole and (zeros or named):
        why = "leading zeros" if zeros else "its name"
        return "categorical", f"codes, by {why}: {unique:,} values"
    if whole and unique <= _FEW:
        return "categorical", f"{unique} whole numbers"
    low, high = numbers.to_numpy().min(), numbers.to_numpy().max()
    return "numeric", f"numbers from {low:g} to {high:g}"


def _counts_up(numbers: pl.Series) -> bool:
    steps = numbers.diff().drop_nulls()
    return bool((steps == 1).all())


def _evenly_spread(numbers: pl.Series) -> bool:
    # Numbers that were handed out lie evenly, amounts don't: Kolmogorov and Smirnov's distance from
    # an even spread, at the value that one in a hundred such samples exceeds.
    ranks = numbers.sort().to_numpy()
    share = (ranks - ranks[0]) / (ranks[-1] - ranks[0])
    n = len(ranks)
    return bool(np.abs(share - np.linspace(0, 1, n)).max() < 1.63 / n**0.5)


def _are_numbers(known: pl.Series) -> bool:
    numbers = known.str.strip_chars().cast(pl.Float64, strict=False)
    return numbers.null_count() == 0 and bool(numbers.is_finite().all())


def _are_dates(known: pl.Series) -> bool:
    # A column is of dates when nearly all of a sample can be read in one and the same way.
    if known.str.contains(r"\d").mean() != 1:
        return False
    sample = known.head(2000).str.strip_chars()
    most = 0.95 * len(sample)
    return any(
        len(cells) - cells.str.to_date(form, strict=False).null_count() >= most
        for cells, forms in ((sample.str.slice(0, 10), _DATES), (sample, _SPELT))
        for form in forms
    )
