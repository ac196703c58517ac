"""Where runs stand, and what of them can go, as the terminal shows it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from rich.table import Table

from foldwise.run.space import size
from foldwise.upkeep.standing import FoldStanding, Standing
from foldwise.upkeep.waste import Waste

_STYLES = {"failed": "red", "running": "bold", "done": "green", "waiting": "dim"}


def standings_table(stood: Sequence[Standing]) -> Table:
    """Build the table of several runs, a line a run."""
    table = _table("run", "state", "fold", "step", "done", "left")
    for standing in stood:
        at = standing.at
        fold = "" if at is None else f"{at.number} of {len(standing.folds)}"
        row = [standing.path, standing.state, fold, _step(at), f"{standing.share:.0%}"]
        table.add_row(*row, _left(standing.left_s), style=_STYLES.get(standing.state, ""))
    return table


def folds_table(standing: Standing) -> Table:
    """Build the table of one run, a line a fold; a fold that is done has its score."""
    table = _table("fold", "state", "epoch", "step", "done", "left", "model's score")
    every = [(str(fold.number), fold) for fold in standing.folds]
    for name, fold in [*every, *standing.ones.items()]:
        table.add_row(
            name,
            fold.state,
            "" if fold.epoch is None else f"{fold.epoch:.3g}",
            _step(fold),
            f"{fold.share:.0%}",
            _left(fold.left_s if fold.left_s else None),
            _score(fold),
            style=_STYLES.get(fold.state, ""),
        )
    return table


def in_a_line(standing: Standing) -> str:
    """Say where a run stands: state, fold, step, share and time left, or why it failed."""
    parts = [f"{standing.path}: {standing.state}"]
    if standing.state != "done":
        at = standing.at
        if at is not None and at.steps is not None:
            parts.append(f"fold {at.number} of {len(standing.folds)}, step {_step(at)}")
        parts.append(f"{standing.share:.0%} done")
        if standing.left_s is not None:
            parts.append(f"{_left(standing.left_s)} left at most")
        parts.append(f"written to at {standing.updated}")
    parts += [
        f"{name}: {one.state}, {one.share:.0%}"
        for name, one in standing.ones.items()
        if one.state != "done"
    ]
    return ", ".join(parts) + (f"\n{standing.message}" if standing.message else "")


def waste_lines(waste: Sequence[Waste]) -> list[str]:
    """Say what can go, a line each: paths stay in one piece."""
    return [f"{size(item.size_bytes)}: {item.path} ({item.why})" for item in waste]


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _step(fold: FoldStanding | None) -> str:
    return "" if fold is None or fold.steps is None else f"{fold.step} of {fold.steps}"


def _left(seconds: float | None) -> str:
    return "" if seconds is None else str(timedelta(seconds=round(seconds)))


def _score(fold: FoldStanding) -> str:
    if not fold.scores:
        return ""
    name, value = next(iter(fold.scores.items()))
    return f"{name} {'n/a' if value is None else f'{value:.3f}'}"
