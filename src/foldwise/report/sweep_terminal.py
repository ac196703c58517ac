"""A sweep as the terminal shows it: outcomes or finished variants in, rich tables out."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from foldwise.run.seal import read_metrics
from foldwise.sweep.runner import Outcome, main_metric, scores_of
from foldwise.sweep.variants import Variant

_STYLES = {"failed": "red", "running": "bold", "finished": "green", "waiting": "dim"}


def outcomes_table(outcomes: Sequence[Outcome]) -> Table:
    """Build the live table: a line a variant."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    for outcome in outcomes:
        style = _STYLES.get(outcome.state, "")
        table.add_row(outcome.name, outcome.state, outcome.message, style=style)
    return table


def ranking_table(variants: Sequence[Variant]) -> Table:
    """Build the table of finished runs, best first."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    first = variants[0]
    name = main_metric(first, read_metrics(first.run))
    table.add_column("run", overflow="fold")
    table.add_column(f"{name}, out of fold", justify="right")
    for variant in variants:
        table.add_row(variant.name, scores_of(variant).partition(" ")[2])
    return table
