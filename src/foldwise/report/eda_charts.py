"""The charts of a look at a table: its parts in, Vega-Lite specs out."""

from __future__ import annotations

from typing import Any

import numpy as np

from foldwise.charts.learning_curves import COLOURS
from foldwise.eda.leaks import Leaks
from foldwise.eda.target import Target
from foldwise.eda.tokens import Tokens

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
BLUE, ORANGE = COLOURS["training"], COLOURS["validation"]
MOST_CLASSES = 40
MOST_COLUMNS = 25
BINS = 48
_LABELS = {"labelLimit": 170}  # leaves half of a phone's width to the bars


def classes(target: Target) -> dict[str, Any]:
    """Draw the rows of each class or label, the largest MOST_CLASSES of them."""
    shown = sorted(target.classes, key=lambda entry: -entry.rows)[:MOST_CLASSES]
    names = {entry.label for entry in shown}
    rows = [
        {"label": entry.label, "rows": entry.rows, "groups": entry.groups}
        for entry in target.classes
        if entry.label in names
    ]
    return _bars(rows, "label", "rows", "rows", ["label", "rows", "groups"])


def cardinality(target: Target) -> dict[str, Any]:
    """Draw how many labels the rows have."""
    rows = [{"labels": f"{k}", "rows": n} for k, n in target.cardinality.items()]
    return _columns(rows, "labels", "labels a row")


def histogram(target: Target, name: str) -> dict[str, Any]:
    """Draw a number's distribution."""
    rows = [{"low": low, "high": high, "rows": n} for low, high, n in target.histogram]
    return {
        "$schema": SCHEMA,
        "height": 220,
        "data": {"values": rows},
        "mark": {"type": "bar", "color": BLUE},
        "encoding": _binned(name),
    }


def lengths(tokens: Tokens) -> dict[str, Any]:
    """Draw the inputs' lengths in tokens, with text.max_length as a line."""
    counted = tokens.lengths
    end = max(int(np.quantile(counted, 0.99)), tokens.max_length) + 1
    width = tokens.max_length / max(1, round(tokens.max_length * BINS / end))
    edges = width * np.arange(np.ceil(end / width) + 1)  # max_length is one of them
    counts, _ = np.histogram(np.minimum(counted, edges[-1]), bins=edges)
    rows = [
        {
            "low": float(low),
            "high": float(high),
            "rows": int(n),
            "input": "longer than max_length" if low > tokens.max_length - width / 2 else "fits",
        }
        for low, high, n in zip(edges[:-1], edges[1:], counts, strict=True)
    ]
    colour = {
        "field": "input",
        "type": "nominal",
        "scale": {"domain": ["fits", "longer than max_length"], "range": [BLUE, ORANGE]},
    }
    limit = [{"length": tokens.max_length, "says": f"max_length {tokens.max_length}"}]
    return {
        "$schema": SCHEMA,
        "height": 240,
        "layer": [
            {
                "data": {"values": rows},
                "mark": {"type": "bar"},
                "encoding": {**_binned("tokens of the input"), "color": colour},
            },
            {
                "data": {"values": limit},
                "mark": {"type": "rule", "strokeDash": [5, 4], "strokeWidth": 1.5},
                "encoding": {
                    "x": {"field": "length", "type": "quantitative"},
                    "tooltip": [{"field": "says", "type": "nominal"}],
                },
            },
        ],
    }


def powers(leaks: Leaks) -> dict[str, Any]:
    """Draw each column's scores by itself, and the baseline's as dashed lines."""
    shown = [power for power in leaks.powers if power.scores][:MOST_COLUMNS]
    rows = [
        {"column": power.column, "score": name, "value": max(value, 0.0), "verdict": power.verdict}
        for power in shown
        for name, value in power.scores.items()
    ]
    names = list(leaks.baseline)
    colour = {
        "field": "score",
        "type": "nominal",
        "scale": {"domain": names, "range": [BLUE, ORANGE][: len(names)]},
    }
    base = [{"score": name, "value": value} for name, value in leaks.baseline.items()]
    scale = {"domain": [0, 1]}
    x = {
        "field": "value",
        "type": "quantitative",
        "title": "score alone",
        "scale": scale,
        "axis": {"tickCount": 5},
    }
    y = {"field": "column", "type": "nominal", "sort": None, "title": None, "axis": _LABELS}
    tooltip = [
        {"field": "column", "type": "nominal"},
        {"field": "score", "type": "nominal"},
        {"field": "value", "type": "quantitative", "format": ".3f"},
        {"field": "verdict", "type": "nominal"},
    ]
    return {
        "$schema": SCHEMA,
        "height": 26 * len(shown) + 10,
        "layer": [
            {
                "data": {"values": rows},
                "mark": {"type": "point", "filled": True, "size": 90, "opacity": 1},
                "encoding": {"x": x, "y": y, "color": colour, "tooltip": tooltip},
            },
            {
                "data": {"values": base},
                "mark": {"type": "rule", "strokeDash": [5, 4], "strokeWidth": 1.5},
                "encoding": {
                    "x": {"field": "value", "type": "quantitative"},
                    "color": {"field": "score", "type": "nominal"},
                },
            },
        ],
    }


def _binned(title: str) -> dict[str, Any]:
    return {
        "x": {
            "field": "low",
            "type": "quantitative",
            "title": title,
            "bin": {"binned": True},
            "axis": {"tickCount": 6, "format": ",.4~g"},
        },
        "x2": {"field": "high"},
        "y": {"field": "rows", "type": "quantitative", "title": "rows"},
        "tooltip": [
            {"field": "low", "type": "quantitative", "format": ",.4~g", "title": "from"},
            {"field": "high", "type": "quantitative", "format": ",.4~g", "title": "to"},
            {"field": "rows", "type": "quantitative"},
        ],
    }


def _bars(
    rows: list[dict[str, Any]], label: str, value: str, title: str, tooltip: list[str]
) -> dict[str, Any]:
    return {
        "$schema": SCHEMA,
        "height": 22 * len(rows) + 10,
        "data": {"values": rows},
        "mark": {"type": "bar", "color": BLUE},
        "encoding": {
            "y": {"field": label, "type": "nominal", "sort": None, "title": None, "axis": _LABELS},
            "x": {
                "field": value,
                "type": "quantitative",
                "title": title,
                "axis": {"tickCount": 4, "format": ",d"},
            },
            "tooltip": [{"field": name, "type": "nominal"} for name in tooltip],
        },
    }


def _columns(rows: list[dict[str, Any]], label: str, title: str) -> dict[str, Any]:
    return {
        "$schema": SCHEMA,
        "height": 200,
        "data": {"values": rows},
        "mark": {"type": "bar", "color": BLUE},
        "encoding": {
            "x": {
                "field": label,
                "type": "ordinal",
                "sort": None,
                "title": title,
                "axis": {"labelAngle": 0},
            },
            "y": {"field": "rows", "type": "quantitative", "title": "rows"},
            "tooltip": [{"field": name, "type": "nominal"} for name in (label, "rows")],
        },
    }
