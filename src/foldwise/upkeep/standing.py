"""Where a run stands, from its files alone: a run in, a state with its numbers out.

Who is at work is told by the kernel's locks, which die with their process; how far it is by what
training writes down anyway: log.jsonl, a fold's metrics.jsonl, checkpoints and training.json.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from foldwise.config.load import load_config
from foldwise.errors import FoldwiseError
from foldwise.preparation.ownership import folds_of
from foldwise.run import manifests
from foldwise.run.contents import Training, Validation
from foldwise.run.folder import FAILED, NOT_FINITE, STARTS, FoldFolder, RunFolder
from foldwise.run.history import read_history
from foldwise.run.lock import holder
from foldwise.run.ones import is_made
from foldwise.run.readers import read_json
from foldwise.storage.glance import glance
from foldwise.storage.urls import is_url, local_path

State = Literal["done", "running", "stopped", "failed"]
FoldState = Literal["done", "running", "stopped", "failed", "waiting"]
Event = dict[str, Any]
_BEGUN = ("started", "continued", "finished", STARTS)


@dataclass(frozen=True)
class FoldStanding:
    """Where a fold stands.

    Attributes:
        number: the fold, from 1.
        state: waiting: nothing of it is done yet.
        step: optimizer steps done, as far as they are logged.
        steps: of the whole training; None while it hasn't begun.
        epoch: reached; None while it hasn't begun.
        share: done of it, 0 to 1; 1 if it stopped early too.
        saved_step: the step that training would go on from; None where nothing is saved or needed.
        left_s: seconds of training left, at most; None where nobody knows.
        scores: of the validated fold.
    """

    number: int
    state: FoldState
    step: int = 0
    steps: int | None = None
    epoch: float | None = None
    share: float = 0.0
    saved_step: int | None = None
    left_s: float | None = None
    scores: dict[str, float | None] | None = None


@dataclass(frozen=True)
class Standing:
    """Where a run stands.

    Attributes:
        path: its folder, or its URL.
        state: done: scores, report and every fold; running: a process holds one of its locks
            or, of a run in a store, another machine its lease; failed: it ended on an error since
            it was last begun; stopped: it can go on.
        folds: of the run, each.
        share: done of it, 0 to 1.
        left_s: seconds left, at most; None where nobody knows.
        holders: the processes at work.
        message: why it failed, or None.
        updated: when anything was last written down, UTC, ISO 8601.
        ones: the models that stand for all folds, by name, where they were begun.
    """

    path: str
    state: State
    folds: tuple[FoldStanding, ...]
    share: float
    left_s: float | None
    holders: tuple[str, ...]
    message: str | None
    updated: str
    ones: Mapping[str, FoldStanding] = field(default_factory=dict)

    @property
    def at(self) -> FoldStanding | None:
        """The fold under way, or the first that isn't done."""
        unfinished = [fold for fold in self.folds if fold.state != "done"]
        begun = [fold for fold in unfinished if fold.state != "waiting"]
        return next(iter([*begun, *unfinished]), None)

    def as_json(self) -> dict[str, Any]:
        """Return the fields as JSON values, and the number of the fold under way."""
        return {**asdict(self), "fold": self.at.number if self.at else None}


def standing_at(named: str) -> Standing:
    """Say where a run stands that lies at a path, or in a store, of which little is fetched.

    Raises:
        FoldwiseError: no run lies there, or its config can't be read.
        RunInterrupted: the store fails.
    """
    if not is_url(named):
        return standing_of(RunFolder(Path(local_path(named))))
    with glance(named) as (run, elsewhere):
        return replace(standing_of(run, elsewhere), path=named.rstrip("/"))


def standing_of(run: RunFolder, elsewhere: str | None = None) -> Standing:
    """Say where a run stands; nothing is written and nobody is kept waiting.

    Args:
        run: its folder.
        elsewhere: who is at work on it on a machine whose locks aren't seen here.

    Raises:
        FoldwiseError: not a run folder, or its config can't be read.
    """
    run.check_is_run()
    folds = [run.fold(number) for number in folds_of(load_config(run.config))]
    events = run.events()
    places = (run.path, *(fold.path for fold in folds))
    holders = {folder: elsewhere or holder(folder / ".lock") for folder in places}
    held = {folder: _process(who) for folder, who in holders.items() if who is not None}
    failed = _failure(events)
    done = run.finished and run.report.exists() and all(_is_done(fold) for fold in folds)
    state: State = "running" if held else "done" if done else "failed" if failed else "stopped"
    at_work = {_newest(folds, events, held, process) for process in held.values()}
    if state == "failed":
        at_work = {_newest(folds, events)}
    stood = [_fold_standing(fold, events, state, fold.number in at_work) for fold in folds]
    stood = _with_time_left(stood, [_seconds_a_step(fold, events) for fold in folds])
    lefts = [fold.left_s for fold in stood if fold.left_s is not None]
    processes = tuple(dict.fromkeys(held.values()))
    written = [run.log, run.config, *(fold.history for fold in folds)]
    newest = max(path.stat().st_mtime for path in written if path.exists())
    return Standing(
        path=str(run.path),
        state=state,
        folds=tuple(stood),
        share=fmean(fold.share for fold in stood),
        # Processes side by side share the folds.
        left_s=sum(lefts) / max(1, len(processes)) if len(lefts) == len(stood) else None,
        holders=processes,
        message=failed if state == "failed" else None,
        updated=datetime.fromtimestamp(newest, UTC).isoformat(timespec="seconds"),
        ones={one.path.name: _one_standing(one, elsewhere) for one in run.ones()},
    )


