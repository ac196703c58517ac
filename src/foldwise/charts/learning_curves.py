"""Learning curves: the history of one fold's training in, an Altair chart or its PNG out.

One panel for the loss and one for each shown metric, epochs on every x axis, so that over-fitting
(training falls, validation turns) and the picked epoch are seen at a glance. The spec is built
apart from the PNG: the HTML report embeds the same one. Rendering needs no network.
"""

from __future__ import annotations

import io
import math
from collections import Counter
from pathlib import Path
from statistics import fmean
from typing import Any

import altair as alt

# Okabe & Ito (2008): these two stay apart in every common form of colour blindness.
COLOURS = {"training": "#0072B2", "validation": "#D55E00"}

_PANELS_A_ROW = 3
_MOST_POINTS = 400  # a line 280 pixels wide shows no more
_FEW_POINTS = 40  # up to here each value is drawn as a point too: one alone makes no line


def learning_curves(
    history: list[dict[str, Any]],
    metrics: list[str],
    best_step: int | None,
    path: Path,
    title: str,
) -> None:
    """Draw `learning_curves_spec` to a PNG, whole or not at all."""
    from foldwise.run.files import write_bytes

    image = io.BytesIO()
    learning_curves_spec(history, metrics, best_step, title).save(
        image, format="png", scale_factor=2
    )
    write_bytes(path, image.getvalue())


def learning_curves_spec(
    history: list[dict[str, Any]], metrics: list[str], best_step: int | None, title: str
) -> alt.ConcatChart:
    """Build the panels: loss, then each metric that the history has.

    Args:
        history: rows {step, epoch, split: training or validation, loss, <metric>, ...}; any value
            may be missing, None or nan, and is then not drawn.
        metrics: names of the metrics to show.
        best_step: step whose weights were kept; None, or a step without a row, is not marked.
        title: stands above all panels.
    """
    series = {name: _points(history, name) for name in ["loss", *metrics]}
    drawn = {point["split"] for points in series.values() for point in points}
    # A run too short to log anything has neither; an empty legend can't be rendered.
    splits = [split for split in COLOURS if split in drawn] or list(COLOURS)
    last_epoch = max((row["epoch"] for row in history), default=0.0) or 1.0
    best_epoch = next((row["epoch"] for row in history if row["step"] == best_step), None)
    panels = [
        _panel(name, points, splits, last_epoch, best_epoch)
        for name, points in series.items()
        if points or name == "loss"
    ]
    return (
        alt.concat(*panels, columns=_PANELS_A_ROW, spacing=24)
        .properties(title=alt.Title(title, anchor="start", fontSize=15, offset=12), padding=16)
        .configure_view(stroke=None)
        .configure_axis(
            grid=True, gridColor="#e6e6e6", domainColor="#888", tickColor="#888", labelFontSize=11
        )
        .configure_legend(orient="top", title=None, labelFontSize=12, symbolStrokeWidth=3)
    )


def _panel(
    name: str,
    points: list[dict[str, Any]],
    splits: list[str],
    last_epoch: float,
    best_epoch: float | None,
) -> alt.LayerChart:
    x = alt.X(
        "epoch:Q",
        title="epoch",
        scale=alt.Scale(domain=[0, last_epoch], nice=False),
        axis=alt.Axis(tickMinStep=1, format="~g"),
    )
    y = alt.Y("value:Q", title=None, scale=_y_scale(points), axis=alt.Axis(tickCount=5))
    colour = alt.Color(
        "split:N", scale=alt.Scale(domain=splits, range=[COLOURS[split] for split in splits])
    )
    lines = alt.Chart(alt.Data(values=points)).mark_line(strokeWidth=2).encode(x, y, colour)
    dots = (
        alt.Chart(alt.Data(values=_of_short_series(points)))
        .mark_circle(size=40, opacity=1)
        .encode(x, y, colour)
    )
    best = [] if best_epoch is None else _best_mark(best_epoch, last_epoch)
    return alt.layer(*best, lines, dots).properties(width=280, height=200, title=_panel_title(name))


def _y_scale(points: list[dict[str, Any]]) -> alt.Scale:
    values = [point["value"] for point in points]
    if len(set(values)) > 1:
        return alt.Scale(zero=False)
    # One value gives Vega no range: its axis would be labelled wrongly, with none not at all.
    middle = values[0] if values else 0.5
    margin = abs(middle) / 10 or 0.1
    return alt.Scale(domain=[middle - margin, middle + margin])


def _panel_title(name: str) -> alt.Title:
    return alt.Title(name, anchor="start", frame="group", fontSize=13, fontWeight=600)


def _best_mark(best_epoch: float, last_epoch: float) -> list[alt.Chart]:
    """Build a dashed line at the epoch, labelled on the side that has room."""
    at_epoch = alt.Chart(alt.Data(values=[{"epoch": best_epoch}])).encode(x="epoch:Q")
    left_half = best_epoch < last_epoch / 2
    label = at_epoch.mark_text(
        text=f"best: epoch {best_epoch:.3g}",
        align="left" if left_half else "right",
        baseline="bottom",
        dx=0,
        dy=-3,
        fontSize=11,
        color="#555",
    ).encode(y=alt.value(0))
    return [at_epoch.mark_rule(strokeDash=[5, 3], color="#777", strokeWidth=1.5), label]


def _points(history: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """List {epoch, value, split} of one panel; long series become the means of equal windows."""
    points = []
    for split in COLOURS:
        own = [
            (row["epoch"], row[name])
            for row in history
            if row["split"] == split and row.get(name) is not None and math.isfinite(row[name])
        ]
        window = math.ceil(len(own) / _MOST_POINTS) or 1
        for start in range(0, len(own), window):
            epochs, values = zip(*own[start : start + window], strict=True)
            points.append({"epoch": fmean(epochs), "value": fmean(values), "split": split})
    return points


def _of_short_series(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = Counter(point["split"] for point in points)
    return [point for point in points if rows[point["split"]] <= _FEW_POINTS]
