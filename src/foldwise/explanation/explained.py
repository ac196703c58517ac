"""What is said of a row, and of many: plain values, for pages, files and programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from foldwise.explanation.credit import Credit
from foldwise.explanation.gradients import Path


@dataclass(frozen=True)
class Share:
    """A member's part in the answer to a row.

    Attributes:
        member: its name.
        weight: in the answer, over its temperature.
        value: its own probability of the class or label, or its number; the mean over folds.
        margin: its own margin times its weight: these sum to the answer's.
    """

    member: str
    weight: float
    value: float
    margin: float


@dataclass(frozen=True)
class ColumnEffect:
    """What a column's cell does for the answer.

    Attributes:
        column: its name.
        cell: as the table has it.
        effect: the answer with it, less the mean answer with cells of other rows instead.
        low: the smallest of these differences.
        high: the largest.
    """

    column: str
    cell: str | float | None
    effect: float
    low: float
    high: float


@dataclass(frozen=True)
class Removal:
    """What taking words out of a row does to the answer.

    Attributes:
        words: the words that are named as having driven it, each once.
        named: by how much the answer falls without them; where they take from a number, rises.
        random: the same without as many words drawn at random, the mean of the draws.
        every: the same without any word.
        shaded: the same without as many words of most credit, whether the answer falls without
            them or not: a check of the shades alone.
    """

    words: tuple[str, ...]
    named: float
    random: float
    every: float
    shaded: float

    @property
    def passed(self) -> bool:
        """Whether the named words move the answer more than random ones."""
        return self.named > self.random


@dataclass(frozen=True)
class Explained:
    """Why a row is answered as it is, of one class, label or number.

    Attributes:
        row: its number in the table.
        of: the class or label; None of a number.
        value: the answer: the probability of the class or label, or the number.
        prediction: the row's label, labels or number.
        target: what the table says; None where it doesn't.
        probabilities: of all classes or labels; none of a number.
        texts: the cells of the text columns; None is an empty one.
        credit: what each word adds to the answer's margin.
        members: whose answer it is, the largest part first.
        columns: what each column's cell does, the largest effect first.
        removal: the check of the words; None where there are too few to tell.
    """

    row: int
    of: str | None
    value: float
    prediction: str | float
    target: str | float | None
    probabilities: Mapping[str, float]
    texts: Mapping[str, str | None]
    credit: Credit
    members: Sequence[Share]
    columns: Sequence[ColumnEffect]
    removal: Removal | None

    @property
    def by_columns(self) -> bool:
        """Whether a column's cell moves the answer more than twice as much as all words do."""
        beside = [abs(c.effect) for c in self.columns if c.column not in self.texts]
        tested = self.removal
        words = max(abs(tested.every), abs(tested.named)) if tested else 0.0
        return max(beside, default=0.0) > 2 * words

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        credit, removal = self.credit, self.removal
        words = [
            {**asdict(word), "value": float(value), "read": bool(read)}
            for word, value, read in zip(credit.words, credit.values, credit.read, strict=True)
        ]
        return {
            "row": self.row,
            "of": self.of,
            "value": self.value,
            "prediction": self.prediction,
            "target": self.target,
            "probabilities": dict(self.probabilities),
            "members": [asdict(share) for share in self.members],
            "columns": [asdict(effect) for effect in self.columns],
            "words": words,
            "other": credit.other,
            "gradients": [_path(path) for path in credit.paths],
            "removal": removal and {**asdict(removal), "passed": removal.passed},
            "by_columns": self.by_columns,
        }


@dataclass(frozen=True)
class Importance:
    """What the rows' answers lose when a column's cells are shuffled among them.

    Attributes:
        column: its name.
        lost: the metric as it is less the mean with the column shuffled, so that the greater, the
            more it is worth.
        low: the smallest loss of the shuffles.
        high: the largest.
    """

    column: str
    lost: float
    low: float
    high: float


