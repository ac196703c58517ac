"""The run's answer: what its members predict in; their blend, its weights and its tables out.

Out of fold, the rows of a fold are answered by weights that follow from the other folds' rows
(ensemble/choose.py). New rows and the holdout are answered by weights from all of them: in each
fold its members' predictions are blended, then the folds' answers averaged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from foldwise.config.members import MODEL
from foldwise.config.schema import Config
from foldwise.ensemble.choose import Chosen, Rows, Score, adds, choose, cross_fit, dealt
from foldwise.members.member import Floats
from foldwise.metrics.metric import Metric, evaluate
from foldwise.preparation.build import holds
from foldwise.preparation.prepare import Prepared
from foldwise.tasks.predictions import mean_of_models, values_of, with_values

# Metrics that are a mean over classes, whatever the classes' sizes.
_OVER_CLASSES = ("balanced_accuracy",)


@dataclass(frozen=True)
class Answer:
    """What a run answers with.

    Attributes:
        chosen: the weights that predict new rows.
        of_folds: by fold, those that its own rows are answered with; of a run of one fold, by
            parts of its rows.
        out_of_fold: the table of all scored rows, ascending by repeat and row.
        adds: by member, the score of the blend of all minus that without it, the greater the
            better; none where one member is all there is.
    """

    chosen: Chosen
    of_folds: dict[int, Chosen]
    out_of_fold: pl.DataFrame
    adds: dict[str, float]

    def as_json(self) -> dict[str, Any]:
        """Return what metrics.json says of it."""
        return {
            "weights": _weights(self.chosen),
            "blended": self.chosen.blended,
            "adds": self.adds,
            "folds": {
                str(number): {"weights": _weights(chosen), "blended": chosen.blended}
                for number, chosen in self.of_folds.items()
            },
        }


def answer(prepared: Prepared, tables: Mapping[str, pl.DataFrame]) -> Answer:
    """Choose what a run answers with, and answer its own rows by it.

    Args:
        prepared: task, folds and seed are read.
        tables: of each answering member, its out-of-fold predictions of the same rows in the same
            order; the model's first.
    """
    first = tables[MODEL]
    if len(tables) == 1:
        alone = Chosen((MODEL,), np.ones(1), False, {})
        return Answer(alone, dict.fromkeys(prepared.folds, alone), first, {})
    task, kind = prepared.task, holds(prepared.task)
    metric = judged_by(prepared.config, task.metrics())
    target = task.to_arrays(first)[0]
    row = first["row"].to_numpy()
    rows = Rows(
        {name: values_of(table) for name, table in tables.items()},
        target[:, None] if kind == "number" else target,
        row,
        first["fold"].to_numpy().astype(np.int64),
        np.asarray(prepared.assignment.groups(row)),
    )
    settings: dict[str, Any] = {
        "macro": metric.name.endswith("_macro") or metric.name in _OVER_CLASSES,
        "seed": prepared.config.folds.seed,
    }
    score = _score(task, metric)
    _, of_folds = cross_fit(rows, kind, score, **settings)
    chosen = choose(rows, kind, score, **settings)
    numbers = dealt(rows, settings["seed"])
    parts = [
        answered({n: table.filter(numbers == number) for n, table in tables.items()}, found, task)
        for number, found in of_folds.items()
    ]
    added = adds(rows, kind, score, **settings)
    return Answer(chosen, of_folds, pl.concat(parts).sort("repeat", "row"), added)


def answered(tables: Mapping[str, pl.DataFrame], chosen: Chosen, task: Any) -> pl.DataFrame:
    """Return the answer to rows that a fold's members have predicted.

    Args:
        tables: by member, at least those with a weight; rows in the same order.
        chosen: the weights.
        task: says which label follows from probabilities.
    """
    if not chosen.blended:  # the member's own, to the last bit
        return tables[chosen.single]
    values = {name: values_of(tables[name]) for name in chosen.voting}
    some = next(iter(tables.values()))
    return with_values(task, some, chosen.predict(values, holds(task)))


def mean_answer(
    folds: Sequence[Mapping[str, pl.DataFrame]], chosen: Chosen, task: Any
) -> pl.DataFrame:
    """Return the mean of several folds' answers to the same rows."""
    return mean_of_models([answered(tables, chosen, task) for tables in folds], task)


def chosen_of(metrics_json: Mapping[str, Any]) -> Chosen:
    """Return what a finished run answers new rows with; the model, if it was made before."""
    found = metrics_json.get("answer") or {"weights": {MODEL: 1.0}, "blended": False}
    weights = found["weights"]
    return Chosen(tuple(weights), np.array(list(weights.values())), found["blended"], {})


def judged_by(config: Config, metrics: Sequence[Metric]) -> Metric:
    """Return the metric that says which of two answers is better: the one that picks the epoch.

    A loss can't be computed of every member's predictions: the first metric takes its place.
    """
    named = {metric.name: metric for metric in metrics}
    return named.get(config.selection.metric, metrics[0])


def _score(task: Any, metric: Metric) -> Score:
    sign = 1 if metric.greater_is_better else -1

    def score(values: Floats, rows: Rows) -> float:
        if holds(task) == "number":
            numbers: Any = (rows.target[:, 0], values[:, 0], np.empty((len(values), 0)))
            return sign * evaluate(metric, *numbers)
        made = pl.DataFrame(task.from_probabilities(values))
        prediction = task.to_arrays(made.with_columns(target=pl.col("prediction")))[1]
        return sign * evaluate(metric, rows.target, prediction, values)

    return score


def _weights(chosen: Chosen) -> dict[str, float]:
    return dict(zip(chosen.names, chosen.weights.tolist(), strict=True))
