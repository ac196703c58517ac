"""The page of explained rows: each row's text with its words shaded, and bars beside it.

In: an `Explanation`, and what answered. Out: a page in the frame of all pages. Direction is shown
twice, by colour and by the line under a word, so that it survives a printer and colour blindness.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from markupsafe import Markup

from foldwise.evaluation.words import figure, metric_name, short_name, signed
from foldwise.explanation.explained import Explained, Explanation, words_by_class
from foldwise.explanation.gradients import NEAR
from foldwise.report import page
from foldwise.report.shaded import label, shaded, visible

_CLASSES = 60  # classes whose words are listed
_WORDS = 12  # words a class
_PROBABILITIES = 5  # classes shown of a row


def explanation_page(explanation: Explanation, run: str, who: str, notes: Sequence[str]) -> str:
    """Build the page.

    Args:
        explanation: of some rows.
        run: the run's name.
        who: answers, in words.
        notes: what was odd about the table.
    """
    sections = [page.Section("How to read this", _overview(explanation, who, notes))]
    if explanation.importances:
        sections.append(page.Section("Columns", _importances(explanation)))
    if words := _by_class(explanation):
        sections.append(page.Section("Words by class", words))
    rows = Markup("").join(_row(row) for row in explanation.rows)
    sections.append(page.Section("Rows", rows))
    subtitle = f"{len(explanation.rows)} explained; answered by {who}"
    return page.render(f"Why {run} answers so", subtitle, sections, charts=False)


def passed_in_words(explanation: Explanation) -> str:
    """Say how the check by removal came out, in a sentence."""
    tested = len(explanation.tested)
    if not tested:
        return "no row has words enough to check by removing them"
    passed = sum(test.passed for test in explanation.tested)
    # A row of a set of labels has an explanation for each of them.
    several = len({row.row for row in explanation.rows}) < len(explanation.rows)
    what = "labels of rows" if several else "rows"
    return (
        f"in {passed} of {tested} checked {what} ({100 * passed / tested:.0f}%) removing the named "
        "words moves the answer more than removing random ones"
    )


def _overview(explanation: Explanation, who: str, notes: Sequence[str]) -> Markup:
    number = any(row.of is None for row in explanation.rows)
    raises, lowers = ("raises the number", "lowers it") if number else ("speaks for", "against")
    legend = Markup(
        '<p class="legend"><mark class="for" style="--a:.85">word</mark> {} '
        '<mark class="against" style="--a:.85">word</mark> {} '
        '<mark class="for named" style="--a:.85">word</mark> named as what drove it '
        '<span class="unread">word</span> beyond what the fine-tuned model reads</p>'
    ).format(raises + " the answer" * (not number), lowers)
    told = passed_in_words(explanation)
    body = page.paragraph(f"{told[0].upper()}{told[1:]}.", "lead") + legend
    body += page.paragraph(
        "The stronger the shade, the more a word adds to the answer's margin over the other "
        "classes; shades are relative to the strongest word of the row. The fine-tuned model's "
        "part is found by integrated gradients, that of the other members by leaving the word "
        "out; each counts by its weight over the temperature."
        if not number
        else "The stronger the shade, the more a word moves the number, relative to the strongest "
        "word of the row."
    )
    body += page.paragraph(
        "This says what the answer hangs on. It doesn't say that the answer is right, or that a "
        "word is the cause of anything outside this model. Words that only count together, and "
        "columns that say the same, share the credit or hide each other.",
        "note",
    )
    untested = len(explanation.rows) - len(explanation.tested)
    paths = [path for row in explanation.rows for path in row.credit.paths]
    facts: dict[str, object] = {"answered by": who, "rows that can't be checked": untested}
    if explanation.shades_passed is not None:
        facts["rows in which the strongest shades alone pass"] = f"{explanation.shades_passed:.0%}"
    if paths:
        misses = len(explanation.misses)
        facts["steps of a path of gradients"] = (
            f"{min(path.steps for path in paths)} to {max(path.steps for path in paths)}"
        )
        facts[f"paths whose sum is off by more than {NEAR:.0%}"] = f"{misses} of {len(paths)}"
    body += page.facts(facts)
    if skipped := sum(row.credit.skipped for row in explanation.rows):
        body += page.paragraph(
            f"{skipped:,} more words of long texts weren't left out one by one: in the members "
            "without gradients they count for nothing here.",
            "note",
        )
    for note in notes:
        body += page.paragraph(visible(note), "warning")
    return body


def _importances(explanation: Explanation) -> Markup:
    metric = metric_name(explanation.metric or "")
    largest = max(max(abs(i.lost) for i in explanation.importances), 1e-12)
    bars = Markup("").join(
        _bar(i.column, i.lost / largest, signed(i.lost), f"{figure(i.low)} to {figure(i.high)}")
        for i in explanation.importances
    )
    return (
        page.paragraph(
            f"What the answer's {metric} on {explanation.labelled} labelled rows loses when a "
            "column's cells are shuffled among them: the more, the more the answer hangs on it."
        )
        + Markup('<div class="bars wide">{}</div>').format(bars)
        + page.paragraph("On rows that the models were trained on, this flatters.", "note")
    )


def _by_class(explanation: Explanation) -> Markup:
    found = words_by_class(explanation.rows, _WORDS)
    answered = Counter(row.of for row in explanation.rows)
    order = sorted((name for name in found if found[name]), key=lambda name: -answered[name])
    rows = [
        (
            "the number" if name is None else visible(name),
            answered[name],
            ", ".join(f"{visible(word.word)} ({signed(word.sum)})" for word in found[name]),
        )
        for name in order[:_CLASSES]
    ]
    if not rows:
        return Markup("")
    return page.table(
        "What words add to the margins of the explained rows, summed, by what is answered",
        ["answer", "rows", "words that add most"],
        rows,
        wide={2},
    )


def _row(row: Explained) -> Markup:
    texts = Markup("").join(_cell(row, column, text) for column, text in row.texts.items())
    beside = _probabilities(row) + _members(row) + _columns(row)
    return Markup(
        '<article class="explained"><h3>Row {}: {}</h3><p class="note">{}</p>'
        '<div class="why"><div class="texts">{}{}</div><div class="beside">{}</div></div></article>'
    ).format(
        row.row,
        label(row.value) if row.of is None else visible(str(row.prediction)) or "no label",
        _of(row),
        texts,
        page.paragraph(_removal(row), "note"),
        beside,
    )


def _of(row: Explained) -> str:
    told = [f"probability {figure(row.value)}" if row.of is not None else ""]
    if row.of is not None and row.of != row.prediction:
        told = [f"explained is {visible(row.of)}, probability {figure(row.value)}"]
    if row.target is not None:
        same = row.target == row.prediction
        told.append("as the table says" if same else f"the table says {visible(str(row.target))}")
    return "; ".join(filter(None, told))


def _value(row: Explained, value: float) -> str:
    return label(value) if row.of is None else figure(value)


def _cell(row: Explained, column: str, text: str | None) -> Markup:
    body = Markup('<span class="note">empty</span>')
    if text is not None:
        body = shaded(column, text, row.credit, row.removal.words if row.removal else ())
    return Markup(
        '<div class="cell"><span class="note">{}</span><div class="text" dir="auto">{}</div></div>'
    ).format(visible(column), body)


def _removal(row: Explained) -> str:
    if row.removal is None:
        return "Can't be checked: too few words, or none that speaks for the answer."
    words, named = row.removal.words, row.removal.named
    told = f"Named: {', '.join(visible(word) for word in words)}. Without them the answer "
    if row.of is None:
        told += f"moves by {label(named)}, without random words by {label(row.removal.random)}"
        told += f", without any by {label(row.removal.every)}."
    else:
        told += f"goes from {figure(row.value)} to {figure(row.value - named)}, without random "
        told += f"words to {figure(row.value - row.removal.random)}, "
        told += f"without any to {figure(row.value - row.removal.every)}."
    if row.by_columns:
        told += " A column moves it more than twice as much as all words together."
    return told


def _probabilities(row: Explained) -> Markup:
    if not row.probabilities:
        return Markup("")
    order = sorted(row.probabilities.items(), key=lambda item: -item[1])[:_PROBABILITIES]
    bars = Markup("").join(
        Markup(
            '<div class="bar"><span class="name">{}</span><span class="track plain">'
            '<span class="fill{}" style="left:0;width:{:.1f}%"></span></span>'
            '<span class="value">{}</span></div>'
        ).format(visible(name), " for" if name == row.of else "", 100 * value, figure(value))
        for name, value in order
    )
    return _titled("Probabilities", bars)


def _members(row: Explained) -> Markup:
    largest = max((abs(share.margin) for share in row.members), default=0.0) or 1.0
    bars = Markup("").join(
        _bar(
            short_name(share.member),
            share.margin / largest,
            signed(share.margin),
            f"counts {share.weight:.2f} times, by itself {_value(row, share.value)}",
        )
        for share in row.members
    )
    return _titled("Members: what each adds to the answer's margin", bars)


def _columns(row: Explained) -> Markup:
    largest = max((abs(effect.effect) for effect in row.columns), default=0.0) or 1.0
    bars = Markup("").join(
        _bar(
            visible(effect.column),
            effect.effect / largest,
            signed(effect.effect),
            ""
            if effect.column in row.texts and len(str(effect.cell)) > 60
            else "empty"
            if effect.cell is None
            else visible(str(effect.cell)[:60]),
        )
        for effect in row.columns
    )
    return _titled("Columns: the answer, less that with other rows' cells", bars)


def _titled(title: str, bars: Markup) -> Markup:
    return Markup('<div class="bars"><h4>{}</h4>{}</div>').format(title, bars)


def _bar(name: str, share: float, value: str, under: str) -> Markup:
    # From the middle: to the right what speaks for the answer, to the left what speaks against.
    width = 50 * min(abs(share), 1.0)
    left, kind = (50.0, "for") if share >= 0 else (50 - width, "against")
    return Markup(
        '<div class="bar"><span class="name">{}<small>{}</small></span><span class="track">'
        '<span class="fill {}" style="left:{:.1f}%;width:{:.1f}%"></span></span>'
        '<span class="value">{}</span></div>'
    ).format(name, under, kind, left, width, value)
