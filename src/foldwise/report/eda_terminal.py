"""A look at a table as the terminal shows it: a `Look` and what stands out in, rich parts out."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from foldwise.eda.findings import Finding
from foldwise.eda.look import Look

MOST_COLUMNS = 200  # listed here; the page lists all


def eda_tables(look: Look, findings: Sequence[Finding]) -> list[RenderableType]:
    """Build the summary: columns, target, lengths, duplicates, and what stands out."""
    parts: list[RenderableType] = [_columns(look), Text()]
    if (left := len(look.columns) - MOST_COLUMNS) > 0:
        parts.append(Text(f"{left:,} more columns are in the page"))
    parts += [Text(line) for line in _lines(look)]
    if not findings:
        return [*parts, Text("\nnothing stands out", style="bold")]
    parts.append(Text("\nwhat stands out", style="bold"))
    for finding in findings:
        sign, style = ("!", "bold red") if finding.level == "warning" else ("-", "")
        parts.append(Text.assemble((f"{sign} ", style), finding.says))
    return parts


def _columns(look: Look) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("column", overflow="fold")
    table.add_column("in the config")
    table.add_column("looks like")
    for heading in ("empty", "distinct", "alone"):
        table.add_column(heading, justify="right")
    powers = {power.column: power for power in look.leaks.powers}
    # Those that the config names first, where there are too many.
    listed = list(look.columns)
    if len(listed) > MOST_COLUMNS:
        listed = sorted(listed, key=lambda column: not column.role)[:MOST_COLUMNS]
    for column in listed:
        power = powers.get(column.name)
        score = next(iter(power.scores.values()), None) if power is not None else None
        table.add_row(
            column.name,
            column.role or "-",
            column.guess.role,
            f"{column.nulls:,}",
            f"{column.unique:,}",
            "-" if score is None else f"{score:.3f}",
        )
    for name, base in list(look.leaks.baseline.items())[:1]:
        table.caption = f"alone: {name} of the column by itself; of the baseline {base:.3f}"
        table.caption_justify = "left"
    return table


def _lines(look: Look) -> list[str]:
    total, used = look.rows.frame.height, look.rows.used.height
    lines = [f"{total:,} rows" + ("" if used == total else f", {used:,} of them for a run")]
    target, name = look.target, look.rows.target
    if look.answers.is_number:
        low, median, high = (target.quantiles[i] for i in (0, 3, 6))
        lines.append(f"{name}: from {low:,.4g} to {high:,.4g}, median {median:,.4g}")
    else:
        unit = "classes" if look.answers.ids is not None else "labels"
        lines.append(
            f"{name}: {len(target.classes):,} {unit}, largest by smallest {target.ratio:,.1f}, "
            f"{len(target.rare)} rare for {look.rows.config.folds.n} folds"
        )
    if look.tokens is not None:
        tokens = look.tokens
        shares = ", ".join(f"{share:.1%} over {n}" for n, share in tokens.cut_shares().items())
        of = f"{len(tokens.lengths):,} rows" if tokens.sampled else "all rows"
        least = f"; {tokens.bounded} very long, not counted to the end" if tokens.bounded else ""
        lines.append(f"tokens ({of}{least}): {shares}; max_length is {tokens.max_length}")
    if look.rows.config.data.text:
        twins = look.twins
        lines.append(
            f"near-duplicates: {twins.near.rows_in_groups:,} rows in "
            f"{twins.near.n_groups_multi:,} groups, {twins.disagreeing:,} of which disagree"
        )
    return lines
