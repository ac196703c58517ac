"""The range test to look at: a `RangeTest` in, a PNG and a table out."""

from __future__ import annotations

import io

import altair as alt
from rich.table import Table

from foldwise.charts.learning_curves import COLOURS
from foldwise.config.training import Optimizer as OptimizerConfig
from foldwise.training.lr_finder import RangeTest

_WORDS = {
    "steepest": "where the loss falls fastest; what lr: range_test takes",
    "minimum_tenth": "a tenth of the rate at the lowest point",
    "valley": "middle of the longest fall",
}


def rates_table(found: RangeTest, optimizer: OptimizerConfig) -> Table:
    """Build the table of suggestions, each with the head's rate in the config's ratio."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("suggestion")
    table.add_column("optimizer.lr", justify="right")
    if optimizer.head_lr is not None:
        table.add_column("head_lr", justify="right")
    table.add_column("", overflow="fold")
    for name, words in _WORDS.items():
        at = optimizer.at(getattr(found, name))
        heads = [] if at.head_lr is None else [f"{at.head_lr:.1e}"]
        table.add_row(
            name, f"{at.rate:.1e}", *heads, words, style="bold" if name == "steepest" else ""
        )
    ended = {
        "steps": "it used all its steps",
        "diverged": "the loss diverged",
        "not finite": "the loss was no longer finite",
    }[found.ended]
    table.caption = f"The test ended at {found.rates[-1]:.1e}: {ended}."
    table.caption_justify = "left"
    return table


def rates_chart(found: RangeTest, title: str, *, logarithmic: bool) -> bytes:
    """Draw the curve with its suggestions; return the PNG."""
    points = [
        {"rate": rate, "loss": loss, "smoothed": smoothed}
        for rate, loss, smoothed in zip(found.rates, found.losses, found.smoothed, strict=True)
    ]
    scale = alt.Scale(type="log" if logarithmic else "linear", nice=False)
    axis = alt.Axis(format=".0e", tickCount=7)
    x = alt.X("rate:Q", title="learning rate", scale=scale, axis=axis)
    # A diverged end would press the part that matters flat.
    lowest, first = min(found.smoothed), found.smoothed[0]
    top = max(found.losses[: len(found.losses) // 4]) + 0.05 * abs(first)
    y_scale = alt.Scale(domain=[lowest - 0.5 * (first - lowest) - 0.01, top], clamp=True)
    base = alt.Chart(alt.Data(values=points))
    dots = base.mark_circle(size=14, opacity=0.35, color="#777").encode(
        x=x, y=alt.Y("loss:Q", title="loss", scale=y_scale)
    )
    line = base.mark_line(strokeWidth=2.5, color=COLOURS["training"], clip=True).encode(
        x=x, y=alt.Y("smoothed:Q", title="loss", scale=y_scale)
    )
    marks = [
        {"rate": getattr(found, name), "label": f"{name.replace('_', ' ')} {value:.1e}", "row": row}
        for row, name in enumerate(_WORDS)
        for value in [getattr(found, name)]
    ]
    rules = (
        alt.Chart(alt.Data(values=marks))
        .mark_rule(strokeDash=[5, 3], color=COLOURS["validation"])
        .encode(x=x)
    )
    labels = (
        alt.Chart(alt.Data(values=marks))
        .mark_text(align="left", dx=4, fontSize=11, color=COLOURS["validation"])
        .encode(x=x, y=alt.Y("row:Q", scale=alt.Scale(domain=[12, 0]), axis=None), text="label:N")
    )
    curve = alt.layer(dots, line)
    chart = (
        alt.layer(curve, alt.layer(rules, labels))
        .resolve_scale(y="independent")
        .properties(width=560, height=300, title=alt.Title(title, anchor="start"), padding=16)
        .configure_view(stroke=None)
    )
    image = io.BytesIO()
    chart.save(image, format="png", scale_factor=2)
    return image.getvalue()
