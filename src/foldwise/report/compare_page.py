"""The comparison of runs as a page: a `Comparison` in, HTML with the picture to choose by out."""

from __future__ import annotations

from typing import Any

import altair as alt
from markupsafe import Markup

from foldwise.evaluation.candidates import Candidate
from foldwise.evaluation.compare import Comparison
from foldwise.report import page
from foldwise.report.compare_terminal import (
    config_differences,
    config_pairs,
    cost_columns,
    interval,
    p_value,
)


def comparison_page(comparison: Comparison) -> str:
    """Build the page."""
    names = ", ".join(run.name for run in comparison.ranked)
    sections = [
        page.Section("Verdict", _verdict(comparison)),
        page.Section("Runs", _runs(comparison)),
        page.Section("Paired differences", _pairs(comparison)),
        page.Section("What differs in the configs", _configs(comparison)),
        page.Section("How to read this", _explained()),
    ]
    return page.render("Comparison of runs", names, sections)


def _verdict(comparison: Comparison) -> Markup:
    notes = Markup("").join(page.paragraph(note) for note in comparison.notes)
    return page.paragraph(comparison.verdict, "lead") + page.paragraph(comparison.told) + notes


def _runs(comparison: Comparison) -> Markup:
    name = comparison.metric.name
    costs = list(cost_columns(comparison.ranked[0]))
    rows = [
        [
            run.name,
            interval(run.scores["oof"], name),
            interval(run.scores["holdout"], name),
            *cost_columns(run).values(),
        ]
        for run in comparison.ranked
    ]
    headings = ["run", f"{name}, out of fold", "holdout", *costs]
    body = page.table("Scores with 95% intervals, and what they cost", headings, rows)
    held = [run for run in comparison.ranked if run.scores["holdout"]]
    if len(held) == len(comparison.ranked):
        return body + page.chart(_against_holdout(comparison), _told_holdout(name))
    told = f"Out-of-fold {name} of each run, with its 95% bootstrap interval"
    return body + page.chart(_scores_alone(comparison), told)


def _told_holdout(name: str) -> str:
    return (
        f"{name}: cross-validation against holdout, each with its 95% interval. On the dashed "
        "line both agree; a run far below it was chosen too well for the folds."
    )


def _points(comparison: Comparison) -> list[dict[str, Any]]:
    name = comparison.metric.name
    points = []
    for run in comparison.ranked:
        point: dict[str, Any] = {"run": run.name}
        for estimate in ("oof", "holdout"):
            scores = (run.scores[estimate] or {}).get(name, {})
            for key in ("value", "low", "high"):
                point[f"{estimate}_{key}"] = scores.get(key)
        points.append(point)
    return points


def _against_holdout(comparison: Comparison) -> alt.LayerChart:
    points = _points(comparison)
    ends = [
        value
        for point in points
        for key, value in point.items()
        if key != "run" and value is not None
    ]
    low, high = min(ends), max(ends)
    scale = alt.Scale(domain=[low, high], nice=True, zero=False)
    x = alt.X("oof_value:Q", title="cross-validated (out of fold)", scale=scale)
    y = alt.Y("holdout_value:Q", title="holdout", scale=scale)
    colour = alt.Color("run:N", sort=None, scale=alt.Scale(scheme="tableau10"))
    base = alt.Chart(alt.Data(values=points))
    across = base.mark_rule(strokeWidth=1.5).encode(
        x=alt.X("oof_low:Q", scale=scale, title=""), x2="oof_high:Q", y=y, color=colour
    )
    upwards = base.mark_rule(strokeWidth=1.5).encode(
        x=x, y=alt.Y("holdout_low:Q", scale=scale, title=""), y2="holdout_high:Q", color=colour
    )
    dots = base.mark_point(filled=True, size=110, opacity=1).encode(
        x=x, y=y, color=colour, tooltip=["run:N", "oof_value:Q", "holdout_value:Q"]
    )
    diagonal = (
        alt.Chart(alt.Data(values=[{"a": low}, {"a": high}]))
        .mark_line(strokeDash=[5, 4], strokeWidth=1, color="#888")
        .encode(x=alt.X("a:Q", title=""), y=alt.Y("a:Q", title=""))
    )
    return alt.layer(diagonal, across, upwards, dots).properties(height=380)


