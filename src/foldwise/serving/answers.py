"""Labels as JSON: a frame of predictions in, an object a row out."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import polars as pl
from starlette.responses import Response

from foldwise.table.reading import Holds
from foldwise.tasks.predictions import values_of

PROBLEM = "the model's numbers for this row aren't finite"


def as_json(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return an answer; numbers keep every digit."""
    body = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(body.encode(), status, headers, "application/json")


def labelled_rows(labelled: pl.DataFrame, holds: Holds) -> list[dict[str, Any]]:
    """Return prediction, confidence, probabilities and problem of each row.

    Confidence is the probability of the predicted label. Of a set of labels it is that of its most
    doubtful decision: the smallest, over the labels, of the probability that the label is there if
    it was predicted, and that it isn't if it wasn't. Of a number there is none.

    Args:
        labelled: prediction and prob_*, where there are classes.
        holds: what is predicted: label, labels or number.
    """
    names = [name.removeprefix("prob_") for name in labelled.columns if name.startswith("prob_")]
    values, rows = values_of(labelled), []
    for said, row in zip(labelled["prediction"].to_list(), values, strict=True):
        if not np.isfinite(row).all():
            rows.append(_row(None, None, None, PROBLEM))
            continue
        shares = dict(zip(names, row.tolist(), strict=False)) if names else None
        if shares is None:
            sure = None
        elif holds == "labels":
            sure = float(np.maximum(row, 1 - row).min())
        else:
            sure = shares[said]
        rows.append(_row(said, sure, shares, None))
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