def _one_standing(one: FoldFolder, elsewhere: str | None) -> FoldStanding:
    events = one.events()
    at_work = holder(one.path / ".lock") or (elsewhere if not is_made(one) else None)
    state: FoldState = "stopped" if at_work is None else "running"
    stood = _fold_standing(one, events, "running", state == "running")
    if is_made(one) and state == "stopped":  # one of members alone has no steps
        stood = replace(stood, state="done", share=1.0)
    else:
        stood = replace(stood, state=state)
    return _with_time_left([stood], [_seconds_a_step(one, events)])[0]


def _is_done(fold: FoldFolder) -> bool:
    return fold.trained.exists() and fold.validation.exists()


def _process(who: str) -> str:
    # Without the time, which differs between the locks that a process takes.
    return who.partition(" since ")[0]


def _failure(events: Sequence[Event]) -> str | None:
    """Return the error that ended the run, unless it was begun again since."""
    for event in reversed(events):
        if event["event"] == FAILED:
            return str(event.get("error"))
        if event["event"] == NOT_FINITE:
            fold, step, loss = (event.get(key) for key in ("fold", "step", "loss"))
            return f"fold {fold}, step {step}: the loss was {loss}"
        if event["event"] in _BEGUN:
            return None
    return None


def _newest(
    folds: Sequence[FoldFolder],
    events: Sequence[Event],
    held: Mapping[Path, str] | None = None,
    process: str = "",
) -> int | None:
    """Return the fold that was begun last and isn't done, of all or of those a process holds."""
    mine = {
        fold.number
        for fold in folds
        if not _is_done(fold) and (held is None or held.get(fold.path) == process)
    }
    begun = [event.get("fold") for event in events if event["event"] == STARTS]
    return next((number for number in reversed(begun) if number in mine), None)


def _fold_standing(
    fold: FoldFolder, events: Sequence[Event], run_state: State, at_work: bool
) -> FoldStanding:
    begun = [e for e in events if e["event"] == STARTS and e.get("fold") == fold.number]
    steps = begun[-1].get("steps") if begun else None
    history = read_history(fold.history)
    step, epoch = (history[-1]["step"], history[-1]["epoch"]) if history else (0, None)
    if _is_done(fold):
        scores = read_json(fold.validation, Validation)["scores"]
        return FoldStanding(fold.number, "done", step, steps, epoch, 1.0, scores=scores)
    state: FoldState = "stopped" if begun else "waiting"
    if at_work:
        state = "failed" if run_state == "failed" else "running"
    if fold.trained.exists():  # and not validated yet
        return FoldStanding(fold.number, state, step, steps, epoch, 1.0)
    share = step / steps if steps else 0.0
    saved = manifests.last_step(fold)
    return FoldStanding(fold.number, state, step, steps, epoch, share, saved)


def _with_time_left(
    stood: Sequence[FoldStanding], paces: Sequence[float | None]
) -> list[FoldStanding]:
    """Add what each fold takes, by its own pace or, before it has one, by that of the others."""
    known = [pace for pace in paces if pace is not None]
    lengths = [fold.steps for fold in stood if fold.steps is not None]
    timed = []
    for fold, own in zip(stood, paces, strict=True):
        pace = own if own is not None else fmean(known) if known else None
        steps = fold.steps if fold.steps is not None else max(lengths, default=None)
        left = 0.0 if fold.share == 1.0 else None
        if left is None and pace is not None and steps is not None:
            # What is stopped goes on from what is saved.
            done = fold.step if fold.state == "running" else fold.saved_step or 0
            left = round(pace * max(0, steps - done), 1)
        timed.append(replace(fold, left_s=left))
    return timed


def _seconds_a_step(fold: FoldFolder, events: Sequence[Event]) -> float | None:
    if fold.trained.exists():
        ended = read_json(fold.trained, Training)
        return float(ended["elapsed_s"] / max(1, ended["steps"]))
    saved = manifests.last_step(fold)
    if saved is not None:
        try:
            state = read_json(manifests.folder_of(fold, saved) / "state.json")
        except FoldwiseError:  # pruned in this very moment: the next question has an answer
            return None
        return float(state["progress"]["elapsed_s"] / max(1, saved))
    # Nothing saved yet: it began at step 0, and the history's time is its last line's.
    starts = [e for e in events if e["event"] == STARTS and e.get("fold") == fold.number]
    history = read_history(fold.history)
    if not history or not starts or "time" not in starts[-1]:
        return None
    began = datetime.fromisoformat(starts[-1]["time"]).timestamp()
    return float(max(0.0, fold.history.stat().st_mtime - began) / max(1, history[-1]["step"]))
