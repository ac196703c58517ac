"""What the linear member sees in the rows that are answered so: words, cells and columns by class.

In: a run's scored rows with their columns, and what each is answered. Out: by class what a word, a
cell or a column adds to the member's margin for it, the mean over the rows that are answered so,
less the mean over all rows: what all rows have in common says nothing. A row is looked at by the
fold's member that didn't train on it. Of a linear model that is exact; it is nobody else's view.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from foldwise.config.schema import Config
from foldwise.members.linear import Linear
from foldwise.members.member import Columns, Floats
from foldwise.members.regression import LinearModel
from foldwise.members.roster import columns_read, outputs_of
from foldwise.members.store import restore
from foldwise.preparation.build import holds
from foldwise.run.folder import RunFolder
from foldwise.run.seal import check

LINEAR = "linear"
MOST_ROWS = 5_000  # that are looked at
MOST_CLASSES = 100  # the most frequent answers
WORDS, CELLS = 10, 5  # a class
_OF_A_FOLD = 300  # words of a class that are added up over folds


@dataclass(frozen=True)
class Seen:
    """What the member sees in rows that are answered alike.

    Attributes:
        name: the class or label; of numbers, which quarter of the answers.
        rows: how many.
        columns: what each column adds to the margin.
        words: of texts, with their column and what they add, the largest first.
        cells: of categories, the same.
    """

    name: str
    rows: int
    columns: dict[str, float]
    words: list[tuple[str, str, float]]
    cells: list[tuple[str, str, float]]


def seen_by_class(
    run: RunFolder, config: Config, task: Any, table: pl.DataFrame, frame: pl.DataFrame
) -> list[Seen]:
    """Look at scored rows with the folds' linear members.

    Args:
        run: finished.
        config: as it ran.
        task: with the run's classes.
        table: the scored rows: row, fold and prediction.
        frame: their columns, by `row`.

    Returns:
        One entry a class, label or quarter that rows are answered with, the most frequent first;
        none of a run without that member.

    Raises:
        FoldwiseError: a member's file isn't as it was sealed.
    """
    numbers = table["fold"].unique().sort().to_list()
    folders = [run.fold(number).member(LINEAR) for number in numbers]
    if not numbers or not all(folder.state.exists() for folder in folders):
        return []
    if table.height > MOST_ROWS:
        table = table.sample(MOST_ROWS, seed=0)
    groups = _groups(task, table["prediction"])
    sums = [_Sums() for _ in groups]
    for number in numbers:
        at = np.flatnonzero(table["fold"].to_numpy() == number)
        rows = table[at].select("row").join(frame, on="row", how="left", maintain_order="left")
        fold = _looked(_member(run, config, task, number), rows)
        for group, of_group in zip(groups, sums, strict=True):
            of_group.add(fold, group, group.chosen[at])
    return [of_group.seen(group.name) for group, of_group in zip(groups, sums, strict=True)]


@dataclass(frozen=True)
class _Group:
    # Rows that are answered alike, (n,), the output whose margin is asked for, and its direction.
    name: str
    chosen: NDArray[np.bool_]
    output: int
    sign: float = 1.0


def _groups(task: Any, said: pl.Series) -> list[_Group]:
    if holds(task) == "number":
        values = said.to_numpy()
        low, high = np.quantile(values, [0.25, 0.75])
        return [
            _Group("the highest quarter of the answers", values >= high, 0),
            _Group("the lowest quarter", values <= low, 0, -1.0),
        ]
    several = holds(task) == "labels"
    cells = [set(cell.split(task.half.separator)) if several else {cell} for cell in said]
    groups = [
        _Group(name, np.array([name in cell for cell in cells], dtype=bool), output)
        for output, name in enumerate(task.classes)
    ]
    answered = [group for group in groups if group.chosen.any()]
    return sorted(answered, key=lambda group: -int(group.chosen.sum()))[:MOST_CLASSES]


def _member(run: RunFolder, config: Config, task: Any, number: int) -> Linear:
    fold = run.fold(number)
    place = fold.member(LINEAR)
    files = [str(path.relative_to(fold.path)) for path in (place.state, place.arrays)]
    check(fold.path, "members", only=files)
    member = Linear(holds(task), outputs_of(task), columns_read(config), config.run.seed)
    restore(member, place.path)
    return member


@dataclass(frozen=True)
class _Looked:
    # A fold's rows (n,), their features (n, width), and what each feature is.
    model: LinearModel
    columns: Columns
    rows: pl.DataFrame
    found: Any
    mean: Floats
    names: list[str]
    places: list[tuple[str, str, slice]]


def _looked(member: Linear, rows: pl.DataFrame) -> _Looked:
    features = member.features
    found = features.transform(rows)
    names = [name for _, _, name in features.named()]
    places = features.places()
    return _Looked(member.model, features.columns, rows, found, _mean(found), names, places)


class _Sums:
    # Of the rows that are answered alike, over folds.
    def __init__(self) -> None:
        self.rows = 0
        self.columns: dict[str, float] = defaultdict(float)
        self.words: dict[tuple[str, str], float] = defaultdict(float)
        self.cells: dict[tuple[str, str], float] = defaultdict(float)

    def add(self, fold: _Looked, group: _Group, chosen: NDArray[np.bool_]) -> None:
        n = int(chosen.sum())
        self.rows += n
        if not n or not len(fold.model.outputs):
            return
        weights = group.sign * _margin_weights(fold.model, group.output)
        adds = n * (_mean(fold.found[np.flatnonzero(chosen)]) - fold.mean) * weights
        # Only words that are there: what their absence says is in the column's sum.
        there = np.where(weights > 0, adds, 0.0)
        for column, kind, at in fold.places:
            self.columns[column] += float(adds[at].sum())
            if kind == "ngrams" and column in fold.columns.text:
                for place in at.start + np.argsort(-there[at], kind="stable")[:_OF_A_FOLD]:
                    self.words[column, fold.names[place]] += float(there[place])
        for column in fold.columns.categorical:
            self._add_cells(column, fold, chosen, weights)

    def _add_cells(
        self, column: str, fold: _Looked, chosen: NDArray[np.bool_], weights: Floats
    ) -> None:
        # A cell is its value and the words in it.
        adds: Floats = np.zeros(len(chosen))
        for name, _, at in fold.places:
            if name == column:
                adds += fold.found[:, at] @ weights[at]
        cells = fold.rows[column].filter(pl.Series(chosen)).to_list()
        for cell, value in zip(cells, (adds[chosen] - adds.mean()).tolist(), strict=True):
            self.cells[column, str(cell)] += value

    def seen(self, name: str) -> Seen:
        n = max(self.rows, 1)
        return Seen(
            name,
            self.rows,
            {column: value / n for column, value in self.columns.items()},
            _largest(self.words, n, WORDS),
            _largest(self.cells, n, CELLS),
        )


def _margin_weights(model: LinearModel, output: int) -> Floats:
    # Of the class's score over the mean of the others'; of a label or number, its own.
    weights: Floats = model.weights.astype(np.float64)
    outputs = model.outputs.tolist()
    if output not in outputs:
        return np.zeros(weights.shape[1])
    place = outputs.index(output)
    if model.holds == "label" and len(outputs) == 2:  # which share one line of weights
        mine: Floats = weights[0] if place else -weights[0]
    elif model.holds == "label":
        mine = weights[place] - (weights.sum(axis=0) - weights[place]) / (len(outputs) - 1)
    else:
        mine = weights[place] * float(model.sizes[output] if model.holds == "number" else 1.0)
    return mine


def _mean(found: Any) -> Floats:
    return np.asarray(found.mean(axis=0), dtype=np.float64).ravel()


def _largest(sums: dict[tuple[str, str], float], n: int, most: int) -> list[tuple[str, str, float]]:
    order = sorted(sums.items(), key=lambda item: (-item[1], item[0]))[:most]
    return [(column, name, value / n) for (column, name), value in order if value > 0]
