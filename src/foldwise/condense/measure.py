"""What the one model costs in score and saves in time: holdout rows in, measured.json out.

The holdout is the only table that neither the folds nor the one model have seen. Both answer it as
`predict` would; the difference is paired, over the same resamples of groups of near-duplicates.
"""

from __future__ import annotations

import time
from typing import Any

import polars as pl

from foldwise.decisions.temperature import log_loss
from foldwise.evaluation.answer import probabilities_of
from foldwise.evaluation.bootstrap import LEVEL, Resampled, percentiles, resample
from foldwise.evaluation.calibration import confidence_of
from foldwise.evaluation.diagnostics import calibration
from foldwise.evaluation.summary import holdout_groups
from foldwise.metrics.metric import Floats, Ids, Metric
from foldwise.predictor import Predictor
from foldwise.preparation.build import holds
from foldwise.preparation.prepare import Prepared
from foldwise.run.files import to_json, write_parquet
from foldwise.run.folder import FoldFolder
from foldwise.run.ones import holdout_sha256
from foldwise.run.seal import check, commit
from foldwise.tasks.predictions import read_predictions
from foldwise.training.fold import metric_by_name

ALL = "all"  # what `--model` calls the folds' answer
TIMED, PASSES = 128, 2  # rows, and how often; the quicker pass counts


def measure(prepared: Prepared, one: FoldFolder) -> None:
    """Let the one model answer the holdout and set it beside the folds' answer.

    Args:
        prepared: of the run, with a holdout.
        one: where the model lies, fitted.
    """
    run, task, held = prepared.run, prepared.task, prepared.holdout
    assert held is not None
    name = one.path.name
    predictors = {model: _load(prepared, model) for model in (ALL, name)}
    nothing = pl.lit(None, dtype=pl.Int32)
    answer = predictors[name].predict(held)
    write_parquet(one.holdout, answer.with_columns(repeat=nothing, fold=nothing))
    check(run.path, "finished", only=[run.holdout.name])
    tables = {ALL: read_predictions(run.holdout, task), name: read_predictions(one.holdout, task)}
    metrics = _metrics(task)
    groups = holdout_groups(prepared)(held["row"].to_numpy())
    drawn = {
        model: resample(metrics, *task.to_arrays(table), groups, prepared.config.folds.seed)
        for model, table in tables.items()
    }
    result = {
        "model": name,
        "rows": held.height,
        "folds": len(predictors[ALL].folds),
        "scores": {model: found.intervals() for model, found in drawn.items()},
        "difference": _differences(drawn[name], drawn[ALL]),
        "calibration_error": {model: _error(task, table) for model, table in tables.items()},
        "ms_a_row": _times(predictors, held),
        "smaller_is_better": [m.name for m in metrics if not m.greater_is_better],
        "beside": holdout_sha256(run),
    }
    commit(one.path, "measured", [one.holdout], one.measured, to_json(result))


def _load(prepared: Prepared, model: str) -> Predictor:
    return Predictor(
        prepared.run.path,
        model=model,
        trust_code=True,  # it has run already
        device=prepared.config.training.device,
        online=prepared.online,
    )


def _metrics(task: Any) -> list[Metric]:
    # The log loss beside those of the run: what the probabilities themselves are worth.
    metrics: list[Metric] = task.metrics()
    named = {metric.name for metric in metrics}
    if not _has_probabilities(task) or "log_loss" in named:
        return metrics
    if holds(task) == "labels":
        return [*metrics, Metric("log_loss", _loss_of_labels, False, "probabilities")]
    return [*metrics, metric_by_name(task, "log_loss")]


def _has_probabilities(task: Any) -> bool:
    return holds(task) != "number" and hasattr(task, "classes")


def _loss_of_labels(target: Ids, prediction: Ids, probabilities: Floats) -> float:
    # A holdout of its own file may have labels that no model knows.
    return log_loss(probabilities, target[:, : probabilities.shape[1]], "labels")


def _differences(one: Resampled, folds: Resampled) -> dict[str, dict[str, float]]:
    draws = one.draws - folds.draws
    return {
        name: {
            "value": float(one.values[i] - folds.values[i]),
            **percentiles(draws[:, i], LEVEL),
        }
        for i, name in enumerate(one.names)
    }


def _error(task: Any, table: pl.DataFrame) -> float | None:
    if not _has_probabilities(task):
        return None
    return calibration(*confidence_of(table, task, probabilities_of(task)))[1]


def _times(predictors: dict[str, Predictor], rows: pl.DataFrame) -> dict[str, float]:
    # In turns, so that whatever else the machine does is in both; the first rows warm up.
    some = rows[: min(TIMED, rows.height)]
    quickest = dict.fromkeys(predictors, float("inf"))
    for predictor in predictors.values():
        predictor.predict(some[:8])
    for _ in range(PASSES):
        for model, predictor in predictors.items():
            begun = time.perf_counter()
            predictor.predict(some)
            quickest[model] = min(quickest[model], time.perf_counter() - begun)
    return {model: 1000 * seconds / some.height for model, seconds in quickest.items()}
