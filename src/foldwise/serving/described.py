"""What a server says of itself: the run it serves, and the forms of requests and answers.

In: a loaded run. Out: plain JSON values. No path of this machine is among them.
"""

from __future__ import annotations

import platform
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from foldwise.config.members import MODEL
from foldwise.predictor import Predictor
from foldwise.preparation.build import holds
from foldwise.report.one_model import measured
from foldwise.run.contents import Interval, Manifest
from foldwise.run.readers import read_json
from foldwise.run.seal import read_metrics
from foldwise.serving.limits import Limits
from foldwise.serving.rows import Column
from foldwise.table.reading import MISSING, Holds

_MOST_VALUES = 200  # of a category that are told: more of them are names or codes of somebody
_PACKAGES = ("foldwise", "torch", "transformers", "fastapi", "uvicorn")


@dataclass(frozen=True)
class Served:
    """What is served.

    Attributes:
        columns: that a row needs.
        holds: what is predicted: label, labels or number.
        about: the answer of /metadata.
    """

    columns: list[Column]
    holds: Holds
    about: dict[str, Any]


def describe(
    predictor: Predictor,
    limits: Limits,
    unexplained: str | None,
    engine: Mapping[str, Any] | None = None,
) -> Served:
    """Say what a loaded run is.

    Args:
        predictor: of the run.
        limits: of the server.
        unexplained: why its answers can't be explained; None where they can.
        engine: what computes the labels; None: torch does.

    Raises:
        FoldwiseError: a file of the run isn't as it was sealed.
    """
    config, data, chosen = predictor.config, predictor.config.data, predictor.chosen
    columns = [
        *(Column(name, "text") for name in data.text),
        *(Column(name, "categorical") for name in data.categorical),
        *(Column(name, "numeric") for name in data.numeric),
    ]
    weights = chosen.weights.tolist()
    about = {
        "run": config.run.name,
        "task": config.task,
        "target": data.target,
        "predicts": holds(predictor.task),
        "classes": list(getattr(predictor.task, "classes", [])),
        "separator": (data.separator or ";") if holds(predictor.task) == "labels" else None,
        "class_weights": _class_weights(predictor),
        "columns": [
            {"name": c.name, "role": c.role, "values": _values(predictor.known.get(c.name))}
            for c in columns
        ],
        "model": predictor.model,
        "folds": list(predictor.folds),
        "members": {
            name: weight
            for name, weight in zip(chosen.names, weights, strict=True)
            if name in chosen.voting
        },
        **_scores(predictor, "" if engine is None else f", in {config.training.precision}"),
        "unexplained": unexplained,
        "engine": engine or {"name": "torch", "precision": config.training.precision},
        "versions": _versions(predictor),
        "limits": {
            "rows": limits.rows,
            "characters": limits.characters,
            "body_bytes": limits.body_bytes,
            "timeout_s": limits.timeout_s,
            "explain_s": limits.explain_s,
        },
    }
    return Served(columns, holds(predictor.task), about)


def _values(known: Collection[str | None] | None) -> list[str]:
    """Return the values of a category that can be told; none of a column with very many."""
    values = sorted(value for value in known or () if value is not None and value != MISSING)
    return values if len(values) <= _MOST_VALUES else []


def _class_weights(predictor: Predictor) -> dict[str, float] | None:
    """Return by how much probabilities are multiplied to find the label; None: not at all."""
    weights = predictor.chosen.decision.class_weights
    classes = getattr(predictor.task, "classes", [])
    return dict(zip(classes, weights, strict=True)) if weights else None


