"""The run's answer: what its members predict in; their blend, its weights and its tables out.

Out of fold, the rows of a fold are answered by weights that follow from the other folds' rows
(ensemble/choose.py). New rows and the holdout are answered by weights from all of them: in each
fold its members' predictions are blended and tempered, then the folds' answers averaged, and labels
named by their thresholds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from foldwise.config.members import MODEL
from foldwise.config.schema import Config
from foldwise.decisions.decision import AS_IT_IS, Decision, Labels, fit_decision
from foldwise.decisions.temperature import Of, temper
from foldwise.decisions.thresholds import best_thresholds
from foldwise.ensemble.choose import (
    Chosen,
    Decide,
    Rows,
    Score,
    adds,
    choose,
    cross_fit,
    dealt,
)
from foldwise.errors import FoldwiseError
from foldwise.evaluation.calibration import calibration_json
from foldwise.members.member import Floats
from foldwise.metrics.metric import Metric, evaluate
from foldwise.preparation.build import holds
from foldwise.preparation.prepare import Prepared
from foldwise.tasks.predictions import mean_of_models, values_of, with_values

# Metrics of labels that are a mean over classes, whatever the classes' sizes; besides *_macro.
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
        calibration: what the temperature changed; none where there is none.
        labels: the names of the thresholds.
        gain: what thresholds add to the score that judges, against a half for every label, both
            cross-fitted; none where there are none.
    """

    chosen: Chosen
    of_folds: dict[int, Chosen]
    out_of_fold: pl.DataFrame
    adds: dict[str, float]
    calibration: dict[str, Any] | None = None
    labels: Sequence[str] = ()
    gain: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Return what metrics.json says of it."""
        return {
            **self._told(self.chosen),
            "adds": self.adds,
            "calibration": self.calibration,
            "thresholds_add": self.gain,
            "folds": {str(number): self._told(chosen) for number, chosen in self.of_folds.items()},
        }

    def _told(self, chosen: Chosen) -> dict[str, Any]:
        found: dict[str, Any] = {"weights": _weights(chosen), "blended": chosen.blended}
        found["temperature"] = chosen.decision.temperature
        if thresholds := chosen.decision.thresholds:
            found["thresholds"] = dict(zip(self.labels, thresholds, strict=True))
        return found


def answer(prepared: Prepared, tables: Mapping[str, pl.DataFrame]) -> Answer:
    """Choose what a run answers with, and answer its own rows by it.

    Args:
        prepared: task, folds and seed are read.
        tables: of each answering member, its out-of-fold predictions of the same rows in the same
            order; the model's first.
    """
    task, kind = prepared.task, holds(prepared.task)
    first, decide = tables[MODEL], _decide(prepared)
    if len(tables) == 1 and decide is None:
        alone = Chosen((MODEL,), np.ones(1), False, {})
        return Answer(alone, dict.fromkeys(prepared.folds, alone), first, {})
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
        "macro": _weighs_classes(metric),
        "seed": prepared.config.folds.seed,
    }
    score = _score(task, metric, named_by(prepared.config, metric))
    _, of_folds = cross_fit(rows, kind, score, decide=decide, **settings)
    chosen = choose(rows, kind, score, decide=decide, **settings)
    numbers = dealt(rows, settings["seed"])
    parts = {n: {m: t.filter(numbers == n) for m, t in tables.items()} for n in of_folds}
    made = _joined([answered(parts[n], found, task) for n, found in of_folds.items()])
    added = adds(rows, kind, score, **settings)
    raw = {n: replace(found, decision=AS_IT_IS) for n, found in of_folds.items()}
    before = _joined([answered(parts[n], found, task) for n, found in raw.items()])
    changed = gain = None
    if chosen.decision.temperature != 1:
        changed = calibration_json(before, made, task, probabilities_of(task))
    if chosen.decision.thresholds:  # a temperature names no other labels
        reached = [evaluate(metric, *task.to_arrays(each)) for each in (made, before)]
        gain = reached[0] - reached[1]
    return Answer(chosen, of_folds, made, added, changed, getattr(task, "classes", ()), gain)


def answered(tables: Mapping[str, pl.DataFrame], chosen: Chosen, task: Any) -> pl.DataFrame:
    """Return the answer to rows that a fold's members have predicted.

    Args:
        tables: by member, at least those with a weight; rows in the same order.
        chosen: the weights.
        task: says which label follows from probabilities.
    """
    if not chosen.blended and chosen.decision.plain:  # the member's own, to the last bit
        return tables[chosen.single]
    values = {name: values_of(tables[name]) for name in chosen.voting}
    blended = chosen.predict(values, holds(task))
    if chosen.decision.temperature != 1:
        blended = temper(blended, chosen.decision.temperature, probabilities_of(task))
    return _named(with_values(task, tables[chosen.voting[0]], blended), chosen.decision, task)


def mean_answer(
    folds: Sequence[Mapping[str, pl.DataFrame]], chosen: Chosen, task: Any
) -> pl.DataFrame:
    """Return the mean of several folds' answers to the same rows."""
    mean = mean_of_models([answered(tables, chosen, task) for tables in folds], task)
    return _named(mean, chosen.decision, task)


