"""A single fold that trains on the rows of all: a finished run in, a folder like a fold's out.

It has no row to score and none to pick an epoch, so it trains as long as cross-validation found
best and keeps the last weights. All else is a fold's: it is trained, sealed, killed, gone on with
and loaded by the same code. Nothing that the run itself has sealed is touched.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import polars as pl
from accelerate import Accelerator

from foldwise.config.members import MODEL
from foldwise.ensemble.choose import Chosen
from foldwise.errors import FoldwiseError
from foldwise.evaluation.answer import chosen_of
from foldwise.hardware.device import build_accelerator, placement, set_deterministic
from foldwise.preparation.build import build_task, open_run
from foldwise.preparation.prepare import Prepared, prepare
from foldwise.preparation.provenance import check_continues
from foldwise.preparation.resolve import resolve_stored
from foldwise.run.contents import Asked, Training
from foldwise.run.files import write_json
from foldwise.run.folder import FoldFolder, RunFolder
from foldwise.run.history import best_epoch
from foldwise.run.leftovers import clear_leftovers
from foldwise.run.lock import lock
from foldwise.run.readers import read_json
from foldwise.run.seal import check, read_metrics
from foldwise.split.assignment import Assignment
from foldwise.training.check import check_training


@dataclass(frozen=True)
class Opened:
    """A finished run, ready for one more training.

    Attributes:
        prepared: its rows and folds, not encoded yet.
        chosen: what it answers with.
        accelerator: device and precision.
    """

    prepared: Prepared
    chosen: Chosen
    accelerator: Accelerator

    @property
    def members(self) -> list[str]:
        """The members of its answer, beside the model."""
        return [name for name in self.chosen.voting if name != MODEL]

    @property
    def weights(self) -> dict[str, float]:
        """Its answer, as a JSON value."""
        return dict(zip(self.chosen.names, self.chosen.weights.tolist(), strict=True))


def open_finished(path: Path, *, trust_code: bool, online: bool) -> Opened:
    """Read a finished run's rows, and check that they are those that it was made from.

    Args:
        path: the run folder; its table must still be where the config says.
        trust_code: run the Python files that lie in the run folder.
        online: ask the hub for the backbone.

    Raises:
        FoldwiseError: not a finished run, other data, code that isn't trusted, no backbone.
    """
    run = RunFolder(path.resolve())  # "." has its token stores beside it too
    stored, code = open_run(run, trust_code=trust_code)
    if not run.finished:
        raise FoldwiseError(f"{path}: isn't finished; go on with it first, by foldwise train")
    chosen = chosen_of(read_metrics(run))
    set_deterministic(stored.run.deterministic, placement(stored.training)[0])
    config = resolve_stored(stored)
    # As for a new run: the backbone's pretrained weights are where training begins.
    task = build_task(config, code, stores=run.token_stores)
    prepared = prepare(config, code, run, task, online=online)
    check_training(config.model_copy(update={"trackers": []}), code)
    check_continues(prepared)
    return Opened(prepared, chosen, build_accelerator(config.training))


def of_all_rows(prepared: Prepared, one: FoldFolder, epochs: int) -> Prepared:
    """Return a run of one fold that trains on the rows of all, the holdout aside.

    Args:
        prepared: the run's.
        one: where the fold lies.
        epochs: how long it trains; the schedule ends with them.

    Raises:
        FoldwiseError: the run's schedule follows scores, and no row is left to have any.
    """
    config = prepared.config
    if config.schedule.name == "plateau":
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


def usual_epochs(prepared: Prepared) -> int:
    """Return how long the folds trained until they were best: the mean, in whole epochs."""
    bests = []
    for number in prepared.folds:
        fold = prepared.run.fold(number)
        check(fold.path, "trained", only=[fold.trained.name, fold.history.name])
        ended = read_json(fold.trained, Training)
        epoch = best_epoch(fold.history, ended["best_step"])
        bests.append(float(prepared.config.training.passes) if epoch is None else epoch)
    return max(1, int(fmean(bests) + 0.5))


@contextmanager
def claimed(one: FoldFolder, asked: dict[str, Any]) -> Iterator[None]:
    """Hold the model's folder, which goes on if it was begun by the same request.

    Args:
        one: where it lies, or is to.
        asked: what it is made of.

    Raises:
        FoldwiseError: another process is at work there, or it was made of something else.
    """
    run = one.run
    with lock(one.path / ".lock", f"{one.title} of {run.path}"):
        if one.asked.exists() or one.trained.exists():
            check_asked(one, asked)
        with lock(run.path / ".lock", f"{run.path}", wait=True):
            clear_leftovers(run, [one])
        if not one.asked.exists():
            write_json(one.asked, asked)
        yield


def check_asked(one: FoldFolder, asked: dict[str, Any]) -> None:
    """Check that a model that lies there was made, or begun, by the same request.

    Raises:
        FoldwiseError: naming what differs.
    """
    stored = read_json(one.asked, Asked)
    differing = [key for key in {**stored, **asked} if stored.get(key) != asked.get(key)]
    if differing:
        key = differing[0]
        raise FoldwiseError(
            f"{one.path}: was made with {key} {stored.get(key)!r}, not {asked.get(key)!r}; remove "
            "it to have it made anew"
        )