def _scores(predictor: Predictor, computed: str) -> dict[str, Any]:
    """Return the scores of the run's own model, what they were measured on and how computed."""
    run, name = predictor.run, predictor.model
    nothing: dict[str, Any] = {"scores": {}, "scored": None, "smaller_is_better": []}
    if not run.finished:
        return nothing
    if not predictor.folds:
        for result in measured(run):
            if result["model"] == name:
                return {
                    "scores": _shown(result["scores"][name]),
                    "scored": f"on {result['rows']} holdout rows{computed}",
                    "smaller_is_better": result["smaller_is_better"],
                }
        return nothing
    metrics = read_metrics(run)
    scores, who = metrics["oof"], "the run's answer"
    voting = predictor.chosen.voting
    if len(voting) == 1 and voting[0] in metrics.get("members", {}):
        who = "the model" if voting[0] == MODEL else voting[0]
        scores = metrics["members"][voting[0]]["oof"]
    return {
        "scores": _shown(scores),
        "scored": f"{who}, out of fold, all folds{computed}",
        "smaller_is_better": metrics.get("smaller_is_better", []),
    }


def _shown(scores: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {
        name: {end: entry[end] for end in Interval.model_fields} for name, entry in scores.items()
    }


def _versions(predictor: Predictor) -> dict[str, Any]:
    here = {name: metadata.version(name) for name in _PACKAGES}
    trained = read_json(predictor.run.manifest, Manifest).get("versions", {})
    return {"here": {"python": platform.python_version(), **here}, "trained": trained}


def row_schema(columns: Sequence[Column], limits: Limits) -> dict[str, Any]:
    """Return the JSON schema of a row."""
    text = {"type": ["string", "null"], "maxLength": limits.characters}
    number = {"type": ["number", "null"]}
    return {
        "type": "object",
        "properties": {c.name: number if c.role == "numeric" else text for c in columns},
        "required": [column.name for column in columns],
        "additionalProperties": True,
    }


def rows_schema(columns: Sequence[Column], limits: Limits, most: int) -> dict[str, Any]:
    """Return the JSON schema of a request."""
    rows = {
        "type": "array",
        "minItems": 1,
        "maxItems": most,
        "items": row_schema(columns, limits),
    }
    return {
        "type": "object",
        "properties": {"rows": rows},
        "required": ["rows"],
        "additionalProperties": False,
    }


def labels_schema(served: Served) -> dict[str, Any]:
    """Return the JSON schema of the labels of a request's rows."""
    share = {"type": ["number", "null"], "minimum": 0, "maximum": 1}
    said = {"type": ["number" if served.holds == "number" else "string", "null"]}
    row = {
        "type": "object",
        "properties": {
            "prediction": said,
            "confidence": share,
            "probabilities": {
                "type": ["object", "null"],
                "properties": dict.fromkeys(served.about["classes"], share),
            },
            "problem": {"type": ["string", "null"]},
        },
        "required": ["prediction", "confidence", "probabilities", "problem"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"rows": {"type": "array", "items": row}},
        "required": ["rows"],
    }


def explanation_schema() -> dict[str, Any]:
    """Return the JSON schema of an explanation."""
    text, number, place = {"type": "string"}, {"type": ["number", "null"]}, {"type": "integer"}
    word = {"column": text, "start": place, "end": place, "text": text, "value": number}
    word["read"] = {"type": "boolean"}
    cell = {"type": ["string", "number", "null"]}
    column = {"column": text, "cell": cell, "effect": number, "low": number, "high": number}
    member = {"member": text, "weight": number, "value": number, "margin": number}
    explained = {
        "of": {"type": ["string", "null"]},
        "value": number,
        "prediction": {"type": ["string", "number", "null"]},
        "words": _list_of(word),
        "columns": _list_of(column),
        "members": _list_of(member),
    }
    said = {"type": "object", "additionalProperties": text}
    return {
        "type": "object",
        "properties": {"explanations": _list_of(explained), "method": said},
        "required": ["explanations", "method"],
    }


def _list_of(properties: dict[str, Any]) -> dict[str, Any]:
    item = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "array", "items": item}


REFUSED_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "error": {"type": "string"},
        "fields": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "row": {"type": ["integer", "null"]},
                    "column": {"type": ["string", "null"]},
                    "message": {"type": "string"},
                },
            },
        },
    },
    "required": ["error", "fields"],
}
