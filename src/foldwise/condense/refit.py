"""Refit: the members that a run answers with, fitted once on the rows of all folds.

In: a finished run. Out: `RUN/refit/`, a fold's folder with one model (and the other members of the
answer, which keeps its weights), and what it comes to on the holdout beside the folds' answer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console

from foldwise.condense.measure import measure
from foldwise.condense.one import (
    check_asked,
    claimed,
    of_all_rows,
    open_finished,
    usual_epochs,
    with_rows,
)
from foldwise.errors import FoldwiseError
from foldwise.members.fold import Members
from foldwise.preparation.prepare import encode_rows
from foldwise.run.folder import REFIT, FoldFolder
from foldwise.run.seal import is_made
from foldwise.training.fold import train_fold


def refit(
    path: Path,
    *,
    every: bool = False,
    trust_code: bool = False,
    online: bool = False,
    console: Console | None = None,
) -> FoldFolder:
    """Train one model, and the members that vote beside it, on the rows of all folds.

    Called again on an interrupted one it goes on where that stopped; a finished one is left alone.

    Args:
        path: the run folder of a finished run; its table must still be where the config says.
        every: train on the holdout too; then nothing is left to measure it on.
        trust_code: run the Python files that lie in the run folder.
        online: ask the hub for the backbone.
        console: where progress is shown; None for silence.

    Returns:
        The model's folder.

    Raises:
        FoldwiseError: not a finished run, other data, or `RUN/refit` was made otherwise.
    """
    opened = open_finished(path, trust_code=trust_code, online=online)
    prepared, held = opened.prepared, opened.prepared.holdout
    one = prepared.run.one(REFIT)
    if every and held is None:
        raise FoldwiseError(f"{path}: has no holdout; without --all every row is in already")
    asked: dict[str, Any] = {
        "model": REFIT,
        "all": every,
        "epochs": usual_epochs(prepared),
        "answer": opened.weights,
    }
    if is_made(one):
        check_asked(one, asked)
        return one
    single = of_all_rows(prepared, one, asked["epochs"])
    if every and held is not None:
        single = with_rows(single, _known(prepared.task, held))
    single = encode_rows(single)
    with claimed(one, asked):
        train_fold(single, 1, opened.accelerator, console)
        Members(single, opened.accelerator, opened.members).fit(1)
        if held is not None and not every:
            measure(opened, one)
    return one


def _known(task: Any, rows: pl.DataFrame) -> pl.DataFrame:
    # A holdout of its own file may have a label that no fold has.
    if getattr(task, "holds", "label") != "label" or not hasattr(task, "target"):
        return rows
    return rows.filter(pl.col(task.target).cast(pl.String).is_in(task.classes))
