"""Logits to the table that everything after the model reads: targets, labels, probabilities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from foldwise.run.readers import read_parquet
from foldwise.tasks.task import Task


def read_predictions(path: Path, task: Task) -> pl.DataFrame:
    """Read a table of a task's predictions that lies in a run.

    Raises:
        FoldwiseError: it is absent, damaged, or of other classes.
    """
    classes = getattr(task, "classes", ())
    probabilities = [f"prob_{name}" for name in classes]
    return read_parquet(path, ["row", "repeat", "fold", "target", "prediction", *probabilities])


def to_table(
    task: Task, part: pl.DataFrame, logits: np.ndarray, repeat: int | None, fold: int | None
) -> pl.DataFrame:
    """Return row, repeat, fold, target, prediction, prob_* and logit_* of some rows.

    Args:
        task: names the columns.
        part: the rows, in the order of the logits.
        logits: (n, n_outputs).
        repeat: the repeat they were scored in; None for holdout rows.
        fold: the fold whose model made the logits; None for several.
    """
    target = getattr(task, "target", "target")
    return pl.DataFrame(
        {
            "row": part["row"],
            "repeat": pl.Series([repeat] * part.height, dtype=pl.Int32),
            "fold": pl.Series([fold] * part.height, dtype=pl.Int32),
            **({"target": part[target]} if target in part.columns else {}),
            **task.to_columns(logits),
        }
    )
