"""A single fold that trains on the rows of all: a run's rows and folds in, such a fold's out.

It has no row to score and none to pick an epoch, so it trains as long as cross-validation found
best and keeps the last weights.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl

from foldwise.errors import FoldwiseError
from foldwise.preparation.prepare import Prepared
from foldwise.run.folder import FoldFolder
from foldwise.split.assignment import Assignment


def of_all_rows(prepared: Prepared, one: FoldFolder, epochs: int) -> Prepared:
    """Return a run of one fold that trains on the rows of all, the holdout aside.

    Args:
        prepared: the run's.
        one: where the fold lies.
        epochs: how long it trains; the schedule ends with them. 0 where no model trains on them.

    Raises:
        FoldwiseError: the run's schedule follows scores, and no row is left to have any.
    """
    config = prepared.config
    if epochs and config.schedule.name == "plateau":
        raise FoldwiseError(
            f"{prepared.run.path}: schedule plateau lowers the rate when scores stand still, and a "
            "model of all rows has no rows to score; train the run with another schedule"
        )
    update: dict[str, Any] = {
        "training": config.training.model_copy(
            update={"epochs": epochs, "patience": None, "evaluate_every": None}
        ),
        "selection": config.selection.model_copy(update={"rows": "last"}),
        "folds": config.folds.model_copy(update={"run": "all"}),
        "trackers": [],  # they know the run's folds; metrics.jsonl has every number
    }
    nobody = pl.lit([], dtype=pl.List(pl.Int32))
    frame = prepared.assignment.frame.filter(pl.col("repeat") == 1).with_columns(
        fold=pl.lit(None, dtype=pl.Int32), inner_of=nobody, unused_in=nobody
    )
    return replace(
        prepared,
        config=config.model_copy(update=update),
        assignment=Assignment(frame, 1),
        holdout=None,
        one=one,
    )


def with_rows(prepared: Prepared, rows: pl.DataFrame) -> Prepared:
    """Return a run of one fold that trains on more rows, numbered past its own.

    Args:
        prepared: of `of_all_rows`.
        rows: with the columns that the run's rows have, or some of them.
    """
    known, frame = prepared.assignment.frame, prepared.frame
    begin = int(known["row"].max()) + 1  # type: ignore[arg-type]
    numbers = pl.int_range(begin, begin + rows.height, dtype=pl.Int64, eager=True)
    added = rows.select(name for name in frame.columns if name in rows.columns)
    added = added.with_columns(row=numbers)
    more = pl.DataFrame({"row": numbers}).with_columns(
        repeat=pl.lit(1, dtype=pl.Int32),
        role=pl.lit("train_only"),
        inner_of=pl.lit([], dtype=pl.List(pl.Int32)),
        unused_in=pl.lit([], dtype=pl.List(pl.Int32)),
    )
    return replace(
        prepared,
        frame=pl.concat([frame, added], how="diagonal_relaxed").cast(frame.schema),
        assignment=Assignment(pl.concat([known, more], how="diagonal"), 1),
    )
