"""A look at a table as a page: a `Look` and what stands out in it in, HTML out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from foldwise.eda.duplicates import Group
from foldwise.eda.findings import Finding
from foldwise.eda.leaks import GIVES_AWAY
from foldwise.eda.look import Look
from foldwise.eda.tokens import Tokens
from foldwise.report import eda_charts, page
from foldwise.table.duplicates import Duplicates

MAKER = "foldwise eda"
_MISSING_COLUMNS = 6
_ROWS_NAMED = 6
_NAME_CHARS = 45


def eda_page(look: Look, findings: Sequence[Finding], combined: str, beside: str) -> str:
    """Build the page.

    Args:
        look: what was found.
        findings: what stands out.
        combined: the changes that go together, as one config; "" for none.
        beside: the config's file, beside which `combined` is to be saved.
    """
    config = look.rows.config
    total, used = look.rows.frame.height, look.rows.used.height
    rest = "" if used == total else f", of which a run would use {used:,}"
    subtitle = f"{config.data.path}: {total:,} rows{rest}. Target: {look.rows.target}."
    sections = [
        page.Section("What stands out", _findings(findings)),
        page.Section("To paste", _paste(findings, combined, beside)),
        page.Section("Columns", _columns(look)),
        page.Section("Target", _target(look)),
        page.Section("Input length", _tokens(look.tokens)),
        page.Section("Duplicates", _twins(look)),
        page.Section("Each column alone", _leaks(look)),
        page.Section("Empty cells", _missing(look)),
        page.Section("How to read this", _explained(look)),
    ]
    return page.render(f"A look at {config.run.name}", subtitle, sections, maker=MAKER)


def _findings(findings: Sequence[Finding]) -> Markup:
    if not findings:
        return page.paragraph("Nothing: none of the checks below found anything.", "lead")
    return Markup("").join(
        Markup('<p class="finding {}"><strong>{}.</strong> {}</p>').format(
            "warning" if finding.level == "warning" else "", finding.kind.capitalize(), finding.says
        )
        for finding in findings
    )


def _paste(findings: Sequence[Finding], combined: str, beside: str) -> Markup:
    changes = [change for finding in findings for change in finding.changes]
    if not changes:
        return page.paragraph("The config needs no change for what was found.")
    body = page.paragraph(
        "Each block goes into the config in place of the keys it names. A suggestion is a "
        "start, not a result: compare the runs."
    )
    for finding in findings:
        for change in finding.changes:
            kind = f"{finding.kind} (instead)" if change.instead else finding.kind
            body += page.heading(kind[0].upper() + kind[1:]) + page.code(change.yaml)
    if combined:
        told = f"Those that go together, as a config to be saved beside {beside}"
        body += page.heading(told) + page.code(combined)
    return body


def _columns(look: Look) -> Markup:
    total = look.rows.frame.height
    rows: list[list[page.Cell | Markup]] = [
        [
            column.name,
            column.role or "not used",
            Markup('<span class="short">{}</span>').format(column.guess.role),
            column.nulls,
            column.nulls / total,
            column.unique,
            " | ".join(column.examples),
        ]
        for column in look.columns
    ]
    headings = ["column", "in the config", "looks like", "empty", "share", "distinct", "examples"]
    caption = f"Every column of the table, over all {total:,} rows; the commonest values"
    return page.table(caption, headings, rows, wide=(6,))


def _target(look: Look) -> Markup:
    target, answers = look.target, look.answers
    name = look.rows.target
    if answers.is_number:
        names = ("lowest", "5%", "25%", "median", "75%", "95%", "highest")
        quantiles = dict(zip(names, (f"{q:,.4g}" for q in target.quantiles), strict=True))
        told = f"{name} over {len(answers):,} rows, in {len(target.histogram)} bins"
        return page.facts(quantiles) + page.chart(eda_charts.histogram(target, name), told)
    unit = "classes" if answers.ids is not None else "labels"
    body = page.facts(
        {
            unit: f"{len(target.classes):,}",
            "largest by smallest": f"{target.ratio:,.1f}",
            "share of the largest": f"{max(answers.sizes()) / len(answers):.1%}",
            f"rare for {look.rows.config.folds.n} folds": f"{len(target.rare):,}",
        }
    )
    shown = min(len(target.classes), eda_charts.MOST_CLASSES)
    most = "" if shown == len(target.classes) else f", the {shown} largest"
    body += page.chart(eda_charts.classes(target), f"Rows of each of the {unit}{most}")
    if target.cardinality:
        mean = sum(k * n for k, n in target.cardinality.items()) / len(answers)
        told = f"How many labels the rows have; {mean:.2f} on average"
        body += page.chart(eda_charts.cardinality(target), told)
    rare = {entry.label for entry in target.rare}
    rows: list[list[page.Cell | Markup]] = [
        [
            entry.label,
            entry.rows,
            entry.rows / len(answers),
            entry.groups,
            *(["fewer than folds" if entry.label in rare else ""] if rare else []),
        ]
        for entry in target.classes
    ]
    headings = [unit, "rows", "share", "groups", *(["rare"] if rare else [])]
    caption = "Rows, and groups of rows that stay in one fold (near-duplicates count once)"
    return body + _tall(page.table(caption, headings, rows, wide=(0,)), len(rows))


def _tokens(tokens: Tokens | None) -> Markup:
    if tokens is None:
        return page.paragraph("The config has no text column, so there is nothing to count.")
    counted = len(tokens.lengths)
    sample = f"a sample of {counted:,} of {tokens.rows:,} rows" if tokens.sampled else "all rows"
    body = page.paragraph(
        f"Counted with the tokenizer of {tokens.backbone} over {sample}: "
        f"{' + '.join(tokens.columns)}, separators and special tokens included."
        + (f" Of {tokens.bounded} very long rows only the beginning." if tokens.bounded else "")
    )
    rows = [
        [f"{mark}" + (" = text.max_length" if mark == tokens.max_length else ""), f"{share:.1%}"]
        for mark, share in tokens.cut_shares().items()
    ]
    body += page.table("Inputs that don't fit", ["tokens", "longer"], rows, sortable=False)
    marks = {"median": 0.5, "90%": 0.9, "95%": 0.95, "99%": 0.99, "longest": 1.0}
    lengths = {name: f"{np.quantile(tokens.lengths, q):,.0f}" for name, q in marks.items()}
    by_column = {f"median of {name}": f"{n:,.0f}" for name, n in tokens.by_column.items()}
    body += page.facts({**lengths, **(by_column if len(tokens.columns) > 1 else {})})
    does = {
        "truncate": "lose their end",
        "head_tail": "lose their middle",
        "chunks": "are read in overlapping chunks",
    }
    told = (
        f"Length of the inputs in tokens; those longer than {tokens.max_length} "
        f"{does[tokens.long]}. The last bar holds everything beyond."
    )
    return body + page.chart(eda_charts.lengths(tokens), told)


def _twins(look: Look) -> Markup:
    twins = look.twins
    if not look.rows.config.data.text:
        return page.paragraph("The config has no text column to compare rows by.")
    body = page.facts(
        {
            "identical texts": _grouped(twins.identical),
            "near-identical texts": _grouped(twins.near),
            "largest group": f"{twins.near.largest:,} rows",
            "groups that disagree": f"{twins.disagreeing:,}",
        }
    )
    if twins.examples:
        caption = f"The largest groups that disagree on {look.rows.target}"
        body += page.table(caption, *_groups(twins.examples), wide=(0, 1))
    if twins.largest:
        table = page.table("The largest groups", *_groups(twins.largest), wide=(0, 1))
        body += page.details("The largest groups", table)
    return body


def _grouped(found: Duplicates) -> str:
    return f"{found.rows_in_groups:,} rows in {found.n_groups_multi:,} groups"


def _groups(groups: Sequence[Group]) -> tuple[list[str], list[list[page.Cell | Markup]]]:
    rows: list[list[page.Cell | Markup]] = []
    for group in groups:
        some = list(group.answers.items())[:4]
        more = "" if len(group.answers) <= 4 else f", {len(group.answers) - 4} more"
        numbers = ", ".join(map(str, group.rows[:_ROWS_NAMED]))
        rows.append(
            [
                group.excerpt,
                "; ".join(f"{_short(name)} ({n})" for name, n in some) + more,
                len(group.rows),
                numbers + (", \u2026" if len(group.rows) > _ROWS_NAMED else ""),
            ]
        )
    return ["the first one's text", "answers", "rows", "row numbers"], rows


def _short(name: str) -> str:
    return name if len(name) <= _NAME_CHARS else name[: _NAME_CHARS - 1] + "\u2026"


def _leaks(look: Look) -> Markup:
    leaks = look.leaks
    if not leaks.baseline:
        return page.paragraph("There are too few different rows to cross-validate anything on.")
    names = list(leaks.baseline)
    rows: list[list[page.Cell | Markup]] = [
        [
            power.column,
            power.role or "not used",
            power.method,
            *(power.scores.get(name) for name in names),
            power.verdict or "",
        ]
        for power in leaks.powers
    ]
    answer = "the mean" if look.answers.is_number else "the most frequent answer"
    rows.append([f"({answer})", "", "baseline", *leaks.baseline.values(), ""])
    headings = ["column", "in the config", "method", *names, "verdict"]
    caption = f"What each column alone predicts, cross-validated over {leaks.rows:,} rows"
    body = page.table(caption, headings, rows)
    if any(power.scores for power in leaks.powers):
        told = "Scores of each column alone; dashed: the most frequent answer for every row"
        body = page.chart(eda_charts.powers(leaks), told) + body
    return body


def _missing(look: Look) -> Markup:
    if not look.missing:
        return page.paragraph("No column has both enough empty and enough filled cells to compare.")
    rows = [
        [
            entry.column,
            entry.role or "not used",
            f"{entry.share:.1%}",
            entry.method,
            entry.strength,
            "< 0.0001" if entry.p_value < 1e-4 else f"{entry.p_value:.2g}",
            "tells the target" if entry.tells else "",
        ]
        for entry in look.missing
    ]
    headings = ["column", "in the config", "empty", "method", "strength", "p", "verdict"]
    body = page.table("Whether empty cells go with the target", headings, rows)
    shown = [entry for entry in look.missing if entry.by_class][:_MISSING_COLUMNS]
    if shown:
        classes = list(shown[0].by_class)
        shares: list[list[page.Cell | Markup]] = [
            [name, *(entry.by_class[name] for entry in shown)] for name in classes
        ]
        caption = "Share of a class's rows in which the column is empty"
        headings = ["class", *(entry.column for entry in shown)]
        body += _tall(page.table(caption, headings, shares, wide=(0,)), len(classes))
    for entry in look.missing:
        if entry.means is not None:
            body += page.paragraph(
                f"{entry.column}: the mean of {look.rows.target} is {entry.means[0]:,.4g} where it "
                f"is empty, {entry.means[1]:,.4g} where it is filled.",
                "note",
            )
    return body


def _tall(table: Markup, rows: int) -> Markup:
    return Markup(table.replace('class="scroll"', 'class="scroll tall"', 1)) if rows > 20 else table


def _explained(look: Look) -> Markup:
    similarity = look.rows.config.folds.similarity
    return Markup("").join(
        page.paragraph(text)
        for text in (
            "Near-duplicates: rows whose sets of word 3-grams have a Jaccard similarity of at "
            f"least {similarity} (folds.similarity), by MinHash: the groups that folds are dealt "
            "by. A group disagrees when its rows have more than one answer (numbers: more than a "
            "standard deviation apart).",
            "Each column alone: three folds, near-duplicates together. Lookup: the most frequent "
            "answer (numbers: the mean) among the training rows with the same value. Tree: a "
            "decision tree of at most 64 leaves on a number or date. The better of the two is "
            "shown. A column gives the target away when a score covers at least "
            f"{GIVES_AWAY:.0%} of the way from the baseline's to 1.",
            "Empty cells: Cram\u00e9r's V between empty and the class, corrected for bias "
            "(Bergsma 2013); of labels the largest; of numbers the correlation ratio eta. It tells "
            "the target from 0.3 on, with p below 0.001.",
            "Cut texts: at least five different values, and 0.5% of the cells, have exactly the "
            "largest length, and the lengths just below have a fifth of that at most.",
        )
    )
