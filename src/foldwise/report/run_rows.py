"""The report's rows: which are shown, with what text; and how good the run is on parts of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from markupsafe import Markup

from foldwise.evaluation.diagnostics import most_confident_mistakes
from foldwise.evaluation.label_errors import SURE, Witness, likely_label_errors, witness
from foldwise.evaluation.slices import FEWEST, Slice, by_length, by_value, score_slices
from foldwise.metrics.metric import confusion as count_pairs
from foldwise.report import page

if TYPE_CHECKING:
    from foldwise.report.source import Judged

CELL_ROWS = 20  # rows that are listed for a cell of the confusion matrix
LISTED = 100  # mistakes and label errors that are listed
TEXT = 500  # characters of a row's text
COLUMNS = 300  # characters of its other columns
_MOST_MATRIX_ROWS = 4000  # listed for all cells together: the page stays small
_OF_CELL = ("target", "prediction")
_MOST_CLASSES = 60  # a larger matrix can't be read


def confusion(judged: Judged, classes: list[str], data: dict[str, Any]) -> Markup:
    """Build the confusion matrix, and put the rows behind its cells into the page's data."""
    target, prediction, probabilities = judged.arrays
    if len(classes) > _MOST_CLASSES:
        return page.paragraph(
            f"{len(classes)} classes are too many for a matrix; the table of classes has them all."
        )
    counts = count_pairs(target, prediction, len(classes))
    sure = probabilities[np.arange(len(prediction)), prediction]
    describe = _Describer(judged)
    cells: dict[str, list[dict[str, Any]]] = {}
    order = np.argsort(-sure, kind="stable")
    listed = 0
    # Mistakes before what is right: they are what one looks for.
    for wanted in (False, True):
        for i in order[(prediction[order] == target[order]) == wanted]:
            key = f"{target[i]},{prediction[i]}"
            cell = cells.setdefault(key, [])
            if len(cell) < CELL_ROWS and listed < _MOST_MATRIX_ROWS and target[i] < len(classes):
                described = describe(int(i), float(sure[i]))
                # The cell says these of all its rows; long names would fill the page.
                cell.append({k: v for k, v in described.items() if k not in _OF_CELL})
                listed += 1
    data["classes"] = classes
    data["cells"] = cells
    return _matrix(counts, classes)


def _matrix(counts: np.ndarray, classes: list[str]) -> Markup:
    totals = counts.sum(axis=1)
    head = Markup("").join(
        Markup('<th scope="col"><span>{}</span></th>').format(name) for name in classes
    )
    body = Markup("").join(
        Markup('<tr><th scope="row">{}</th>{}</tr>').format(
            name,
            Markup("").join(_cell(counts, totals, classes, i, j) for j in range(len(classes))),
        )
        for i, name in enumerate(classes)
    )
    return Markup(
        "<p>Rows are targets, columns predictions. A cell's rows are listed below when it is "
        "clicked.</p>"
        '<p><button type="button" class="choice" data-matrix="counts" aria-pressed="true">counts'
        '</button> <button type="button" class="choice" data-matrix="shares" aria-pressed="false">'
        "shares of the target's rows</button></p>"
        '<div class="scroll" role="region" tabindex="0" aria-label="Confusion matrix">'
        '<table class="matrix"><thead><tr><td></td>{}</tr></thead><tbody>{}</tbody></table></div>'
        '<p id="cell-status" role="status" class="note">Choose a cell.</p>'
        '<ol class="rows" id="cell-rows"></ol>'
    ).format(head, body)


def _cell(counts: np.ndarray, totals: np.ndarray, classes: list[str], i: int, j: int) -> Markup:
    rows = int(counts[i, j])
    share = rows / totals[i] if totals[i] else 0.0
    kind = "hit" if i == j else "miss"
    shade = Markup(' style="background: rgba(var(--{}), {:.2f})"').format(kind, 0.75 * share)
    return Markup(
        '<td{}><button type="button" data-target="{}" data-predicted="{}" data-rows="{}" '
        'data-share="{}" aria-pressed="false" aria-label="{}"{}>{}</button></td>'
    ).format(
        shade if rows else Markup(""),
        i,
        j,
        rows,
        f"{100 * share:.0f}%",
        f"{rows} rows of {classes[i]} predicted as {classes[j]}",
        Markup(" disabled") if not rows else Markup(""),
        rows,
    )


def mistakes(judged: Judged, confidence: np.ndarray, right: np.ndarray) -> list[dict[str, Any]]:
    """List the most confident wrong predictions."""
    describe = _Describer(judged)
    chosen = most_confident_mistakes(confidence, right, LISTED)
    return [describe(int(i), float(confidence[i])) for i in chosen]


def largest_errors(judged: Judged, error: np.ndarray) -> list[dict[str, Any]]:
    """List the predicted numbers that are furthest from the truth."""
    describe = _Describer(judged)
    order = np.argsort(-np.abs(error), kind="stable")[:LISTED]
    return [describe(int(i), None) | {"note": f"off by {error[i]:+.4g}"} for i in order]


def label_errors(
    judged: Judged,
) -> tuple[list[dict[str, Any]], int, Witness]:
    """List the likely label errors, each row once however often it was scored.

    Returns:
        The likeliest, how many there are, and how good the model is that says so.
    """
    target, _, probabilities = judged.arrays
    rows = judged.table["row"].to_numpy()
    unique, first, place = np.unique(rows, return_index=True, return_inverse=True)
    mean = np.zeros((len(unique), probabilities.shape[1]))
    np.add.at(mean, place, probabilities)
    mean /= np.bincount(place)[:, None]
    found = likely_label_errors(target[first], mean)
    describe = _Describer(judged)
    listed = []
    for i in found[:LISTED]:
        own = mean[i, target[first[i]]]
        entry = describe(int(first[i]), float(mean[i].max()))
        entry["prediction"] = str(judged.task.classes[int(mean[i].argmax())])
        listed.append(entry | {"note": f"its own label has {own:.3f}"})
    return listed, len(found), witness(target[first], mean)


