"""A run's report: the files a finished run left in, and its rows where they are at hand; HTML out.

It is drawn from what validation wrote, never from a model in memory, and can be drawn again at any
time. Rows are shown with their text where the table still is what the run was made from; without
it the report has everything else and says so.
"""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from foldwise.config.load import dump_config
from foldwise.evaluation.bootstrap import MOST, resamples_of
from foldwise.evaluation.words import duration, in_the_table, signed
from foldwise.preparation.ownership import told_changes
from foldwise.report import linear_words, one_model, page, run_charts, run_rows
from foldwise.report.source import Source
from foldwise.report.target_sections import target_sections
from foldwise.report.terminal import facts, member_rows
from foldwise.run.contents import Manifest, Training
from foldwise.run.history import read_history
from foldwise.run.readers import read_json
from foldwise.run.seal import read_metrics
from foldwise.run.space import size
from foldwise.tasks.predictions import read_predictions


def write_report(source: Source) -> None:
    """Draw a finished run's report.html, whole or not at all."""
    page.write_page(source.run.report, build_report(source))


def build_report(source: Source) -> str:
    """Build the page."""
    metrics = read_metrics(source.run)
    scored = read_predictions(source.run.out_of_fold, source.task)
    judged = source.judged(scored)
    data: dict[str, Any] = {}
    sections = [
        page.Section("Summary", _summary(source, metrics)),
        page.Section("Learning curves", _curves(source, metrics)),
        *one_model.section(source.run),
        *target_sections(judged, data, metrics),
        *linear_words.sections(source, scored, metrics),
        *run_rows.slice_sections(judged),
        page.Section("Data", _data(source)),
        page.Section("Folds", _folds(source, metrics)),
        page.Section("Config", page.code(dump_config(source.config))),
        page.Section("Environment", _environment(source)),
    ]
    script = page.script("run_report.js")
    manifest = read_json(source.run.manifest, Manifest)
    subtitle = f"{source.config.task}, {scored.height:,} rows scored"
    if finished := manifest.get("finished"):
        subtitle += f", finished {finished}"
    return page.render(source.config.run.name, subtitle, sections, script, data)


def _summary(source: Source, metrics: dict[str, Any]) -> Markup:
    names = list(metrics["mean"])
    models = in_the_table(metrics)
    parts = [*_verdict(metrics), *_members(metrics, models), *_shares(source, metrics)]
    for estimate, told in (("oof", "out of fold"), ("holdout", "on the holdout")):
        if not metrics[estimate]:
            continue
        rows = [
            [model, *(interval(entry[estimate][name]) for name in names)]
            for model, entry in models.items()
            if entry[estimate]
        ]
        caption = f"Scores {told}, with 95% bootstrap intervals over groups of near-duplicates"
        if (drawn := resamples_of(metrics.get("rows", {}).get(estimate, 0))) < MOST:
            caption += f", by {drawn} resamples: fewer than {MOST:,}, as there are so many rows"
        parts.append(page.table(caption, ["", *names], rows, sortable=False))
    spread = metrics["std"]
    folds = [[f"fold {fold}", *scores.values()] for fold, scores in metrics["folds"].items()]
    folds.append(["mean", *metrics["mean"].values()])
    folds.append(["standard deviation", *(spread[name] for name in names)])
    parts.append(page.table("Scores of each fold", ["", *names], folds, sortable=False))
    if metrics.get("selection") == "fold":
        told = "These scores are optimistic: the scored rows picked the epoch."
        parts.append(page.paragraph(told, "warning"))
    parts += [page.paragraph(line, "warning") for line in told_changes(source.run.events())]
    if source.frame is None:
        parts.append(page.paragraph(f"Rows are shown without their text: {source.why}", "warning"))
    return Markup("").join(parts)


def _verdict(metrics: dict[str, Any]) -> list[Markup]:
    found = metrics.get("verdict")
    if found is None:
        return []
    return [page.paragraph(found["told"], "lead"), page.paragraph(f"Next: {found['next']}")]


def _members(metrics: dict[str, Any], models: dict[str, Any]) -> list[Markup]:
    """Draw the answer beside the members, where there are any, on what the verdict judges by."""
    name = (metrics.get("verdict") or {}).get("metric") or next(iter(metrics["mean"]))
    points = [
        {"model": model, "estimate": told, **entry[estimate][name]}
        for model, entry in models.items()
        for estimate, told in (("oof", "out of fold"), ("holdout", "holdout"))
        if entry[estimate] and entry[estimate][name]["value"] is not None
    ]
    if len({point["model"] for point in points}) < 2:
        return []
    smaller = name in metrics.get("smaller_is_better", [])
    told = f"{name} of the answer and each member, with 95% intervals; further " + (
        "left is better" if smaller else "right is better"
    )
    return [page.chart(run_charts.members(points, name), told)]


