"""One model for all folds, made and measured: a finished run in, a folder like a fold's out.

What is made differs in who votes and which rows teach; all else is here, and is a fold's: it is
trained, sealed, killed, gone on with and loaded by the same code. Nothing that the run itself has
sealed is touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from accelerate import Accelerator
from rich.console import Console

from foldwise.condense.measure import measure
from foldwise.condense.rows import of_all_rows
from foldwise.config.members import MODEL
from foldwise.ensemble.choose import Chosen
from foldwise.errors import FoldwiseError
from foldwise.evaluation.answer import chosen_of
from foldwise.hardware.device import build_accelerator, placement, set_deterministic
from foldwise.members.fold import Members
from foldwise.preparation.build import build_task, open_run
from foldwise.preparation.prepare import Prepared, encode_rows, prepare
from foldwise.preparation.provenance import check_continues
from foldwise.preparation.resolve import resolve_stored
from foldwise.run.contents import Asked, Training
from foldwise.run.files import write_json
from foldwise.run.folder import FoldFolder, RunFolder
from foldwise.run.history import best_epoch
from foldwise.run.leftovers import clear_leftovers
from foldwise.run.lock import lock
from foldwise.run.ones import is_fitted, is_measurable, read_measured
from foldwise.run.readers import read_json
from foldwise.run.seal import add, check, read_metrics
from foldwise.storage.mirror import local_run, mirrored
from foldwise.training.check import check_training
from foldwise.training.fold import train_fold


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


def open_finished(path: Path, *, trust_code: bool, online: bool) -> Opened:
    """Read a finished run's rows, and check that they are those that it was made from.

    Args:
        path: the run folder; its table must still be where the config says.
        trust_code: run the Python files that lie in the run folder.
        online: ask the hub for the backbone.

    Raises:
        FoldwiseError: not a finished run, other data, code that isn't trusted, no backbone.
    """
    run = RunFolder(local_run(path).resolve())  # "." has its token stores beside it too
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
    check_continues(prepared, "put them back, or train a new run on what is there now")
    return Opened(prepared, chosen, build_accelerator(config.training))


def make(
    opened: Opened,
    name: str,
    voting: Sequence[str],
    wanted: Mapping[str, Any],
    teach: Callable[[Prepared], Prepared],
    console: Console | None,
) -> FoldFolder:
    """Fit members on the rows of all folds, and measure them beside the folds' answer.

    What is fitted already is left alone, and measured again where the run's answer to the holdout
    has changed since.

    Args:
        opened: the run.
        name: of the model, one of `ONES`.
        voting: the members that are fitted.
        wanted: JSON values; what was made of other ones is refused.
        teach: given a run of one fold of all rows, returns the rows that are to be trained on.
        console: where progress is shown; None for silence.

    Returns:
        The model's folder.

    Raises:
        FoldwiseError: another process is at work there, or it was made of something else.
    """
    prepared, chosen = opened.prepared, opened.chosen
    one = prepared.run.one(name)
    epochs = _usual_epochs(prepared) if MODEL in voting else 0
    answer = dict(zip(chosen.names, chosen.weights.tolist(), strict=True))
    asked = {"model": name, **wanted, "answer": answer, "epochs": epochs}
    single = None
    if is_fitted(one):
        _check_asked(one, asked)
        if not is_measurable(one) or read_measured(one) is not None:
            return one
    else:
        single = teach(of_all_rows(prepared, one, epochs))
        single = encode_rows(single) if MODEL in voting else single
    with mirrored(one.run, [one]), _claimed(one, asked):
        if single is not None:
            _fit(single, voting, opened.accelerator, console)
        if is_measurable(one):
            measure(prepared, one)
    return one


def _usual_epochs(prepared: Prepared) -> int:
    """Return how long the folds trained until they were best: the mean, in whole epochs."""
    bests = []
    for number in prepared.folds:
        fold = prepared.run.fold(number)
        check(fold.path, "trained", only=[fold.trained.name, fold.history.name])
        ended = read_json(fold.trained, Training)
        epoch = best_epoch(fold.history, ended["best_step"])
        bests.append(float(prepared.config.training.passes) if epoch is None else epoch)
    return max(1, int(fmean(bests) + 0.5))


def _check_asked(one: FoldFolder, asked: dict[str, Any]) -> None:
    """Check that a model that lies there was made, or begun, by the same request.

    Raises:
        FoldwiseError: naming what differs.
    """
    stored, wanted = (_by_voters(each) for each in (read_json(one.asked, Asked), asked))
    differing = [key for key in {**stored, **wanted} if stored.get(key) != wanted.get(key)]
    if differing:
        key = differing[0]
        raise FoldwiseError(
            f"{one.path}: was made with {key} {stored.get(key)!r}, not {wanted.get(key)!r}; remove "
            "it to have it made anew"
        )


def _by_voters(asked: dict[str, Any]) -> dict[str, Any]:
    # Weights that validation moved by a digit need no other fit, only to be measured again.
    weights = asked.get("answer", {})
    return {**asked, "answer": [name for name, weight in weights.items() if weight]}


@contextmanager
def _claimed(one: FoldFolder, asked: dict[str, Any]) -> Iterator[None]:
    # Holds the model's folder, which goes on if it was begun by the same request.
    run = one.run
    with lock(one.path / ".lock", f"{one.title} of {run.path}"):
        if one.asked.exists() or one.trained.exists():
            _check_asked(one, asked)
        with lock(run.path / ".lock", f"{run.path}", wait=True):
            clear_leftovers(run, [one])
        if not one.asked.exists():
            write_json(one.asked, asked)
        yield


def _fit(
    single: Prepared, voting: Sequence[str], accelerator: Accelerator, console: Console | None
) -> None:
    one, others = single.fold(1), [name for name in voting if name != MODEL]
    if MODEL in voting:
        train_fold(single, 1, accelerator, console)
    else:
        single.task.fit_rows(single.part(single.assignment.training(1)))
        write_json(one.encoders, single.task.state()["rows"])
        add(one.path, "fitted", [one.asked, one.encoders])
    Members(single, accelerator, others).fit(1)