def label_error_section(
    found: tuple[list[dict[str, Any]], int, Witness], data: dict[str, Any]
) -> page.Section:
    """Build the section of likely label errors."""
    listed, rows, model = found
    told = (
        f"{rows:,} rows whose label is contradicted, by predictions that had no part in it, in a "
        "way that the other rows don't excuse (confident learning, Northcutt et al. 2021), the "
        "likeliest first"
        + (f"; the first {len(listed)} are listed" if rows > len(listed) else "")
        + ". The model may be wrong too: look before you relabel."
    )
    quality = page.paragraph(model.told, "" if model.agrees >= SURE else "warning")
    body = page.paragraph(told) + quality + _list("label_errors", listed, data)
    return page.Section("Likely label errors", body)


def list_section(
    title: str, name: str, listed: list[dict[str, Any]], data: dict[str, Any]
) -> page.Section:
    """Build a section that lists rows."""
    if not listed:
        return page.Section(title, page.paragraph("None."))
    return page.Section(title, _list(name, listed, data))


def slice_sections(judged: Judged) -> list[page.Section]:
    """Build the scores by categorical column and by token length."""
    frame = judged.frame
    if frame is None:
        return []
    values, what = _row_values(judged)
    if values is None:
        return []
    places = np.searchsorted(frame["row"].to_numpy(), judged.table["row"].to_numpy())
    titles = [*judged.config.data.categorical]
    columns = [
        by_value(frame[name].cast(pl.String).fill_null("missing")[places].to_list())
        for name in titles
    ]
    if judged.lengths is not None:
        titles.append("Length")
        columns.append(by_length(judged.lengths[places]))
    scores = score_slices(
        columns,
        values,
        judged.groups,
        smaller_is_better=what != "accuracy",
        seed=judged.config.folds.seed,
    )
    overall = float(values.mean())
    parts = [
        _slices(title, slices, what, overall) for title, slices in zip(titles, scores, strict=True)
    ]
    note = page.paragraph(
        "Marked is what is clearly worse than over all rows: of tables whose columns have nothing "
        "to do with the score, one in 40 has a mark anywhere. Parts of fewer than "
        f"{FEWEST} distinct rows are too small to be judged.",
        "note",
    )
    sections = []
    if judged.lengths is not None:
        cut = judged.config.text.max_length
        bounded = judged.bounded
        least = f" Of {bounded} very long rows they are lower bounds." if bounded else ""
        said = f"Lengths before truncation; max_length is {cut}.{least}"
        told = page.paragraph(said, "note")
        sections.append(page.Section("By length", parts.pop() + told + note))
    if parts:
        sections.insert(0, page.Section("By column", Markup("").join(parts) + note))
    return sections


def _slices(title: str, slices: list[Slice], what: str, overall: float) -> Markup:
    def mark(part: Slice) -> str:
        return "clearly worse than over all" if part.worse else "" if part.enough else "too small"

    rows: list[list[page.Cell]] = [
        [s.name, s.rows, s.score, s.low, s.high, mark(s)] for s in slices
    ]
    told = f"{title}: {what} by value, with 95% intervals; over all rows {overall:.3f}"
    headings = [title, "rows", what, "from", "to", ""]
    return page.heading(title) + page.table(told, headings, rows)


def _row_values(judged: Judged) -> tuple[np.ndarray | None, str]:
    target, prediction, _ = judged.arrays
    if judged.table["prediction"].dtype.is_float():
        return np.abs(np.ravel(prediction) - np.ravel(target)), "mean absolute error"
    if np.shape(target) != np.shape(prediction):
        return None, ""
    right = target == prediction
    return (right if right.ndim == 1 else right.all(axis=1)).astype(np.float64), "accuracy"


def _list(name: str, listed: list[dict[str, Any]], data: dict[str, Any]) -> Markup:
    data[name] = listed
    return Markup('<ol class="rows" data-rows="{}"></ol>').format(name)


class _Describer:
    """Describes the rows of a table of predictions as the page lists them."""

    def __init__(self, judged: Judged) -> None:
        self.rows = judged.table["row"].to_list()
        self.targets = judged.table["target"].to_list()
        self.predictions = judged.table["prediction"].to_list()
        self.place: dict[int, int] = {}
        self.texts: list[pl.Series] = []
        self.others: list[pl.Series] = []
        if (frame := judged.frame) is not None:
            data = judged.config.data
            self.place = {row: i for i, row in enumerate(frame["row"].to_list())}
            self.texts = [frame[name] for name in data.text]
            self.others = [frame[name] for name in (*data.categorical, *data.numeric)]

    def __call__(self, i: int, confidence: float | None) -> dict[str, Any]:
        row = self.rows[i]
        place = self.place[row] if self.place else 0
        text = " / ".join(str(column[place]) for column in self.texts)
        others = " · ".join(f"{c.name}: {_shown(c[place])}" for c in self.others)
        return {
            "row": row,
            "target": str(self.targets[i]),
            "prediction": str(self.predictions[i]),
            "confidence": None if confidence is None else round(confidence, 4),
            "text": _shortened(text, TEXT),
            "columns": _shortened(others, COLUMNS),
        }


def _shown(cell: Any) -> str:
    return "missing" if cell is None else f"{cell:.6g}" if isinstance(cell, float) else str(cell)


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else text[:most].rstrip() + " ..."
