"""The run's answer: what its members predict in; their blend, its weights and its tables out.

Out of fold, the rows of a fold are answered by weights that follow from the other folds' rows
(ensemble/choose.py). New rows and the holdout are answered by weights from all of them: in each
fold its members' predictions are blended and tempered, then the folds' answers averaged, and labels
named by thresholds, class weights or cutoffs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from foldwise.config.members import MODEL
from foldwise.config.schema import Config
from foldwise.decisions.class_weights import POWERS
from foldwise.decisions.cutoffs import matched_cutoffs, ranks_of
from foldwise.decisions.decision import AS_IT_IS, NAMINGS, Decision, Labels, fit_decision
from foldwise.decisions.temperature import Of, temper
from foldwise.decisions.thresholds import best_thresholds
from foldwise.ensemble.choose import (
    Chosen,
    Decide,
    Rows,
    Score,
    adds,
    as_they_are,
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
        labels: the names of the classes or labels.
        gain: what thresholds, class weights or cutoffs add to the score that judges, against a half
            for every label, the most probable class and the median, both cross-fitted; none where
            there are none.
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
        naming = self.chosen.decision.naming
        return {
            **self._told(self.chosen),
            "adds": self.adds,
            "calibration": self.calibration,
            **{f"{way}_add": self.gain if way in naming else None for way in NAMINGS},
            "folds": {str(number): self._told(chosen) for number, chosen in self.of_folds.items()},
        }

    def _told(self, chosen: Chosen) -> dict[str, Any]:
        found: dict[str, Any] = {"weights": _weights(chosen), "blended": chosen.blended}
        found["temperature"] = chosen.decision.temperature
        for key, numbers in chosen.decision.naming.items():
            # Nothing is below the lowest label in an order, so that it has no cutoff.
            named = self.labels[1:] if key == "cutoffs" else self.labels
            found[key] = dict(zip(named, numbers, strict=True))
        return found


def answer(prepared: Prepared, tables: Mapping[str, pl.DataFrame]) -> Answer:
    """Choose what a run answers with, and answer its own rows by it.

    Args:
        prepared: task, folds and seed are read.
        tables: of each answering member, its out-of-fold predictions of the same rows in the same
            order; the model's first.
    """
    task, kind = prepared.task, holds(prepared.task)
    first, metric = tables[MODEL], judged_by(prepared.config, task.metrics())
    labels = named_by(prepared.config, metric, probabilities_of(task))
    power = _power(prepared, metric)
    score = _score(task, metric, labels)
    decide = _decide(prepared, labels, power)
    if len(tables) == 1 and decide is as_they_are:
        alone = Chosen((MODEL,), np.ones(1), False, {})
        return Answer(alone, dict.fromkeys(prepared.folds, alone), first, {})
    target = task.to_arrays(first)[0]
    row = first["row"].to_numpy()
    rows = Rows(
        {name: values_of(table) for name, table in tables.items()},
        target[:, None] if kind == "number" else target,
        row,
        first["fold"].to_numpy().astype(np.int64),
        np.asarray(prepared.assignment.groups(row)),
    )
    seed = prepared.config.folds.seed
    _, of_folds = cross_fit(rows, kind, score, seed=seed, decide=decide)
    chosen = choose(rows, kind, score, seed=seed, decide=decide)
    numbers = dealt(rows, seed)
    parts = {n: {m: t.filter(numbers == n) for m, t in tables.items()} for n in of_folds}

    def answers(kept: Callable[[Decision], Decision]) -> pl.DataFrame:
        found = {n: replace(each, decision=kept(each.decision)) for n, each in of_folds.items()}
        made = [answered(parts[n], each, task) for n, each in found.items()]
        return pl.concat(made).sort("repeat", "row")

    made, plain = answers(lambda decision: decision), answers(lambda decision: AS_IT_IS)
    changed = gain = None
    if chosen.decision.temperature != 1:
        tempered = answers(lambda decision: Decision(decision.temperature))
        changed = calibration_json(plain, tempered, task, probabilities_of(task))
    if chosen.decision.naming:
        reached = [evaluate(metric, *task.to_arrays(each)) for each in (made, plain)]
        gain = reached[0] - reached[1]
    # Only class weights change what the score reads.
    added = adds(rows, kind, score, seed=seed, decide=decide if power else as_they_are)
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
    naming = {way: tuple((found.get(way) or {}).values()) for way in NAMINGS}
    decision = Decision(found.get("temperature", 1.0), **naming)
    return Chosen(tuple(weights), np.array(list(weights.values())), found["blended"], {}, decision)


def judged_by(config: Config, metrics: Sequence[Metric]) -> Metric:
    """Return the metric that says which of two answers is better: the one that picks the epoch.

    It is among a task's metrics, whether the config lists it there or not. A loss can't be computed
    of every member's predictions: the first metric takes its place.
    """
    named = {metric.name: metric for metric in metrics}
    return named.get(config.selection.metric, metrics[0])


def named_by(config: Config, metric: Metric, of: Of) -> Labels:
    """Say what names sets of labels, or labels in an order: thresholds or cutoffs that it wants."""
    ways: dict[Of, dict[str, Labels]] = {
        "labels": {"f1_macro": "each", "f1_weighted": "each", "f1_micro": "together"},
        "order": {"quadratic_kappa": "order"},
        "class": {},
    }
    return "half" if config.thresholds == "half" else ways[of].get(metric.name, "half")


def _power(prepared: Prepared, metric: Metric) -> float:
    # Of the class weights that a blend's labels are named by; 0 for none.
    weighs = holds(prepared.task) == "label" and prepared.config.thresholds == "auto"
    return POWERS.get(metric.name, 0.0) if weighs else 0.0


def _decide(prepared: Prepared, labels: Labels, power: float) -> Decide:
    config, task = prepared.config, prepared.task
    if holds(task) == "number" or not hasattr(task, "from_probabilities"):
        return as_they_are
    calibrate = config.calibration == "temperature"
    if not calibrate and labels == "half" and not power:
        return as_they_are

    def decide(values: Floats, rows: Rows, blended: bool) -> tuple[Decision, Floats]:
        found = fit_decision(
            values,
            rows.target,
            probabilities_of(task),
            calibrate=calibrate,
            labels=labels,
            # A member by itself has bent its probabilities already, by class weights in its loss.
            power=power if blended else 0.0,
        )
        if not found.class_weights:  # of the others the score is what they can reach
            return found, values
        return found, found.names_from(temper(values, found.temperature, probabilities_of(task)))

    return decide


def _named(table: pl.DataFrame, decision: Decision, task: Any) -> pl.DataFrame:
    if not decision.naming:
        return table
    values = values_of(table)
    classes = values.shape[1]
    for way, numbers in decision.naming.items():
        if len(numbers) != classes - (way == "cutoffs"):
            raise FoldwiseError(
                f"metrics.json: the run's answer has {len(numbers)} {way.replace('_', ' ')} for "
                f"{classes} labels; put it back from a copy of the run"
            )
    if decision.thresholds:
        names = task.joined(values >= np.array(decision.thresholds))
    elif decision.cutoffs:
        names = [task.classes[rank] for rank in ranks_of(values, np.array(decision.cutoffs))]
    else:
        names = task.from_probabilities(decision.names_from(values))["prediction"]
    return table.with_columns(pl.Series("prediction", names, table["prediction"].dtype))


def _score(task: Any, metric: Metric, labels: Labels) -> Score:
    sign = 1 if metric.greater_is_better else -1

    def score(values: Floats, rows: Rows) -> float:
        if holds(task) == "number":
            numbers: Any = (rows.target[:, 0], values[:, 0], np.empty((len(values), 0)))
            return sign * evaluate(metric, *numbers)
        if labels == "order":  # what can be reached, whatever the scale
            named = ranks_of(values, matched_cutoffs(values, rows.target))
            return sign * evaluate(metric, rows.target, named, values)
        if labels != "half":
            best = best_thresholds(values, rows.target, together=labels == "together")
            return sign * evaluate(metric, rows.target, (values >= best).astype(np.int64), values)
        made = pl.DataFrame(task.from_probabilities(values))
        prediction = task.to_arrays(made.with_columns(target=pl.col("prediction")))[1]
        return sign * evaluate(metric, rows.target, prediction, values)

    return score


def _weights(chosen: Chosen) -> dict[str, float]:
    return dict(zip(chosen.names, chosen.weights.tolist(), strict=True))
