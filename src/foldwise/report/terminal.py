"""What a finished run prints: metrics.json in; the verdict and a table that fits 80 columns out.

Rows are estimates (mean over folds, pooled out-of-fold, holdout) of the run's answer, then of each
member; columns are metrics. The best of the rows that can be compared, all out-of-fold or all
holdout, is bold. More metrics than fit side by side continue in a block below.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from foldwise.config.rows import LABEL_OTHER
from foldwise.evaluation.words import duration, figure, in_the_table, short_name, signed
from foldwise.run.space import size

_METRICS_A_ROW = 4
_COLUMN_WIDTH = 15  # "[0.598, 0.626]", "precision_macro"; four and the row's name are 76 columns

Interval = dict[str, float | None]


def results(
    metrics_json: dict[str, Any], run_name: str, manifest: Mapping[str, Any] | None = None
) -> Group:
    """Build what a run prints when it is finished: the verdict in words, then the tables.

    Args:
        metrics_json: as `results_table` takes it; without `verdict` the table stands alone.
        run_name: the table's title.
        manifest: of the run, for what each member took; None leaves that out.
    """
    tables = [results_table(metrics_json, run_name)]
    if manifest is not None and len(metrics_json.get("answer", {}).get("weights", ())) > 1:
        tables.append(members_table(metrics_json, manifest))
    found = metrics_json.get("verdict")
    if found is None:
        return Group(*tables)
    return Group(Text(found["told"], style="bold"), Text(f"Next: {found['next']}\n"), *tables)


def members_table(metrics_json: Mapping[str, Any], manifest: Mapping[str, Any]) -> Table:
    """Build the table of what each member brings to the answer and what it costs."""
    metric = (metrics_json.get("verdict") or {}).get("metric", "score")
    table = Table(
        caption=f"adds: {metric} of the blend of all, less that of the blend without it. time: of "
        "all folds. size: of a fold's files.",
        caption_justify="left",
        box=None,
        padding=(0, 2, 0, 0),
        pad_edge=False,
    )
    table.add_column("member")
    for heading in ("weight", "adds", "time", "size"):
        table.add_column(heading, justify="right")
    for name, weight, added, seconds, took in member_rows(metrics_json, manifest):
        table.add_row(name, figure(weight), signed(added), duration(seconds), size(took))
    return table


def member_rows(
    metrics_json: Mapping[str, Any], manifest: Mapping[str, Any]
) -> list[tuple[str, float, float | None, float | None, int | None]]:
    """List each member of the answer: name, weight, what it adds, seconds and bytes."""
    answer, members = metrics_json["answer"], metrics_json["members"]
    took = {"model": sum(manifest["training_s"].values()), **manifest.get("members_s", {})}
    return [
        (
            short_name(name, members[name].get("columns", ())),
            weight,
            answer["adds"].get(name),
            took.get(name),
            members[name].get("bytes"),
        )
        for name, weight in answer["weights"].items()
    ]


def results_table(metrics_json: dict[str, Any], run_name: str) -> Table:
    """Build the table a run prints when it is finished.

    Args:
        metrics_json: the run's metrics.json, with {folds, mean, std, oof, holdout, baselines,
            selection, smaller_is_better}; a value that isn't defined is None or nan.
        run_name: the table's title.
    """
    smaller_is_better = metrics_json.get("smaller_is_better", [])
    names = list(metrics_json["mean"])
    rows = _interval_rows(metrics_json)
    table = Table(
        title=run_name,
        title_style="bold",
        caption=_caption(metrics_json),
        caption_justify="left",
        box=None,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_header=False,
    )
    table.add_column(overflow="fold")
    for _ in names[:_METRICS_A_ROW]:
        table.add_column(justify="right", max_width=_COLUMN_WIDTH, overflow="fold")
    for start in range(0, len(names), _METRICS_A_ROW):
        block = names[start : start + _METRICS_A_ROW]
        table.add_row("", *(_heading(name) for name in block))
        table.add_row(*_fold_row(metrics_json, block))
        for estimate, model, values in rows:
            rivals = [other for kind, _, other in rows if kind == estimate]
            cells = [
                _cell(values.get(name), _is_best(name, values, rivals, name in smaller_is_better))
                for name in block
            ]
            table.add_row(f"{model}\n{estimate}", *cells)
        table.add_row()
    return table


def interactive_console() -> Console | None:
    """Return where a person who types the calls sees progress; None in a script.

    A notebook gets plain lines, whatever its kernel says of terminals: a cell knows no cursor that
    goes up, and rich's own bars there need ipywidgets.
    """
    if not hasattr(sys, "ps1"):  # IPython and its kernels set it too
        return None
    terminal = False if Console().is_jupyter else None
    return Console(markup=False, emoji=False, force_jupyter=False, force_terminal=terminal)


def _interval_rows(metrics_json: dict[str, Any]) -> list[tuple[str, str, dict[str, Interval]]]:
    """List (estimate, model, {metric: interval}) in the order they are printed."""
    return [
        (estimate, model, scores[key])
        for model, scores in in_the_table(metrics_json).items()
        for estimate, key in (("out-of-fold", "oof"), ("holdout", "holdout"))
        if scores[key]
    ]


def _heading(name: str) -> Text:
    # "precision_weighted" is wider than its numbers: broken at its last underscore.
    stem, underscore, ending = name.rpartition("_")
    broken = stem and len(name) > _COLUMN_WIDTH
    return Text(f"{stem}{underscore}\n{ending}" if broken else name, style="bold")


def _fold_row(metrics_json: dict[str, Any], names: list[str]) -> list[str]:
    cells = [
        f"{figure(metrics_json['mean'][name])}\n± {figure(metrics_json['std'].get(name))}"
        for name in names
    ]
    return [f"{next(iter(in_the_table(metrics_json)))}\nmean ± std", *cells]


def _cell(interval: Interval | None, best: bool) -> Text:
    if interval is None:
        return Text("-")
    value, low, high = (figure(interval[key]) for key in ("value", "low", "high"))
    return Text.assemble((value, "bold" if best else ""), (f"\n[{low}, {high}]", "dim"))


def _is_best(
    name: str, values: dict[str, Interval], rivals: list[dict[str, Interval]], smaller: bool
) -> bool:
    """Say whether no rival's value is better; alone, or undefined, nothing is the best."""
    defined = [
        value
        for rival in rivals
        if (value := rival.get(name, {}).get("value")) is not None and math.isfinite(value)
    ]
    if len(defined) < 2:
        return False
    return values.get(name, {}).get("value") == (min(defined) if smaller else max(defined))