def probabilities_of(task: Any) -> Of:
    """Say what a task's probabilities are of."""
    if holds(task) == "labels":
        return "labels"
    return "order" if getattr(task, "ordered", False) else "class"


def chosen_of(metrics_json: Mapping[str, Any]) -> Chosen:
    """Return what a finished run answers new rows with; the model, if it was made before."""
    found = metrics_json.get("answer") or {"weights": {MODEL: 1.0}, "blended": False}
    weights = found["weights"]
    named = tuple((found.get("thresholds") or {}).values())
    decision = Decision(found.get("temperature", 1.0), named)
    return Chosen(tuple(weights), np.array(list(weights.values())), found["blended"], {}, decision)


def judged_by(config: Config, metrics: Sequence[Metric]) -> Metric:
    """Return the metric that says which of two answers is better: the one that picks the epoch.

    It is among a task's metrics, whether the config lists it there or not. A loss can't be computed
    of every member's predictions: the first metric takes its place.
    """
    named = {metric.name: metric for metric in metrics}
    return named.get(config.selection.metric, metrics[0])


def named_by(config: Config, metric: Metric) -> Labels:
    """Say which thresholds name labels, where they are sets: those of the F1 that judges."""
    if config.thresholds == "half":
        return "half"
    of: dict[str, Labels] = {"f1_macro": "each", "f1_weighted": "each", "f1_micro": "together"}
    return of.get(metric.name, "half")


def _decide(prepared: Prepared) -> Decide | None:
    config, task = prepared.config, prepared.task
    if holds(task) == "number" or not hasattr(task, "from_probabilities"):
        return None
    labels: Labels = "half"
    if holds(task) == "labels":
        labels = named_by(config, judged_by(config, task.metrics()))
    calibrate = config.calibration == "temperature"
    if not calibrate and labels == "half":
        return None

    def decide(values: Floats, rows: Rows) -> Decision:
        of = probabilities_of(task)
        return fit_decision(values, rows.target, of, calibrate=calibrate, labels=labels)

    return decide


def _named(table: pl.DataFrame, decision: Decision, task: Any) -> pl.DataFrame:
    if not decision.thresholds:
        return table
    values = values_of(table)
    if len(decision.thresholds) != values.shape[1]:
        raise FoldwiseError(
            f"metrics.json: the run's answer has {len(decision.thresholds)} thresholds for "
            f"{values.shape[1]} labels; put it back from a copy of the run"
        )
    chosen = values >= np.array(decision.thresholds)
    return table.with_columns(pl.Series("prediction", task.joined(chosen), pl.String))


def _weighs_classes(metric: Metric) -> bool:
    # Whether rows of rare classes should weigh more: it moves labels towards them. A mean of the
    # classes' AUC is one over classes too, but no label has a part in it, and it is higher where
    # the probabilities are right (docs/experiments.md).
    over_classes = metric.name.endswith("_macro") or metric.name in _OVER_CLASSES
    return over_classes and metric.needs == "prediction"


def _joined(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(parts).sort("repeat", "row")


def _score(task: Any, metric: Metric, labels: Labels) -> Score:
    sign = 1 if metric.greater_is_better else -1

    def score(values: Floats, rows: Rows) -> float:
        if holds(task) == "number":
            numbers: Any = (rows.target[:, 0], values[:, 0], np.empty((len(values), 0)))
            return sign * evaluate(metric, *numbers)
        if holds(task) == "labels" and labels != "half":  # what can be reached, whatever the scale
            best = best_thresholds(values, rows.target, together=labels == "together")
            return sign * evaluate(metric, rows.target, (values >= best).astype(np.int64), values)
        made = pl.DataFrame(task.from_probabilities(values))
        prediction = task.to_arrays(made.with_columns(target=pl.col("prediction")))[1]
        return sign * evaluate(metric, rows.target, prediction, values)

    return score


def _weights(chosen: Chosen) -> dict[str, float]:
    return dict(zip(chosen.names, chosen.weights.tolist(), strict=True))
