"""Scored rows by their kind of target: classes, confusions, confidence and mistakes, or errors.

Any report's rows: a run's out-of-fold rows, or the labelled rows of a new table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from foldwise.evaluation import diagnostics
from foldwise.report import page, run_charts, run_rows
from foldwise.report.decisions import before_tempering, decision_sections
from foldwise.report.source import Judged


def target_sections(
    judged: Judged, data: dict[str, Any], metrics: Mapping[str, Any] | None = None
) -> list[page.Section]:
    """Build what hangs on the kind of target.

    Args:
        judged: the rows.
        data: of the page; what its script lists is put there.
        metrics: what metrics.json holds, where these are the run's out-of-fold rows: what was
            decided by them is shown, too.
    """
    target, prediction, probabilities = judged.arrays
    per_class = getattr(judged.task, "per_class", None)
    sections = []
    if per_class is not None and (scores := per_class(target, prediction)):
        sections.append(page.Section("Classes", _classes(scores, judged.told)))
    if judged.table["prediction"].dtype.is_float():
        error = np.ravel(prediction) - np.ravel(target)
        body = _numbers(np.ravel(target), np.ravel(prediction), error, judged.told)
        sections.append(page.Section("Predictions", body))
        sections += _decisions(metrics, None, None)
        mistakes = run_rows.largest_errors(judged, error)
        sections.append(run_rows.list_section("Largest errors", "mistakes", mistakes, data))
        return sections
    if np.ndim(target) != 1 or probabilities.ndim != 2 or not len(judged.task.classes):
        return sections + _decisions(metrics, None, None)
    classes = [str(name) for name in judged.task.classes]
    confidence = probabilities[np.arange(len(prediction)), prediction]
    right = prediction == target
    body = run_rows.confusion(judged, classes, data)
    sections.append(page.Section("Confusion matrix", body))
    before = _before(judged, metrics)
    sections.append(page.Section("Confidence", _confidence(confidence, right, before)))
    sections.append(page.Section("Threshold", _threshold(confidence, right, data)))
    sections += _decisions(metrics, confidence, right)
    mistakes = run_rows.mistakes(judged, confidence, right)
    sections.append(run_rows.list_section("Most confident mistakes", "mistakes", mistakes, data))
    errors = run_rows.label_errors(judged)
    sections.append(run_rows.label_error_section(errors, data))
    return sections


def _decisions(
    metrics: Mapping[str, Any] | None, confidence: np.ndarray | None, right: np.ndarray | None
) -> list[page.Section]:
    return [] if metrics is None else decision_sections(metrics, confidence, right)


def _before(judged: Judged, metrics: Mapping[str, Any] | None) -> np.ndarray | None:
    """Return the confidence before the answer's temperature, where that is known."""
    if metrics is None:
        return None
    _, prediction, probabilities = judged.arrays
    folds = judged.table["fold"].to_numpy()
    raw = before_tempering(metrics.get("answer") or {}, probabilities, folds, judged.task)
    return None if raw is None else raw[np.arange(len(prediction)), prediction]


def _classes(scores: Sequence[dict[str, Any]], where: str) -> Markup:
    columns = [name for name in ("f1", "precision", "recall", "support") if name in scores[0]]
    rows = [[str(entry["label"]), *(entry[name] for name in columns)] for entry in scores]
    told = f"Scores of each class {where}; support is its rows. Click a heading to sort"
    return page.table(told, ["class", *columns], rows)


def _numbers(target: np.ndarray, prediction: np.ndarray, error: np.ndarray, where: str) -> Markup:
    quantiles = np.quantile(error, [0.05, 0.25, 0.5, 0.75, 0.95])
    names = ["5%", "25%", "median", "75%", "95%"]
    table = page.table(
        "Prediction minus target", names, [[float(q) for q in quantiles]], sortable=False
    )
    scatter = run_charts.predicted_against_target(target, prediction)
    return (
        page.chart(scatter, f"Predicted against true numbers, {where}")
        + page.chart(run_charts.residuals(error), "Errors: prediction minus target")
        + table
    )


def _confidence(confidence: np.ndarray, right: np.ndarray, before: np.ndarray | None) -> Markup:
    bins, error = diagnostics.calibration(confidence, right)
    lines = {"the answer": bins}
    if before is not None:
        lines["before its temperature"] = diagnostics.calibration(before, right)[0]
    counts = diagnostics.confidence_counts(confidence, right)
    return (
        page.facts({f"expected calibration error ({diagnostics.BINS} bins)": f"{error:.3f}"})
        + page.chart(
            run_charts.calibration(lines),
            "Calibration: where the line lies below the dashed one the model is too sure of itself",
        )
        + page.chart(run_charts.confidence(counts), "Right and wrong predictions by confidence")
    )


def _threshold(confidence: np.ndarray, right: np.ndarray, data: dict[str, Any]) -> Markup:
    points = diagnostics.coverage(confidence, right, np.linspace(0, 1, 101))
    data["coverage"] = points
    control = Markup(
        '<p><label for="threshold-slider">Leave rows of lower confidence to a person:</label><br>'
        '<input type="range" id="threshold-slider" min="0" max="100" value="50"></p>'
        '<p><output id="threshold-told" for="threshold-slider"></output></p>'
    )
    return control + page.chart(
        run_charts.coverage(points), "Accuracy on the rows kept, by the share of rows kept"
    )