def _caption(metrics_json: dict[str, Any]) -> str:
    folds = len(metrics_json["folds"])
    sentences = [
        f"mean ± std: over {folds} fold{'s' if folds > 1 else ''}.",
        "out-of-fold: every row scored once, by what was not trained on it, all folds "
        "pooled; in brackets the 95% bootstrap interval over groups of near-duplicate rows.",
    ]
    if metrics_json["selection"] == "fold":
        sentences.append(
            "The model's fold and out-of-fold scores are optimistic: the scored rows picked the "
            "epoch (selection.rows: fold)."
        )
    if constant := metrics_json.get("constant_predictions"):
        several = len(constant) > 1
        value = next(iter(constant.values()))["prediction"]
        sentences.append(
            f"Warning: the model{'s' if several else ''} of fold{'s' if several else ''} "
            f"{', '.join(constant)} predict{'' if several else 's'} the same for nearly every row "
            f"({_shown(value)}): little was learnt; more steps (training.epochs: auto) or another "
            "optimizer.lr may help."
        )
    return " ".join(sentences)


def _shown(prediction: Any) -> str:
    if isinstance(prediction, float):
        return f"about {figure(prediction)}"
    return repr(prediction) if prediction else "no label"


def facts(counts: dict[str, Any]) -> list[str]:
    """Say in a few lines what a run found in its table before it trains.

    Args:
        counts: rows read, dropped and filled by reason, duplicates and folds; the run's
            manifest.json keeps them all.
    """
    dropped = {k.partition(":")[2]: n for k, n in counts.items() if k.startswith("dropped:")}
    filled = {k.partition(":")[2]: n for k, n in counts.items() if k.startswith("filled:")}
    rows = counts.get("rows", {})
    lines = [f"rows: {counts['rows_read']} read, {counts['rows_after_sampling']} used"]
    if dropped:
        lines.append("dropped: " + ", ".join(f"{n} without {role}" for role, n in dropped.items()))
    if filled:
        lines.append("empty cells: " + ", ".join(f"{n} in {name!r}" for name, n in filled.items()))
    others = [f"{rows[role]} {role}" for role in ("holdout", "train_only") if rows.get(role)]
    if counts.get("fold_sizes"):
        sizes = ", ".join(map(str, counts["fold_sizes"]))
        lines.append("; ".join([f"folds of {sizes} rows", *others]))
    if rare := counts.get("rows_of_rare_classes_dropped"):
        lines.append(f"rare classes: {rare} rows dropped (data.rare_classes)")
    if merged := counts.get("merged_classes"):
        named = ", ".join([*map(repr, merged[:5]), *(["..."] if len(merged) > 5 else [])])
        lines.append(f"rare classes: {len(merged)} merged into {LABEL_OTHER!r}: {named}")
    if counts.get("groups"):
        lines.append(
            f"kept together: {counts['rows_in_groups']} rows in {counts['groups']} "
            f"group{'s' if counts['groups'] > 1 else ''} (duplicate texts or equal groups), the "
            f"largest of {counts['largest_group']} rows"
        )
    if counts.get("groups_that_disagree_on_the_label"):
        lines.append(
            f"of these, {counts['groups_that_disagree_on_the_label']} disagree on the label"
        )
    if counts.get("group_larger_than_a_fold"):
        lines.append("warning: the largest group is larger than a fold; folds differ in size")
    if counts.get("groups_across_folds"):
        lines.append(f"warning: {counts['groups_across_folds']} groups lie in more than one fold")
    if twins := counts.get("training_rows_with_a_near_duplicate_in_the_holdout"):
        lines.append(f"warning: {twins} training rows have a near-duplicate in the holdout")
    if training := counts.get("training"):
        lines.append(f"{training['epochs']} epochs, {training['steps']} optimizer steps a fold")
        if 2 * training["steps"] < training["enough_steps"]:
            lines.append(
                f"warning: {training['steps']} steps are few: about {training['enough_steps']} are "
                "enough for most small tables; raise training.epochs or set it to auto, or lower "
                "training.batch_size"
            )
    lines += [f"note: {note}" for note in counts.get("notes", [])]
    return lines
