"""What is to be predicted: the target's values in, class sizes, imbalance, rarity out.

A class is rare for the folds when its rows form fewer groups (near-duplicates, equal values of
folds.group) than there are folds: that is what `data.rare_classes` decides about in a run.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foldwise.config.schema import Config
from foldwise.eda.answers import Answers

BINS = 40


@dataclass(frozen=True)
class ClassSize:
    """One class or label: its rows, and the groups that the folds can deal out."""

    label: str
    rows: int
    groups: int


@dataclass(frozen=True)
class Target:
    """What the target column holds, over the rows that a run would use.

    Attributes:
        classes: largest first, or in their order; empty for a number.
        ratio: rows of the largest class by those of the smallest; nan for a number.
        rare: the classes with fewer groups than folds.
        cardinality: labels a row has -> rows, for sets of labels.
        quantiles: minimum, 5%, 25%, 50%, 75%, 95%, maximum of a number; empty for others.
        histogram: (low, high, rows) of a number's bins.
    """

    classes: tuple[ClassSize, ...]
    ratio: float
    rare: tuple[ClassSize, ...]
    cardinality: dict[int, int]
    quantiles: tuple[float, ...]
    histogram: tuple[tuple[float, float, int], ...]


def describe_target(answers: Answers, group: np.ndarray, config: Config) -> Target:
    """Describe the target.

    Args:
        answers: of the rows that a run would use.
        group: (n,) rows that stay together in a fold.
        config: `folds.n` and the strategy decide which classes are rare.
    """
    if answers.is_number:
        return _number(answers)
    classes = tuple(
        ClassSize(name, int(rows), groups)
        for name, rows, groups in zip(
            answers.names, answers.sizes(), _groups(answers, group), strict=True
        )
    )
    sizes = [entry.rows for entry in classes]
    # Time and given folds leave rare classes as they are; a label is counted by its rows.
    dealt = config.folds.strategy.name not in ("time", "column")
    counted = [entry.groups if answers.ids is not None else entry.rows for entry in classes]
    pairs = zip(classes, counted, strict=True)
    rare = tuple(entry for entry, n in pairs if dealt and n < config.folds.n)
    return Target(
        classes=classes,
        ratio=max(sizes) / min(sizes) if sizes else float("nan"),
        rare=rare,
        cardinality=_cardinality(answers),
        quantiles=(),
        histogram=(),
    )


def _groups(answers: Answers, group: np.ndarray) -> list[int]:
    if answers.ids is not None:
        pairs = np.unique(np.stack([answers.ids, group]), axis=1)
        counts: list[int] = np.bincount(pairs[0], minlength=len(answers.names)).tolist()
        return counts
    assert answers.values is not None
    return [len(np.unique(group[column > 0])) for column in answers.values.T]


def _cardinality(answers: Answers) -> dict[int, int]:
    if answers.values is None:
        return {}
    sizes, rows = np.unique(answers.values.sum(axis=1).astype(np.int64), return_counts=True)
    return dict(zip(sizes.tolist(), rows.tolist(), strict=True))


def _number(answers: Answers) -> Target:
    assert answers.values is not None
    values = answers.values[:, 0]
    nan = float("nan")
    counts, edges = np.histogram(values, bins=min(BINS, max(1, len(np.unique(values)))))
    return Target(
        classes=(),
        ratio=nan,
        rare=(),
        cardinality={},
        quantiles=tuple(np.quantile(values, [0, 0.05, 0.25, 0.5, 0.75, 0.95, 1]).tolist()),
        histogram=tuple(zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True)),
    )