def _shares(source: Source, metrics: dict[str, Any]) -> list[Markup]:
    """Tabulate what each member brings to the answer, and what it costs."""
    if len(metrics.get("answer", {}).get("weights", ())) < 2:
        return []
    manifest = read_json(source.run.manifest, Manifest)
    rows: list[list[page.Cell]] = [
        [name, weight, signed(added), duration(seconds), size(took)]
        for name, weight, added, seconds, took in member_rows(metrics, manifest)
    ]
    caption = (
        "What each member brings to the answer: its weight, and the score of the blend of all less "
        "that of the blend without it; its time in all folds, and the size of a fold's files"
    )
    headings = ["member", "weight", "adds", "time", "size"]
    return [page.table(caption, headings, rows, sortable=False)]


def _curves(source: Source, metrics: dict[str, Any]) -> Markup:
    histories = {
        int(number): [
            {**line, "split": "training" if line["split"] == "step" else line["split"]}
            for line in _evaluations(read_history(source.run.fold(int(number)).history))
        ]
        for number in metrics["folds"]
    }
    parts = []
    for name in dict.fromkeys(["loss", source.config.selection.metric, *metrics["mean"]]):
        spec = run_charts.learning_curves(histories, name)
        if spec is not None:
            told = f"{name} of all folds: thin lines are folds, thick ones their mean"
            parts.append(page.chart(spec, told))
    folded = parts[2:]
    if folded:
        parts = [*parts[:2], page.details("The other metrics", Markup("").join(folded))]
    return Markup("").join(parts)


def _evaluations(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    # Without rows that pick the epoch there are only running losses.
    return [line for line in history if line["split"] != "step"] or history


def _data(source: Source) -> Markup:
    manifest = read_json(source.run.manifest, Manifest)
    data = source.config.data
    counts = manifest.get("counts", {})
    lines = facts(counts) if "rows_read" in counts else []
    values = {
        "table": data.path or f"rows of task {source.config.task}",
        "target": data.target or "-",
        "text": ", ".join(data.text) or "-",
        "categorical": ", ".join(data.categorical) or "-",
        "numeric": ", ".join(data.numeric) or "-",
        "sha256 of the table": manifest["data_sha256"],
    }
    return page.facts(values) + Markup("").join(page.paragraph(line) for line in lines)


def _folds(source: Source, metrics: dict[str, Any]) -> Markup:
    rows = source.assignment
    table = []
    for number in map(int, metrics["folds"]):
        trained = source.run.fold(number).trained
        ended = read_json(trained, Training) if trained.exists() else {}
        table.append(
            [
                f"fold {number}",
                len(rows.training(number)),
                len(rows.inner(number)),
                len(rows.scored(number)),
                ended.get("steps"),
                ended.get("best_step"),
                ended.get("elapsed_s"),
            ]
        )
    headings = ["", "training rows", "picking the epoch", "scored", "steps", "best step", "seconds"]
    folds = source.config.folds
    values = {
        "strategy": folds.strategy.name,
        "duplicates": folds.duplicates,
        "similarity": str(folds.similarity),
        "group": folds.group or "-",
        "seed": str(folds.seed),
    }
    return page.table("Rows and training of each fold", headings, table, sortable=False) + (
        page.facts(values)
    )


def _environment(source: Source) -> Markup:
    manifest = read_json(source.run.manifest, Manifest)
    values = {**manifest.get("machine", {}), "git commit": manifest.get("git_commit")}
    versions = manifest.get("versions", {})
    return page.facts({k: "-" if v is None else str(v) for k, v in values.items()}) + page.table(
        "Versions", ["package", "version"], [[k, str(v)] for k, v in versions.items()]
    )


def interval(entry: dict[str, float | None]) -> Markup:
    """Return `0.612 [0.590, 0.640]`, broken before the bracket alone; a dash where undefined."""
    if entry["value"] is None:
        return Markup("-")
    value, low, high = (
        "-" if entry[key] is None else page.number(float(entry[key] or 0))
        for key in ("value", "low", "high")
    )
    return Markup('{} <span class="short">[{}, {}]</span>').format(value, low, high)
