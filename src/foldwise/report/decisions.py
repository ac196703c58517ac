"""The report's section on decisions: what is done with the answer's probabilities, and its worth.

In: metrics.json and the out-of-fold predictions. Out: a section; of runs from before there were
decisions what can be told of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from markupsafe import Markup

from foldwise.decisions.temperature import temper
from foldwise.evaluation.answer import probabilities_of
from foldwise.evaluation.diagnostics import Flags, Floats, coverage
from foldwise.evaluation.words import figure
from foldwise.report import page

_BELOW = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)  # confidences that are tabulated

# What labels are named by, as metrics.json has it: what is told of it, and its columns.
_NAMED_BY = {
    "thresholds": (
        "From which probability a label is predicted. Cross-fitted, these thresholds add {add} to "
        "the score that judges, against a half for all.",
        ["label", "from"],
    ),
    "class_weights": (
        "A row's label is the class of the largest probability times weight, since the score that "
        "judges is a mean over classes; probabilities are as they are. Cross-fitted, these weights "
        "add {add} to it, against the most probable class.",
        ["class", "weight"],
    ),
    "cutoffs": (
        "From which mean rank on a label is named, the lowest label having rank 0: named ranks "
        "have the mean and deviation of the true ones, as quadratic kappa wants it. Cross-fitted, "
        "these cutoffs add {add} to it, against the median label.",
        ["label", "from"],
    ),
}


def decision_sections(
    metrics: Mapping[str, Any], confidence: Floats | None, right: Flags | None
) -> list[page.Section]:
    """Build the section; none where there is nothing to say.

    Args:
        metrics: what metrics.json holds.
        confidence: of each out-of-fold row, where one label a row is predicted, (n,).
        right: whether it was the target, (n,).
    """
    answer = metrics.get("answer") or {}
    parts = [
        *_temperature(answer.get("calibration"), answer.get("temperature")),
        *_abstaining(confidence, right),
        *_naming(answer),
        *_sets(answer.get("sets")),
    ]
    return [page.Section("Decisions", Markup("").join(parts))] if parts else []


def before_tempering(
    answer: Mapping[str, Any], probabilities: Floats, fold: np.ndarray, task: Any
) -> Floats | None:
    """Return probabilities (n, k) as they were; None where nothing was done, or can't be undone."""
    folds = {int(number): each for number, each in answer.get("folds", {}).items()}
    if not answer.get("calibration") or not set(fold.tolist()) <= set(folds):
        return None
    raw = probabilities.copy()
    for number in np.unique(fold):
        own = fold == number
        back = 1 / folds[int(number)]["temperature"]
        raw[own] = temper(probabilities[own], back, probabilities_of(task))
    return raw


def _temperature(found: Mapping[str, Any] | None, temperature: float | None) -> list[Markup]:
    if not found or temperature is None:
        return []
    lead = (
        "The answer's probabilities are tempered by one number, fitted by the log loss on "
        "out-of-fold rows; the rows of a fold by that of the other folds. No label changes by it "
        "out of fold; where folds are averaged (holdout, predict) one that is nearly a tie may."
    )
    losses, errors = found["log_loss"], found["ece"]
    values = {
        "temperature (above one: it was too sure of itself)": figure(temperature),
        "log loss before and after": f"{figure(losses['before'])}, {figure(losses['after'])}",
        "calibration error before and after": (
            f"{figure(errors['before'])}, {figure(errors['after'])}; by chance alone "
            f"{figure(errors['by_chance'])}"
        ),
    }
    return [page.paragraph(lead), page.facts(values)]


def _abstaining(confidence: Floats | None, right: Flags | None) -> list[Markup]:
    if confidence is None or right is None or not len(confidence):
        return []
    rows: list[list[page.Cell]] = []
    for threshold, kept, accuracy in coverage(confidence, right, np.array(_BELOW)):
        wrong = None if np.isnan(accuracy) else round(1000 * kept * (1 - accuracy))
        shown = None if np.isnan(accuracy) else accuracy
        rows.append([f"{threshold:.2f}", kept, shown, round(1000 * (1 - kept)), wrong])
    caption = (
        "What abstaining below a confidence costs, out of fold (predict --abstain): the share of "
        "rows kept, how right they are, and of 1,000 rows how many go to a person and how many "
        "are labelled wrongly"
    )
    headings = ["below", "kept", "accuracy", "to a person", "wrong"]
    return [page.table(caption, headings, rows, sortable=False)]


def _naming(answer: Mapping[str, Any]) -> list[Markup]:
    parts = []
    for key, (told, headings) in _NAMED_BY.items():
        if found := answer.get(key):
            caption = told.format(add=figure(answer.get(f"{key}_add")))
            rows: list[list[page.Cell]] = [[name, number] for name, number in found.items()]
            parts.append(page.table(caption, headings, rows))
    return parts


def _sets(found: Mapping[str, Any] | None) -> list[Markup]:
    if not found:
        return []
    judged = {"out of fold": found["oof"], "holdout": found["holdout"]}
    shown = {told: each for told, each in judged.items() if each}
    numbers = "classes" not in found["oof"]
    what = "Intervals" if numbers else "Sets"
    kinds = {"": shown} if numbers else {"": shown, ", by class": _by_class(shown)}
    rows: list[list[page.Cell]] = [
        [told + kind, each["rows"], each["coverage"], each["size"], each.get("empty")]
        for kind, of in kinds.items()
        for told, each in of.items()
    ]
    caption = (
        f"{what} that shall hold the truth of {found['level']:.0%} of the rows (predict --sets "
        f"{found['level']}): the share that does, and "
        + ("the median width" if numbers else "labels in a set, and sets without any, in the mean")
    )
    headings = ["", "rows", "coverage", "width" if numbers else "labels", "empty"]
    if numbers:
        headings, rows = headings[:-1], [row[:-1] for row in rows]
    parts = [page.table(caption, headings, rows, sortable=False)]
    return parts if numbers else [*parts, _classes(shown)]


def _by_class(shown: Mapping[str, Any]) -> dict[str, Any]:
    return {told: each["by_class"] for told, each in shown.items()}


def _classes(shown: Mapping[str, Any]) -> Markup:
    told, judged = list(shown.items())[-1]  # the holdout, where there is one
    pairs = zip(judged["classes"], judged["by_class"]["classes"], strict=True)
    rows: list[list[page.Cell]] = [
        [one["label"], one["rows"], one["coverage"], one["size"], two["coverage"], two["size"]]
        for one, two in pairs
    ]
    caption = f"Sets of each class, {told}; the last two of sets by class (predict --by-class)"
    headings = ["class", "rows", "coverage", "labels", "by class: coverage", "labels"]
    return page.table(caption, headings, rows)