@dataclass(frozen=True)
class Explanation:
    """Explained rows, and what they have in common.

    Attributes:
        rows: one entry a row, of label sets one a predicted label.
        importances: of the columns, the largest first; none where rows aren't labelled.
        metric: they are losses of.
        labelled: rows that they were found on.
    """

    rows: Sequence[Explained]
    importances: Sequence[Importance]
    metric: str | None
    labelled: int

    @property
    def tested(self) -> list[Removal]:
        """The checks by removal, of those that could be checked."""
        return [row.removal for row in self.rows if row.removal is not None]

    @property
    def passed(self) -> float | None:
        """The share of checked entries that passed; None where none was checked."""
        tested = self.tested
        return sum(test.passed for test in tested) / len(tested) if tested else None

    @property
    def shades_passed(self) -> float | None:
        """The share of checked entries whose words of most credit pass, named or not."""
        tested = self.tested
        passed = sum(test.shaded > test.random for test in tested)
        return passed / len(tested) if tested else None

    @property
    def misses(self) -> list[Path]:
        """The paths of gradients whose sum stayed off by more than is called near."""
        return [path for row in self.rows for path in row.credit.paths if not path.near]

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        return {
            "deletion_test": {
                "tested": len(self.tested),
                "untested": len(self.rows) - len(self.tested),
                "passed_share": self.passed,
                "passed_share_of_shades": self.shades_passed,
            },
            "importances": {
                "metric": self.metric,
                "labelled_rows": self.labelled,
                "columns": [asdict(importance) for importance in self.importances],
            },
            "rows": [row.as_json() for row in self.rows],
        }

    def table(self) -> pl.DataFrame:
        """Return the numbers as a table: one line a word, column or member of each row.

        Returns:
            row, of, kind (word, column or member), name, column, start, end, and value: what a word
            or member adds to the margin, and a column to the answer.
        """
        lines: list[tuple[Any, ...]] = []
        for row in self.rows:
            key = (row.row, row.of)
            for word, value in zip(row.credit.words, row.credit.values.tolist(), strict=True):
                lines.append((*key, "word", word.text, word.column, word.start, word.end, value))
            for effect in row.columns:
                lines.append((*key, "column", effect.column, None, None, None, effect.effect))
            for share in row.members:
                lines.append((*key, "member", share.member, None, None, None, share.margin))
        schema = {
            "row": pl.Int64,
            "of": pl.String,
            "kind": pl.String,
            "name": pl.String,
            "column": pl.String,
            "start": pl.Int64,
            "end": pl.Int64,
            "value": pl.Float64,
        }
        return pl.DataFrame(lines, schema=schema, orient="row")


def words_by_class(rows: Sequence[Explained], most: int) -> dict[str | None, list[WordSum]]:
    """Add up what words add to each class, over the rows that are answered with it.

    Args:
        rows: explained.
        most: words a class.

    Returns:
        By class, the words of text columns that add most, the largest sum first.
    """
    sums: dict[str | None, dict[str, list[float]]] = {}
    for row in rows:
        of_row: dict[str, float] = {}
        for word, value in zip(row.credit.words, row.credit.values.tolist(), strict=True):
            of_row[word.kind] = of_row.get(word.kind, 0.0) + value
        for kind, value in of_row.items():
            sums.setdefault(row.of, {}).setdefault(kind, []).append(value)
    return {
        name: sorted(
            (WordSum(kind, sum(values), len(values)) for kind, values in kinds.items()),
            key=lambda word: -abs(word.sum) if name is None else -word.sum,
        )[:most]
        for name, kinds in sums.items()
    }


@dataclass(frozen=True)
class WordSum:
    """What a word adds to a class, over all rows answered with it.

    Attributes:
        word: in lower case.
        sum: of what it adds to their margins.
        rows: that have it.
    """

    word: str
    sum: float
    rows: int


def _path(path: Path) -> dict[str, float | int | bool]:
    return {
        "steps": path.steps,
        "start": path.start,
        "end": path.end,
        "delta": path.delta,
        "near": bool(np.bool_(path.near)),
    }
