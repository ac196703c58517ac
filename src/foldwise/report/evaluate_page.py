"""Scores on new rows as a page: an `Evaluation` and the rows in, HTML out."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from foldwise.evaluation.new_rows import Evaluation
from foldwise.report import page, run_rows
from foldwise.report.run_report import interval
from foldwise.report.source import Judged
from foldwise.report.target_sections import target_sections

MAKER = "foldwise evaluate"


def evaluate_page(found: Evaluation, judged: Judged, table: str, answered: str) -> str:
    """Build the page.

    Args:
        found: scores, and what was promised.
        judged: the rows.
        table: where they come from.
        answered: by whom, in words.
    """
    data: dict[str, Any] = {}
    sections = [
        page.Section("Summary", _summary(found)),
        *target_sections(judged, data),
        *run_rows.slice_sections(judged),
        page.Section("How to read this", _explained(found)),
    ]
    title = f"{judged.config.run.name} on new rows"
    subtitle = f"{table}: {found.rows:,} labelled rows, answered by {answered}"
    return page.render(title, subtitle, sections, page.script("run_report.js"), data, MAKER)


def _summary(found: Evaluation) -> Markup:
    promise = found.promise
    outside = promise is not None and promise.defined and promise.where != "inside"
    parts = [page.paragraph(found.told, "lead")]
    if outside:
        told = "To see in what these rows differ: foldwise drift, with the same run and table."
        parts.append(page.paragraph(told))
    parts += [page.paragraph(note, "warning") for note in found.notes]
    promised = {each.metric: each for each in found.promises}
    rows: list[list[page.Cell | Markup]] = []
    for name, entry in found.scores.items():
        row: list[page.Cell | Markup] = [name, interval(dict(entry))]
        if (each := promised.get(name)) is not None:
            row += [each.estimate, _ends(each.low, each.high)]
            row.append(each.where if each.defined else "-")
        rows.append(row)
    headings = ["metric", "new rows"]
    if promised:
        headings += ["out of fold", "promised", "lies"]
    caption = "Scores with 95% intervals over groups of near-duplicates" + (
        ", and where 95% of such tables were promised to lie" if promised else ""
    )
    parts.append(page.table(caption, headings, rows, sortable=False))
    return Markup("").join(parts)


def _ends(low: float, high: float) -> Markup:
    return Markup('<span class="short">{} to {}</span>').format(page.number(low), page.number(high))


def _explained(found: Evaluation) -> Markup:
    texts = [
        "The interval beside a score says how far it would move on other rows like the new ones. "
        "The promised one says where the score of a table of this size, and with as many "
        "near-duplicates, was to lie in 95 of 100 cases if its rows came from where the run's own "
        "came from: it has both the luck of the new rows and that of the estimate in it.",
        "The estimate is of single folds' answers; new rows get the mean of all folds', which is "
        "usually a little better. A score somewhat above the middle is no surprise.",
    ]
    if any(each.by_shares is not None for each in found.promises):
        texts.append(
            "Class shares: out-of-fold rows drawn with the new table's shares of classes show what "
            "those alone do to the score. What is left is harder or easier rows of the same class."
        )
    return Markup("").join(page.paragraph(text) for text in texts)
