"""Duplicates: texts and target in, who repeats whom and whether they agree on the target out.

The groups are those that the folds are dealt by (MinHash, duplicates.py), so the numbers here are
the ones that a run acts on; another measure of likeness would describe another table.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from foldwise.eda.answers import Answers
from foldwise.eda.rows import Rows
from foldwise.table.duplicates import Duplicates, find_duplicates
from foldwise.table.reading import ROW

SHOWN = 10
EXCERPT = 160
BLOCK = 5  # rows in a row that repeat others in a row
FEW_DIFFERENT = 4  # rows by different rows, from which a repetition means nothing
FAR = 1.0  # numbers of a group that lie further apart than so many standard deviations disagree


@dataclass(frozen=True)
class Group:
    """Rows with near-identical texts.

    Attributes:
        rows: their numbers in the table, ascending.
        answers: target -> rows, most frequent first.
        excerpt: of the first row's text.
    """

    rows: tuple[int, ...]
    answers: dict[str, int]
    excerpt: str


@dataclass(frozen=True)
class Twins:
    """Which rows repeat others.

    Attributes:
        identical: groups of equal texts (case, punctuation and white space aside).
        near: groups of near-identical texts.
        disagreeing: near-identical groups whose rows have more than one target.
        disagreeing_identical: the same of identical texts.
        rows_disagreeing: rows of the near-identical groups that disagree, outside the group's most
            frequent target.
        largest: the largest groups.
        examples: the largest groups that disagree.
        blocks: (first, last, first repeated) rows of runs that repeat earlier ones.
    """

    identical: Duplicates
    near: Duplicates
    disagreeing: int
    disagreeing_identical: int
    rows_disagreeing: int
    largest: tuple[Group, ...]
    examples: tuple[Group, ...]
    blocks: tuple[tuple[int, int, int], ...]


def find_twins(rows: Rows, answers: Answers) -> Twins:
    """Group the rows that a run would use by their texts, and compare the groups' targets."""
    columns, folds = rows.config.data.text, rows.config.folds
    texts = rows.used.select(columns or ROW)
    identical = find_duplicates(texts, "identical" if columns else "ignore", 1.0)
    near = find_duplicates(texts, "near" if columns else "ignore", folds.similarity)
    disagree = _disagreeing(near.group, answers)
    sizes = np.bincount(near.group)
    several = np.flatnonzero(sizes > 1)
    by_size = several[np.argsort(-sizes[several], kind="stable")]
    largest = [int(g) for g in by_size[:SHOWN]]
    mixed = [int(g) for g in by_size if int(g) in disagree][:SHOWN]
    shown = {g: _group(rows, np.flatnonzero(near.group == g)) for g in {*largest, *mixed}}
    return Twins(
        identical=identical,
        near=near,
        disagreeing=len(disagree),
        disagreeing_identical=len(_disagreeing(identical.group, answers)),
        rows_disagreeing=sum(disagree.values()),
        largest=tuple(shown[g] for g in largest),
        examples=tuple(shown[g] for g in mixed),
        blocks=tuple(_blocks(rows)),
    )


def _disagreeing(group: np.ndarray, answers: Answers) -> dict[int, int]:
    """Return the groups that disagree, and of each the rows outside its most frequent target."""
    if answers.is_number:
        assert answers.values is not None
        values = answers.values[:, 0]
        frame = pl.DataFrame({"group": group, "value": values})
        spread = frame.group_by("group").agg(
            (pl.col("value").max() - pl.col("value").min()).alias("range"),
            ((pl.col("value") - pl.col("value").median()).abs() > FAR * values.std() / 2)
            .sum()
            .alias("outside"),
        )
        found = spread.filter(pl.col("range") > FAR * values.std())
    else:
        label = answers.ids if answers.ids is not None else _combinations(answers)
        counts = pl.DataFrame({"group": group, "label": label}).group_by("group", "label").len()
        outside = (pl.col("len").sum() - pl.col("len").max()).alias("outside")
        found = counts.group_by("group").agg(outside).filter(pl.col("outside") > 0)
    return dict(zip(found["group"].to_list(), found["outside"].to_list(), strict=True))


def _combinations(answers: Answers) -> np.ndarray:
    assert answers.values is not None
    codes: np.ndarray = np.unique(answers.values, axis=0, return_inverse=True)[1]
    return codes.reshape(-1)


def _group(rows: Rows, positions: np.ndarray) -> Group:
    part = rows.used[positions]
    counts = part[rows.target].cast(pl.String).alias("answer").value_counts()
    counts = counts.sort(["count", "answer"], descending=[True, False])
    cells = [cell for cell in part.select(rows.config.data.text).row(0) if cell]
    return Group(
        rows=tuple(part[ROW].to_list()),
        answers=dict(zip(counts["answer"].to_list(), counts["count"].to_list(), strict=True)),
        excerpt=" ".join(" ".join(cells).split())[:EXCERPT],
    )


def _blocks(rows: Rows) -> list[tuple[int, int, int]]:
    """Find runs of rows that repeat an earlier run in every configured column, in its order."""
    named = [name for name, role in rows.roles.items() if role]
    hashes = rows.frame.select(named).hash_rows(seed=0).to_numpy()
    _, start_of, codes = np.unique(hashes, return_index=True, return_inverse=True)
    if FEW_DIFFERENT * len(start_of) < len(codes):
        return []  # a few values that come in turn repeat themselves without being copied
    first = start_of[codes]
    position = np.arange(len(codes))
    repeats = first < position
    # Rows that repeat neighbours in their order lie at the same distance behind them.
    goes_on = np.zeros(len(codes), dtype=bool)
    goes_on[1:] = repeats[1:] & repeats[:-1] & (np.diff(position - first) == 0)
    found = []
    for start in np.flatnonzero(repeats & ~goes_on):
        run = start + 1 + int(np.argmin(np.append(goes_on[start + 1 :], False)))
        if run - start >= BLOCK and len(np.unique(codes[start:run])) >= BLOCK:
            found.append((int(start), int(run - 1), int(first[start])))
    return found
