"""The charts of a run's report: plain numbers in, Vega-Lite specs out.

Specs are written as dicts of their own where Altair would check the same few shapes over and over:
a report is drawn at the end of every run, and should not be felt.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from foldwise.charts.learning_curves import COLOURS
from foldwise.evaluation.diagnostics import Bin

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
RIGHT, WRONG = COLOURS["training"], COLOURS["validation"]
_MOST_POINTS = 200  # of one fold's line


def members(points: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    """Draw a score of the answer and the members: dots with their intervals, a row each.

    Args:
        points: rows {model, estimate: out of fold or holdout, value, low, high}, top down.
        name: of the metric.
    """
    estimates = list(dict.fromkeys(point["estimate"] for point in points))
    models = list(dict.fromkeys(point["model"] for point in points))
    y = {"field": "model", "type": "nominal", "sort": models, "title": None}
    # Out of fold and holdout of one model lie side by side, not on each other.
    offset = {"field": "estimate", "type": "nominal", "sort": estimates}
    colours = {"domain": estimates, "range": [RIGHT, WRONG][: len(estimates)]}
    colour = {
        "field": "estimate",
        "type": "nominal",
        "scale": colours,
        "legend": {} if len(estimates) > 1 else None,
    }
    place = {"y": y, "yOffset": offset, "color": colour}
    axis = {"tickCount": 5}  # more would run into each other on a phone
    x = {"type": "quantitative", "title": name, "scale": {"zero": False}, "axis": axis}
    intervals = {
        "mark": {"type": "rule", "strokeWidth": 2},
        "encoding": {**place, "x": {"field": "low", **x}, "x2": {"field": "high"}},
    }
    dots = {
        "mark": {"type": "point", "filled": True, "size": 90, "opacity": 1},
        "encoding": {
            **place,
            "x": {"field": "value", **x},
            "tooltip": [
                {"field": f, **({"format": ".3f"} if f in ("value", "low", "high") else {})}
                for f in ("model", "estimate", "value", "low", "high")
            ],
        },
    }
    height = 36 * len(models)  # a step a model would be another kind of fitting than the page's
    return _chart({"data": {"values": list(points)}, "layer": [intervals, dots], "height": height})


def learning_curves(histories: dict[int, list[dict[str, Any]]], name: str) -> dict[str, Any] | None:
    """Draw one measure of all folds: thin lines, their mean, and the spread between them.

    Args:
        histories: by fold, rows {epoch, split, loss, <metric>, ...}.
        name: the measure.

    Returns:
        None where no fold has it.
    """
    points, at_epoch = [], defaultdict(list)
    for fold, history in histories.items():
        for split in COLOURS:
            own = [
                (row["epoch"], row[name])
                for row in history
                if row["split"] == split and row.get(name) is not None
            ]
            stride = math.ceil(len(own) / _MOST_POINTS) or 1
            for epoch, value in own[::stride]:
                points.append({"epoch": epoch, "value": value, "split": split, "fold": fold})
                at_epoch[split, round(epoch, 3)].append(value)
    if not points:
        return None
    means = [
        {"epoch": epoch, "split": split, "mean": fmean(v), "low": min(v), "high": max(v)}
        for (split, epoch), v in sorted(at_epoch.items())
        if len(v) == len(histories)
    ]
    axis = {"tickMinStep": 1, "format": "~g"}
    x = {"field": "epoch", "type": "quantitative", "title": "epoch", "axis": axis}
    there = [split for split in COLOURS if any(point["split"] == split for point in points)]
    splits = {"domain": there, "range": [COLOURS[split] for split in there]}
    legend: dict[str, Any] | None = {} if len(there) > 1 else None
    colour = {"field": "split", "type": "nominal", "scale": splits, "legend": legend}

    def y(field: str) -> dict[str, Any]:
        return {"field": field, "type": "quantitative", "title": name, "scale": {"zero": False}}

    band = {
        "data": {"values": means},
        "mark": {"type": "area", "opacity": 0.15},
        "encoding": {"x": x, "y": y("low"), "y2": {"field": "high"}, "color": colour},
    }
    thin = {
        "data": {"values": points},
        "mark": {"type": "line", "strokeWidth": 1, "opacity": 0.55, "point": {"size": 14}},
        "encoding": {
            "x": x,
            "y": y("value"),
            "color": colour,
            "detail": {"field": "fold"},
            "tooltip": [{"field": f} for f in ("fold", "split", "epoch", "value")],
        },
    }
    mean = {
        "data": {"values": means},
        "mark": {"type": "line", "strokeWidth": 3},
        "encoding": {"x": x, "y": y("mean"), "color": colour},
    }
    return _chart({"layer": [band, thin, mean], "height": 260})


def calibration(lines: Mapping[str, Sequence[Bin]]) -> dict[str, Any]:
    """Draw accuracy by confidence; on the dashed line both agree.

    Args:
        lines: by what they are of, at most two.
    """
    points = [
        {"confidence": b.confidence, "accuracy": b.accuracy, "rows": b.rows, "of": of}
        for of, bins in lines.items()
        for b in bins
    ]
    colours = {"domain": list(lines), "range": [RIGHT, WRONG][: len(lines)]}
    colour = {
        "field": "of",
        "type": "nominal",
        "title": None,
        "scale": colours,
        "legend": {} if len(lines) > 1 else None,
    }
    unit = {"domain": [0, 1]}
    x = {"type": "quantitative", "title": "confidence", "scale": unit}
    y = {"type": "quantitative", "title": "accuracy", "scale": unit}
    ideal = {
        "data": {"values": [{"a": 0}, {"a": 1}]},
        "mark": {"type": "line", "strokeDash": [5, 4], "color": "#888"},
        "encoding": {"x": {"field": "a", **x}, "y": {"field": "a", **y}},
    }
    found = {
        "data": {"values": points},
        "mark": {"type": "line", "strokeWidth": 2},
        "encoding": {
            "x": {"field": "confidence", **x},
            "y": {"field": "accuracy", **y},
            "color": colour,
        },
    }
    dots = {
        "data": {"values": points},
        "mark": {"type": "circle", "opacity": 0.9, "size": 60},
        "encoding": {
            "x": {"field": "confidence", **x},
            "y": {"field": "accuracy", **y},
            "color": colour,
            "tooltip": [
                {"field": f, "format": ".3f"} if f in ("confidence", "accuracy") else {"field": f}
                for f in ("of", "confidence", "accuracy", "rows")
            ],
        },
    }
    return _chart({"layer": [ideal, found, dots], "height": 320})


def confidence(counts: np.ndarray) -> dict[str, Any]:
    """Draw how many predictions are right and wrong at each confidence; counts (bins, 2)."""
    width = 1 / len(counts)
    points = [
        {"from": i * width, "to": (i + 1) * width, "rows": int(rows), "which": which}
        for i, pair in enumerate(counts)
        for which, rows in zip(("right", "wrong"), pair, strict=True)
    ]
    colours = {"domain": ["right", "wrong"], "range": [RIGHT, WRONG]}
    return _chart(
        {
            "data": {"values": points},
            "mark": {"type": "bar"},
            "encoding": {
                "x": {
                    "field": "from",
                    "bin": {"binned": True, "step": width},
                    "type": "quantitative",
                    "title": "confidence",
                },
                "x2": {"field": "to"},
                "y": {"field": "rows", "type": "quantitative", "title": "rows", "stack": "zero"},
                "color": {"field": "which", "type": "nominal", "scale": colours},
                "tooltip": [{"field": "which"}, {"field": "rows"}],
            },
            "height": 220,
        }
    )


def coverage(points: Sequence[tuple[float, float, float]]) -> dict[str, Any]:
    """Draw accuracy on the rows kept against the share of rows kept."""
    values = [
        {"threshold": t, "coverage": share, "accuracy": accuracy}
        for t, share, accuracy in points
        if share > 0
    ]
    percent = {"format": "%"}
    return _chart(
        {
            "data": {"values": values},
            "mark": {"type": "line", "color": RIGHT, "strokeWidth": 2, "point": {"size": 16}},
            "encoding": {
                "x": {
                    "field": "coverage",
                    "type": "quantitative",
                    "title": "share of rows kept",
                    "axis": percent,
                    "scale": {"domain": [0, 1]},
                },
                "y": {
                    "field": "accuracy",
                    "type": "quantitative",
                    "title": "accuracy on them",
                    "axis": percent,
                    "scale": {"zero": False},
                },
                "order": {"field": "threshold"},
                "tooltip": [
                    {"field": f, "format": ".2f"} for f in ("threshold", "coverage", "accuracy")
                ],
            },
            "height": 260,
        }
    )


def predicted_against_target(target: np.ndarray, prediction: np.ndarray) -> dict[str, Any]:
    """Draw predicted numbers against the true ones, at most 2,000 of them."""
    chosen = np.linspace(0, len(target) - 1, min(len(target), 2000)).astype(int)
    points = [{"target": float(target[i]), "prediction": float(prediction[i])} for i in chosen]
    ends = [{"a": float(target.min())}, {"a": float(target.max())}]
    scale = {"zero": False}
    x = {"type": "quantitative", "title": "target", "scale": scale}
    y = {"type": "quantitative", "title": "prediction", "scale": scale}
    ideal = {
        "data": {"values": ends},
        "mark": {"type": "line", "strokeDash": [5, 4], "color": "#888"},
        "encoding": {"x": {"field": "a", **x}, "y": {"field": "a", **y}},
    }
    dots = {
        "data": {"values": points},
        "mark": {"type": "circle", "size": 18, "opacity": 0.45, "color": RIGHT},
        "encoding": {"x": {"field": "target", **x}, "y": {"field": "prediction", **y}},
    }
    return _chart({"layer": [ideal, dots], "height": 340})


def residuals(error: np.ndarray) -> dict[str, Any]:
    """Draw the distribution of prediction minus target."""
    counts, edges = np.histogram(error, bins=40)
    points = [
        {"from": float(edges[i]), "to": float(edges[i + 1]), "rows": int(n)}
        for i, n in enumerate(counts)
    ]
    return _chart(
        {
            "data": {"values": points},
            "mark": {"type": "bar", "color": RIGHT},
            "encoding": {
                "x": {
                    "field": "from",
                    "bin": {"binned": True},
                    "type": "quantitative",
                    "title": "prediction minus target",
                },
                "x2": {"field": "to"},
                "y": {"field": "rows", "type": "quantitative", "title": "rows"},
            },
            "height": 220,
        }
    )


def _chart(spec: dict[str, Any]) -> dict[str, Any]:
    return {"$schema": SCHEMA, **spec}
