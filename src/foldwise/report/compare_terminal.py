"""The comparison of runs as the terminal shows it: a `Comparison` in, rich tables and lines out."""

from __future__ import annotations

import math
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from foldwise.config.load import diff_configs
from foldwise.evaluation.candidates import Candidate
from foldwise.evaluation.compare import Comparison, Pair
from foldwise.evaluation.words import duration
from foldwise.run.space import size


def comparison_tables(comparison: Comparison) -> list[RenderableType]:
    """Build what stands above the verdict: it in words, the runs, their configs, the tests."""
    told = Text(f"{comparison.told}\n", style="bold")
    parts: list[RenderableType] = [told, _runs(comparison), _costs(comparison)]
    for first, other in config_pairs(comparison):
        title = f"\n{first.name} -> {other.name}"
        lines = config_differences(first, other) or ["the configs are the same"]
        parts.append(Text.assemble((title, "bold"), "".join(f"\n  {line}" for line in lines)))
    parts.append(_pairs(comparison))
    parts.append(
        Text(
            "Ahead: by how much the best run leads, better minus worse. Folds: corrected resampled "
            "t-test (Nadeau and Bengio 2003). Rows: paired bootstrap over groups of near-duplicate "
            "out-of-fold rows. A winner needs both intervals above zero.",
            style="dim",
        )
    )
    parts += [Text(note) for note in comparison.notes]
    return parts


def config_pairs(comparison: Comparison) -> list[tuple[Candidate, Candidate]]:
    """Pair the best config's first run with every other run."""
    first = comparison.contenders[0].runs[0]
    return [(first, run) for run in comparison.ranked if run is not first]


def config_differences(first: Candidate, second: Candidate) -> list[str]:
    """List the keys in which two runs' configs differ, `key: first's -> second's`."""
    return diff_configs(first.config, second.config, ignore=("run.name", "run.dir", "code"))


def cost_columns(candidate: Candidate) -> dict[str, str]:
    """Return what a run took, for a table: a column's heading and the cell."""
    cost = candidate.cost
    return {
        "training": duration(cost.training_s),
        "parameters": _count(cost.parameters),
        "trained": _count(cost.trainable),
        "memory": size(cost.memory_bytes),
        "checkpoint": size(cost.checkpoint_bytes),
    }


def interval(scores: dict[str, Any] | None, name: str) -> str:
    """Return `0.612 [0.590, 0.640]`; a dash where there is no score."""
    if not scores or scores.get(name, {}).get("value") is None:
        return "-"
    entry = scores[name]
    return f"{_number(entry['value'])} [{_number(entry['low'])}, {_number(entry['high'])}]"


def p_value(pair: Pair) -> str:
    """Return the fold-wise test's p-value for all pairs; a dash where it isn't defined."""
    return "-" if math.isnan(pair.p_value) else f"{pair.p_value:.3f}"


def _runs(comparison: Comparison) -> Table:
    name = comparison.metric.name
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("run", overflow="fold")
    for heading in (f"{name},\nout of fold", "mean ± std", "holdout"):
        table.add_column(heading, justify="right")
    for run in comparison.ranked:
        spread = run.scores["std"].get(name)
        mean = _number(run.scores["mean"].get(name))
        table.add_row(
            run.name,
            interval(run.scores["oof"], name),
            mean if spread is None else f"{mean} ± {_number(spread)}",
            interval(run.scores["holdout"], name),
        )
    return table


def _costs(comparison: Comparison) -> Table:
    # Apart from the scores: side by side they are wider than 80 columns.
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("\nrun", overflow="fold")
    for heading in cost_columns(comparison.ranked[0]):
        table.add_column(f"\n{heading}", justify="right")
    for run in comparison.ranked:
        table.add_row(run.name, *cost_columns(run).values())
    return table


def _pairs(comparison: Comparison) -> Table:
    table = Table(box=None, pad_edge=False, padding=(1, 2, 0, 0), header_style="bold")
    table.add_column(f"{comparison.pairs[0].best} ahead of", overflow="fold")
    table.add_column("folds [95%]", justify="right")
    table.add_column("p", justify="right")
    table.add_column("rows [95%]", justify="right")
    for pair in comparison.pairs:
        table.add_row(pair.other, pair.folds.told, p_value(pair), pair.rows.told)
    return table


def _number(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "-"
    return f"{value:.3f}" if abs(value) < 1000 else f"{value:.4g}"


def _count(number: int | None) -> str:
    if number is None:
        return "-"
    for least, unit in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if number >= least:
            return f"{number / least:.1f}{unit}"
    return str(number)
