"""The table of predictions that everything after a model reads: targets, labels, probabilities.

Logits or values go in (a model's, a member's, a blend's), a table comes out; and from such tables
come the values again, and the mean of several.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

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
    return _table(task, part, task.to_columns(logits), repeat, fold)


def values_to_table(
    task: Task, part: pl.DataFrame, values: np.ndarray, repeat: int | None, fold: int | None
) -> pl.DataFrame:
    """Return the same table of probabilities, or of numbers (n, 1); arguments as for `to_table`.

    Args:
        task: a target of Foldwise's own.
        part: the rows, in the order of the values.
        values: probabilities of classes or labels (n, n_outputs), or numbers (n, 1).
        repeat: as for `to_table`.
        fold: as for `to_table`.
    """
    return _table(task, part, _columns(task, values), repeat, fold)


def values_of(table: pl.DataFrame) -> NDArray[np.float64]:
    """Return a table's probabilities (n, n_outputs), or its numbers (n, 1), float64."""
    names = [name for name in table.columns if name.startswith("prob_")]
    values: NDArray[np.float64] = table.select(names or "prediction").to_numpy()
    return values.astype(np.float64)


def with_values(task: Any, table: pl.DataFrame, values: np.ndarray) -> pl.DataFrame:
    """Return a table of the same rows with other predictions: those of these values.

    Args:
        task: says by `from_probabilities` which label follows from probabilities, and which
            logits; without it, the largest, and their logarithms.
        table: any of the rows.
        values: as `values_of` returns them.
    """
    if table["prediction"].dtype.is_float():
        return table.with_columns(pl.Series("prediction", values[:, 0]))
    names = [name.removeprefix("prob_") for name in table.columns if name.startswith("prob_")]
    made = _columns(task, values, names)
    return table.with_columns(pl.Series(name, column) for name, column in made.items())


def mean_of_models(tables: Sequence[pl.DataFrame], task: Any = None) -> pl.DataFrame:
    """Average several models' probabilities of the same rows, or the numbers they predict.

    Args:
        tables: one a model, with prob_* and logit_* columns and rows in the same order.
        task: as for `with_values`.

    Returns:
        The first table with the mean probabilities, and the label and logits that follow.
    """
    first = tables[0].with_columns(pl.lit(None, pl.Int32).alias("fold"))
    return with_values(task, first, np.mean([values_of(table) for table in tables], axis=0))


def _table(
    task: Any, part: pl.DataFrame, made: dict[str, Any], repeat: int | None, fold: int | None
) -> pl.DataFrame:
    target = getattr(task, "target", "target")
    return pl.DataFrame(
        {
            "row": part["row"],
            "repeat": pl.Series([repeat] * part.height, dtype=pl.Int32),
            "fold": pl.Series([fold] * part.height, dtype=pl.Int32),
            **({"target": part[target]} if target in part.columns else {}),
            **made,
        }
    )


def _columns(task: Any, values: np.ndarray, names: Sequence[str] = ()) -> dict[str, Any]:
    if getattr(task, "holds", "label") == "number":
        return {"prediction": values[:, 0]}
    if hasattr(task, "from_probabilities"):
        columns: dict[str, Any] = task.from_probabilities(values)
        return columns
    log = np.log(np.maximum(values, np.finfo(np.float64).tiny))
    return {
        "prediction": [names[i] for i in values.argmax(axis=1)],
        **{f"prob_{name}": values[:, i] for i, name in enumerate(names)},
        **{f"logit_{name}": log[:, i] for i, name in enumerate(names)},
    }
