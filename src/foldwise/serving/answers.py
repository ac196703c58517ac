"""Labels as JSON: a frame of predictions in, an object a row out."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
from starlette.responses import Response

from foldwise.evaluation.deciding import with_sureness
from foldwise.prediction.columns import CONFIDENCE, NOT_FINITE, PREDICTION
from foldwise.predictor import Predictor
from foldwise.serving.onnx import Engine
from foldwise.tasks.predictions import values_of


def labels_by(
    predictor: Predictor, engine: Engine | None = None
) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """Return what labels rows as `foldwise predict` does: prediction, confidence and prob_*.

    Args:
        predictor: of the run.
        engine: what computes the predictor's labels in its place; None: it does so itself.
    """
    answer = predictor.predict if engine is None else engine.label

    def label(rows: pl.DataFrame) -> pl.DataFrame:
        return with_sureness(answer(rows), predictor.task)

    return label


def as_json(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return an answer; numbers keep every digit."""
    body = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(body.encode(), status, headers, "application/json")


def labelled_rows(labelled: pl.DataFrame) -> list[dict[str, Any]]:
    """Return prediction, confidence, probabilities and problem of each row.

    Args:
        labelled: prediction; and confidence and prob_*, where there are classes.
    """
    names = [name.removeprefix("prob_") for name in labelled.columns if name.startswith("prob_")]
    nothing = pl.repeat(None, labelled.height, eager=True)
    confidence = labelled[CONFIDENCE] if CONFIDENCE in labelled.columns else nothing
    rows = []
    for said, sure, values in zip(
        labelled[PREDICTION].to_list(), confidence.to_list(), values_of(labelled), strict=True
    ):
        if np.isfinite(values).all():
            shares = dict(zip(names, values.tolist(), strict=True)) if names else None
            rows.append(_row(said, sure, shares, None))
        else:
            rows.append(_row(None, None, None, NOT_FINITE))
    return rows


def _row(
    said: Any, sure: float | None, shares: dict[str, float] | None, problem: str | None
) -> dict[str, Any]:
    return {
        "prediction": said,
        "confidence": sure,
        "probabilities": shares,
        "problem": problem,
    }
