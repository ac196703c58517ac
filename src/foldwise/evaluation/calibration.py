"""What a temperature changes: predictions before and after it in, log loss and calibration out.

Both are cross-fitted: no row had a part in the temperature that it is scored with.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from foldwise.decisions.temperature import Of, log_loss
from foldwise.evaluation.diagnostics import BINS, Flags, Floats, calibration, chance_error


def calibration_json(
    before: pl.DataFrame, after: pl.DataFrame, task: Any, of: Of
) -> dict[str, Any]:
    """Set predictions of the same rows before and after a temperature side by side.

    Args:
        before: out-of-fold predictions.
        after: the same, tempered.
        task: reads them.
        of: what their probabilities are of.

    Returns:
        {log_loss: {before, after}, ece: {before, after, by_chance}, bins}. `by_chance` is the error
        that probabilities which are exactly right would show on as many rows as these.
    """
    told = {"before": before, "after": after}
    losses, errors = {}, {}
    for when, table in told.items():
        target, _, probabilities = task.to_arrays(table)
        losses[when] = log_loss(probabilities, target, of)
        confidence, right = confidence_of(table, task, of)
        errors[when] = calibration(confidence, right)[1]
    errors["by_chance"] = chance_error(confidence)
    return {"log_loss": losses, "ece": errors, "bins": BINS}


def confidence_of(table: pl.DataFrame, task: Any, of: Of) -> tuple[Floats, Flags]:
    """Return how sure each decision is, and whether it was right.

    A decision is a row's label, by the probability of the label that is predicted; where labels are
    sets each label of each row, by the larger of its probability and the rest.

    Returns:
        (n,), or (n * labels,) where labels are sets.
    """
    target, prediction, probabilities = task.to_arrays(table)
    if of == "labels":
        # A holdout of its own file may have labels that no model knows.
        known = target[:, : probabilities.shape[1]] == 1
        sure = np.maximum(probabilities, 1 - probabilities)
        return sure.ravel(), ((probabilities >= 0.5) == known).ravel()
    return probabilities[np.arange(len(prediction)), prediction], prediction == target
