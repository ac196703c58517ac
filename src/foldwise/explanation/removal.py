"""The check of an explanation: do the words it names move the answer more than random ones?

In: credited rows. Out: for each the words that are named, and the answer without them, without as
many random ones, and without any. What is asked is the answer that is explained, not the model
inside it, so a page can't name words that only one member heeds. Named are, of the words with most
credit, those without which the answer falls most, one by one; or simply those of most credit, where
the answer falls more without these together. A random draw takes whole words, wherever they stand,
until at least as many places are gone as the named words have: it never removes less.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from foldwise.explanation.aim import Aim
from foldwise.explanation.answered import Variant, answers, varied
from foldwise.explanation.credit import Credit, cells_without
from foldwise.explanation.effort import Effort
from foldwise.explanation.explained import Removal
from foldwise.members.member import Floats
from foldwise.predictor import Predictor

NAMED = 5  # words that are named of a long text; of a short one, a quarter of its different words


_CANDIDATES = 3  # times as many words, of most credit, of which the named ones are


def check_removal(
    predictor: Predictor,
    rows: pl.DataFrame,
    aims: Sequence[Aim],
    credits: Sequence[Credit],
    full: Floats,
    effort: Effort,
) -> list[Removal | None]:
    """Take words out of rows and ask for the answer again.

    Args:
        predictor: whose answer.
        rows: as it takes them.
        aims: one a row.
        credits: of the rows.
        full: the answer to the rows, (n, n_outputs).
        effort: the draws of random words, a row.

    Returns:
        One a row; None where it has too few different words, or none has credit.
    """
    signs = [_direction(credit, aim) for credit, aim in zip(credits, aims, strict=True)]
    tried = [_candidates(credit, sign) for credit, sign in zip(credits, signs, strict=True)]
    singles = [[[kind] for kind in kinds] for kinds in tried]
    falls = _falls(predictor, rows, aims, credits, full, signs, singles, effort)
    named = [
        [kinds[i] for i in np.argsort(-fall, kind="stable")[: _most(credit)] if fall[i] > 0]
        or kinds[: _most(credit)]
        for kinds, fall, credit in zip(tried, falls, credits, strict=True)
    ]
    removed = [
        _removed(credit, kinds, most, effort.random, np.random.default_rng([effort.seed, place]))
        for place, (credit, kinds, most) in enumerate(zip(credits, named, tried, strict=True))
    ]
    found = _falls(predictor, rows, aims, credits, full, signs, removed, effort)
    return [
        _removal(sets, fall) if sets else None for sets, fall in zip(removed, found, strict=True)
    ]


def _removal(sets: list[list[str]], fall: Floats) -> Removal:
    # Together, the words of most credit may count for more than those that count alone.
    better = 2 if fall[2] > fall[0] else 0
    return Removal(
        words=tuple(sets[better]),
        named=float(fall[better]),
        random=float(fall[3:].mean()),
        every=float(fall[1]),
        shaded=float(fall[2]),
    )


def _falls(
    predictor: Predictor,
    rows: pl.DataFrame,
    aims: Sequence[Aim],
    credits: Sequence[Credit],
    full: Floats,
    signs: Sequence[float],
    removed: Sequence[Sequence[Sequence[str]]],
    effort: Effort,
) -> list[Floats]:
    # Of each row, by how much the answer falls without each set of words; where its sign is
    # negative, by how much it rises.
    variants = []
    for place, (credit, sets) in enumerate(zip(credits, removed, strict=True)):
        kinds = _by_kind(credit)
        for gone in sets:
            out = [credit.words[i] for kind in gone for i in kinds[kind]]
            variants.append(Variant(place, cells_without(rows, place, out)))
    if not variants:
        return [np.empty(0) for _ in aims]
    made = answers(predictor, varied(rows, variants), effort)
    parts = np.split(made, np.cumsum([len(sets) for sets in removed])[:-1])
    return [
        sign * (full[i, aim.output] - parts[i][:, aim.output])
        for i, (aim, sign) in enumerate(zip(aims, signs, strict=True))
    ]


def _direction(credit: Credit, aim: Aim) -> float:
    # Of a number words may add to it or take from it: those are named that go the strongest's way.
    sums = [float(credit.values[at].sum()) for at in _by_kind(credit).values()]
    strongest = max(sums, key=abs, default=0.0)
    return -1.0 if aim.holds == "number" and strongest < 0 else 1.0


def _candidates(credit: Credit, sign: float) -> list[str]:
    # The words of most credit.
    values = {kind: sign * float(credit.values[at].sum()) for kind, at in _by_kind(credit).items()}
    order = sorted(values, key=lambda kind: -values[kind])[: _CANDIDATES * _most(credit)]
    return [kind for kind in order if values[kind] > 0]


def _most(credit: Credit) -> int:
    return min(NAMED, max(1, len(_by_kind(credit)) // 4))


def _removed(
    credit: Credit, named: list[str], most: list[str], draws: int, random: np.random.Generator
) -> list[list[str]]:
    # The named words, all words, those of most credit, and random ones.
    kinds = _by_kind(credit)
    if not named or len(kinds) < 2 * len(named):
        return []
    size = sum(len(kinds[kind]) for kind in named)
    # Only among words that the model reads, where it has a vote: to lose others is no loss.
    read = [kind for kind, at in kinds.items() if credit.read[at].any()] or list(kinds)
    drawn = []
    for _ in range(draws):
        gone: list[str] = []
        for kind in random.permutation(np.array(read, dtype=object)):
            if sum(len(kinds[k]) for k in gone) >= size:
                break
            gone.append(kind)
        drawn.append(gone)
    return [named, list(kinds), most[: len(named)], *drawn]


def _by_kind(credit: Credit) -> dict[str, NDArray[np.int64]]:
    kinds: dict[str, list[int]] = {}
    for i, word in enumerate(credit.words):
        kinds.setdefault(word.kind, []).append(i)
    return {kind: np.array(at) for kind, at in kinds.items()}
