"""Whether new rows have drifted, as a page: a `Drift` in, HTML out."""

from __future__ import annotations

import math
from typing import Any

from markupsafe import Markup

from foldwise.charts.learning_curves import COLOURS
from foldwise.drift.classifier import Apart
from foldwise.drift.look import MATTERS, Drift, is_clear
from foldwise.drift.measures import Check
from foldwise.drift.words import headline, label_of, remarks, title_of, verdict, what_differs
from foldwise.report import page
from foldwise.report.run_charts import SCHEMA

MAKER = "foldwise drift"
_TRAINING, _NEW = COLOURS["training"], COLOURS["validation"]
_MOST_BARS = 25


def drift_page(drift: Drift, run: str, table: str) -> str:
    """Build the page.

    Args:
        drift: what was found.
        run: its name.
        table: where the new rows come from.
    """
    sections = [page.Section("Summary", _summary(drift))]
    answers = [check for check in drift.checks if check.kind in ("classes", "predictions")]
    answers += [check for check in drift.checks if check.kind == "confidence"]
    if answers:
        sections.append(page.Section("Predictions", _each(answers)))
    telling = any(check.kind == "classifier" for check in drift.clear)
    if drift.apart is not None:
        sections.append(page.Section("What gives new rows away", _apart(drift.apart, telling)))
    of_columns = [check for check in drift.checks if check.column is not None]
    for name in sorted({str(check.column) for check in of_columns}):
        checks = [check for check in of_columns if check.column == name]
        sections.append(page.Section(f"Column {name}", _each(checks)))
    if rest := [check for check in drift.checks if check.kind in ("length", "tokens", "dropped")]:
        sections.append(page.Section("Rows as a whole", _each(rest)))
    sections.append(page.Section("How to read this", _explained()))
    subtitle = f"{table}: {drift.sides.rows:,} rows, against those that {run} was made from"
    return page.render(f"Drift of {run}", subtitle, sections, maker=MAKER)


def _summary(drift: Drift) -> Markup:
    parts = [page.paragraph(headline(drift), "lead")]
    parts += [page.paragraph(_sentence_case(line) + ".", "note") for line in remarks(drift)]
    sides = drift.sides
    facts = {"new rows": f"{sides.rows:,}", "compared": f"{sides.new.height:,}"}
    if sides.training is not None:
        facts |= {
            "training rows": f"{sides.training_rows:,}",
            "compared with": f"{sides.training.height:,}",
        }
    parts.append(page.facts(facts))
    if drift.tested:
        told = (
            "Size of each difference: the share of rows, at least, that differ. Dashed: from where "
            "a clear one counts as drift"
        )
        parts.append(page.chart(_sizes(drift), told))
    rows: list[list[page.Cell | Markup]] = [
        [title_of(c), _short(verdict(c)), c.size, _short(_p(c.adjusted)), what_differs(c)]
        for c in drift.checks
    ]
    headings = ["compared", "differs", "size", "p of all", "what"]
    caption = "Every comparison, clear and large differences first"
    parts.append(page.table(caption, headings, rows, wide=(0, 4)))
    return Markup("").join(parts)


def _sizes(drift: Drift) -> dict[str, Any]:
    shown = drift.tested[:_MOST_BARS]
    values = [
        {
            "check": label_of(check),
            "size": check.size,
            "differs": "clearly" if is_clear(check) else "may be chance",
        }
        for check in shown
    ]
    colours = {"domain": ["clearly", "may be chance"], "range": [_NEW, "#999999"]}
    y = {"field": "check", "type": "nominal", "sort": None, "title": None}
    x = {"type": "quantitative", "title": "share of rows that differ", "axis": {"format": "%"}}
    bars = {
        "data": {"values": values},
        "mark": {"type": "bar"},
        "encoding": {
            "y": {**y, "axis": {"labelLimit": 170}},
            "x": {"field": "size", **x},
            "color": {"field": "differs", "type": "nominal", "scale": colours},
            "tooltip": [{"field": "check"}, {"field": "size", "format": ".1%"}],
        },
    }
    rule = {
        "data": {"values": [{"from": MATTERS}]},
        "mark": {"type": "rule", "strokeDash": [5, 4], "color": "#888"},
        "encoding": {"x": {"field": "from", **x}},
    }
    return {"$schema": SCHEMA, "layer": [bars, rule], "height": max(60, 20 * len(values))}


