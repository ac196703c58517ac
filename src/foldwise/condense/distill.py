"""Distil: one fine-tuned model that is taught what a run answers (Hinton et al. 2015).

In: a finished run, and more rows without labels if there are any. Out: `RUN/distilled/`, a fold's
folder with the run's model alone, and what it comes to on the holdout beside the folds' answer.

The run's own rows are taught by their out-of-fold answers, which lie in the run: the mean of folds
that have trained on a row is surer of its label, costs five passes and taught no better where it
was tried (docs/experiments.md). Out-of-fold answers are wrong where the run is, so the label has
its share. Rows without labels are taught by the run's answer, which has seen none of them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.console import Console

from foldwise.condense.one import make, open_finished
from foldwise.condense.rows import with_rows
from foldwise.config.grammar import BUILTIN
from foldwise.config.members import MODEL
from foldwise.errors import FoldwiseError
from foldwise.predictor import Predictor
from foldwise.preparation.build import holds
from foldwise.preparation.prepare import Prepared
from foldwise.run.folder import DISTILLED, FoldFolder
from foldwise.run.seal import check
from foldwise.table.written import NewTable
from foldwise.tasks.predictions import read_predictions, values_of
from foldwise.tasks.task import with_taught

LABEL_SHARE = 0.5  # of what a row teaches, beside the answer


def distill(
    path: Path,
    unlabelled: NewTable | None = None,
    *,
    label_share: float = LABEL_SHARE,
    trust_code: bool = False,
    online: bool = False,
    console: Console | None = None,
) -> FoldFolder:
    """Teach one model what a run answers.

    Called again on an interrupted one it goes on where that stopped; a finished one is left alone,
    and measured again where the run was validated anew and answers the holdout otherwise.

    Args:
        path: the run folder of a finished run; its table must still be where the config says.
        unlabelled: more rows to teach the answer to; a target column in it isn't read.
        label_share: 0 to 1: how much a row's own label counts; the rest is the answer.
        trust_code: run the Python files that lie in the run folder.
        online: ask the hub for the backbone.
        console: where progress is shown; None for silence.

    Returns:
        The model's folder.

    Raises:
        FoldwiseError: not a finished run, other data, a task of your own that can't be taught, or
            `RUN/distilled` was made otherwise.
    """
    if not 0 <= label_share <= 1:
        raise FoldwiseError(f"label share {label_share}: must be a number from 0 to 1")
    opened = open_finished(path, trust_code=trust_code, online=online)
    prepared = opened.prepared
    _check_teachable(prepared)
    teacher, more = None, prepared.frame.clear()
    if unlabelled is not None:
        teacher = Predictor(prepared.run.path, trust_code=trust_code, online=online)
        found = teacher.read(
            unlabelled.path,
            labelled=False,
            delimiter=unlabelled.delimiter,
            encoding=unlabelled.encoding,
        )
        more = found.drop(str(prepared.config.data.target), strict=False)
    wanted = {
        "label_share": label_share,
        "unlabelled": None if teacher is None else f"{more.height} rows, {_digest(more)}",
    }

    def teach(single: Prepared) -> Prepared:
        values = _taught(prepared, label_share)
        if teacher is not None:
            single = with_rows(single, more)
            values = np.concatenate([values, values_of(teacher.predict(more))])
        return replace(single, frame=with_taught(single.frame, values))

    return make(opened, DISTILLED, [MODEL], wanted, teach, console)


def _check_teachable(prepared: Prepared) -> None:
    if prepared.config.task not in BUILTIN["task"]:
        raise FoldwiseError(
            f"{prepared.run.path}: task {prepared.config.task} is of your own, and only "
            f"{', '.join(BUILTIN['task'])} can be taught an answer; foldwise refit works with any"
        )


def _taught(prepared: Prepared, label_share: float) -> NDArray[np.float64]:
    """Return what each of the run's rows is taught as, float64 (n, n_outputs)."""
    run, task = prepared.run, prepared.task
    check(run.path, "finished", only=[run.out_of_fold.name])
    table = read_predictions(run.out_of_fold, task)
    names = [name for name in table.columns if name.startswith("prob_")] or ["prediction"]
    # A row has an answer in each repeat; one that no fold scored has none, and its label alone.
    answers = table.group_by("row").agg(pl.col(names).mean())
    rows = prepared.frame.select("row").join(answers, on="row", how="left", maintain_order="left")
    answered = rows[names[0]].is_not_null().to_numpy()
    values = _labels(task, prepared.frame)
    own = rows.select(names).to_numpy()[answered].astype(np.float64)
    values[answered] = label_share * values[answered] + (1 - label_share) * own
    return values


def _labels(task: Any, rows: pl.DataFrame) -> NDArray[np.float64]:
    """Return the rows' labels as an answer that is sure of them."""
    target = np.asarray(task.target_values(rows))
    if holds(task) == "label":
        target = np.eye(len(task.classes))[target]
    labels: NDArray[np.float64] = target.astype(np.float64)
    return labels[:, None] if holds(task) == "number" else labels


def _digest(rows: pl.DataFrame) -> str:
    return str(rows.hash_rows(seed=0).sum())