def _scores_alone(comparison: Comparison) -> alt.LayerChart:
    base = alt.Chart(alt.Data(values=_points(comparison)))
    y = alt.Y("run:N", sort=None, title=None)
    title = f"{comparison.metric.name}, out of fold"
    rule = base.mark_rule(strokeWidth=2, color="#0072B2").encode(
        x=alt.X("oof_low:Q", title=title, scale=alt.Scale(zero=False)), x2="oof_high:Q", y=y
    )
    dot = base.mark_point(filled=True, size=90, opacity=1, color="#0072B2").encode(
        x=alt.X("oof_value:Q", title=title), y=y, tooltip=["run:N", "oof_value:Q"]
    )
    return alt.layer(rule, dot).properties(height=34 * len(comparison.ranked))


def _pairs(comparison: Comparison) -> Markup:
    rows = [
        [
            pair.other,
            pair.folds.told,
            p_value(pair),
            pair.rows.told,
            "yes" if pair.clear else "no",
        ]
        for pair in comparison.pairs
    ]
    best = comparison.pairs[0].best
    headings = [f"{best} ahead of", "fold by fold", "p", "over all rows", "clear"]
    caption = f"How far {best} is ahead, better minus worse, with 95% intervals for all pairs"
    points = [
        {"other": pair.other, "ahead": value, "fold": number}
        for pair in comparison.pairs
        for number, value in enumerate(pair.by_fold, 1)
    ]
    zero = alt.Chart(alt.Data(values=[{"zero": 0}])).mark_rule(strokeDash=[5, 4]).encode(x="zero:Q")
    dots = (
        alt.Chart(alt.Data(values=points))
        .mark_point(filled=True, size=80, opacity=0.75, color="#0072B2")
        .encode(
            x=alt.X("ahead:Q", title=f"{comparison.metric.name}: {best} minus the other"),
            y=alt.Y("other:N", sort=None, title=None),
            tooltip=["other:N", "fold:Q", "ahead:Q"],
        )
    )
    told = f"Each dot is one fold: right of zero, {best} is better there"
    both = alt.layer(zero, dots).properties(height=40 * len(comparison.pairs))
    return page.table(caption, headings, rows) + page.chart(both, told)


def _configs(comparison: Comparison) -> Markup:
    return Markup("").join(_config(first, other) for first, other in config_pairs(comparison))


def _config(first: Candidate, second: Candidate) -> Markup:
    lines = config_differences(first, second)
    told = page.code("\n".join(lines)) if lines else page.paragraph("The configs are the same.")
    return page.heading(f"{first.name} -> {second.name}") + told


def _explained() -> Markup:
    return Markup("").join(
        page.paragraph(text)
        for text in (
            "Out of fold: every row is scored once, by the model that wasn't trained on it. The "
            "runs scored the same rows in the same folds, so they are compared pair by pair.",
            "Fold by fold: the mean difference of the folds' scores, with a t-test corrected for "
            "training sets that overlap (Nadeau and Bengio 2003). It sees that other training rows "
            "give other models; with three folds only a large difference is clear to it.",
            "Over all rows: the difference of the pooled scores, with a paired bootstrap that "
            "draws groups of near-duplicate rows 2,000 times. It sees that other rows would be "
            "scored differently, but not that training would come out differently.",
            "A winner needs both intervals above zero. With several runs the intervals are wider: "
            "all pairs' hold together with 95% (max-T), so the best may be picked by these scores.",
            "Runs of one config with different seeds count as one, with the mean of their scores; "
            "the variance between them is the noise of training, and is part of both intervals.",
        )
    )