def _each(checks: list[Check]) -> Markup:
    body = Markup("")
    for check in checks:
        body += page.heading(_sentence_case(title_of(check)))
        body += page.paragraph(f"{_sentence_case(verdict(check))}: {what_differs(check)}.")
        if check.percent and len(check.parts) > 2 and math.isfinite(check.p):
            body += page.chart(_shares(check), f"{_sentence_case(title_of(check))}: share of rows")
        if len(check.parts) > 1:
            rows: list[list[page.Cell | Markup]] = [
                [part.name, _shown(check, part.training, i), _shown(check, part.new, i)]
                for i, part in enumerate(check.parts)
            ]
            told = f"{_sentence_case(title_of(check))}, what differs most first"
            body += page.table(told, ["", "training rows", "new rows"], rows, wide=(0,))
    return body


def _shown(check: Check, value: float, place: int) -> str:
    if math.isnan(value):
        return "-"
    share = check.percent or (check.kind == "length" and place == len(check.parts) - 1)
    return f"{value:.1%}" if share or check.kind == "words" else f"{value:,.4g}"


def _shares(check: Check) -> dict[str, Any]:
    values = [
        {"value": part.name, "rows": rows, "share": share}
        for part in check.parts
        for rows, share in (("training", part.training), ("new", part.new))
    ]
    colours = {"domain": ["training", "new"], "range": [_TRAINING, _NEW]}
    return {
        "$schema": SCHEMA,
        "data": {"values": values},
        "mark": {"type": "bar"},
        "height": 30 * len(check.parts),
        "encoding": {
            "y": {
                "field": "value",
                "type": "nominal",
                "sort": None,
                "title": None,
                "axis": {"labelLimit": 170},
            },
            "yOffset": {"field": "rows", "sort": ["training", "new"]},
            "x": {
                "field": "share",
                "type": "quantitative",
                "title": "share of rows",
                "axis": {"format": "%"},
            },
            "color": {"field": "rows", "type": "nominal", "scale": colours, "title": "rows"},
            "tooltip": [{"field": f} for f in ("value", "rows")]
            + [{"field": "share", "format": ".1%"}],
        },
    }


def _apart(apart: Apart, telling: bool) -> Markup:
    body = page.paragraph(
        f"Shown a new row and a training row it wasn't fitted on, {apart.kind} says which is which "
        f"in {apart.auc:.0%} of pairs (AUC {apart.auc:.3f}, 95% interval {apart.low:.3f} to "
        f"{apart.high:.3f}); chance is 50%. Of {apart.rows[0]:,} training rows and "
        f"{apart.rows[1]:,} new ones half were to fit it on, and half to try it on."
    )
    if not telling:
        return body + page.paragraph("That is no more than chance: nothing gives them away.")
    if apart.by_column:
        rows: list[list[page.Cell | Markup]] = [
            [name, f"{share:.0%}"] for name, share in apart.by_column.items()
        ]
        body += page.table("What it goes by, column by column", ["column", "part"], rows)
    if apart.by_value:
        told: list[list[page.Cell | Markup]] = [
            [part.name, f"{part.training:.1%}", f"{part.new:.1%}"] for part in apart.by_value
        ]
        caption = "Words, word pairs and values that it goes by, the most telling first"
        body += page.table(caption, ["", "training rows", "new rows"], told, wide=(0,))
    return body


def _explained() -> Markup:
    return Markup("").join(
        page.paragraph(text)
        for text in (
            "Size: the share of rows, at least, that would have to be others for the two tables to "
            "be alike; what two samples of one source differ by on average is taken off. Of values "
            "it is the total variation distance, of numbers the largest distance of the cumulative "
            "shares (Kolmogorov and Smirnov), of the classifier twice its AUC minus one. From 5% "
            "on it is small, from 10% moderate, from 25% large.",
            "Differs: clear is what can't be chance, over all comparisons together (Holm 1979): of "
            "tables that come from where the training rows come from at most one in twenty has any "
            f"such mark. A clear difference counts as drift from {MATTERS:.0%} of the rows on.",
            "Rows: near-duplicates count once, and those with rows in both tables are left out. "
            "Each new row is answered by one fold, as the training rows were out of fold.",
            "Words and values of no training row: what a training row has alone counts as much "
            "there, so the two shares can be compared.",
            "Drift is no loss of quality by itself: rows of another mix can be answered as well as "
            "ever, and wrong answers needn't look odd. With labels for some of these rows, "
            "foldwise evaluate says what became of the score.",
        )
    )


def _short(text: str) -> Markup:
    return Markup('<span class="short">{}</span>').format(text)


def _p(p: float) -> str:
    return "-" if p != p else "< 0.0001" if p < 1e-4 else f"{p:.2g}"


def _sentence_case(text: str) -> str:
    return text[:1].upper() + text[1:]
