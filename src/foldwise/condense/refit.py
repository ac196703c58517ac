"""Refit: the members that a run answers with, fitted once on the rows of all folds.

In: a finished run. Out: `RUN/refit/`, a fold's folder with those members (the fine-tuned model only
where it has a vote), which keep the answer's weights, and what they come to on the holdout beside
the folds' answer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console

from foldwise.condense.one import make, open_finished
from foldwise.condense.rows import with_rows
from foldwise.errors import FoldwiseError
from foldwise.preparation.prepare import Prepared
from foldwise.run.folder import REFIT, FoldFolder


def refit(
    path: Path,
    *,
    every: bool = False,
    trust_code: bool = False,
    online: bool = False,
    console: Console | None = None,
) -> FoldFolder:
    """Fit the members that vote in a run's answer on the rows of all folds.

    Called again on an interrupted one it goes on where that stopped; a finished one is left alone,
    and measured again where the run was validated anew and answers the holdout otherwise.

    Args:
        path: the run folder of a finished run; its table must still be where the config says.
        every: train on the holdout too; then nothing is left to measure it on.
        trust_code: run the Python files that lie in the run folder.
        online: ask the hub for the backbone.
        console: where progress is shown; None for silence.

    Returns:
        Where they lie.

    Raises:
        FoldwiseError: not a finished run, other data, or `RUN/refit` was made otherwise.
    """
    opened = open_finished(path, trust_code=trust_code, online=online)
    held = opened.prepared.holdout
    if every and held is None:
        raise FoldwiseError(f"{path}: has no holdout; without --all every row is in already")

    def teach(single: Prepared) -> Prepared:
        return (
            with_rows(single, _known(single.task, held)) if every and held is not None else single
        )

    return make(opened, REFIT, opened.chosen.voting, {"all": every}, teach, console)


def _known(task: Any, rows: pl.DataFrame) -> pl.DataFrame:
    # A holdout of its own file may have a label that no fold has.
    if getattr(task, "holds", "label") != "label" or not hasattr(task, "target"):
        return rows
    return rows.filter(pl.col(task.target).cast(pl.String).is_in(task.classes))
