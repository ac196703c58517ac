"""A whole run folder against its seals: what differs, is gone, or isn't known; sealing it anew.

In: a run folder, finished or not. Out: one line a finding; none means that every file which gives
the run its meaning is as it was sealed. Files that no number comes from (report.html, charts,
trackers' folders, hidden files) may hold anything.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path

from foldwise.errors import FoldwiseError
from foldwise.run import checkpoints
from foldwise.run.contents import Event, Logged
from foldwise.run.folder import ONES, FoldFolder, RunFolder
from foldwise.run.manifests import WEIGHTS, steps, verify
from foldwise.run.ones import first_stage
from foldwise.run.readers import read_lines
from foldwise.run.seal import (
    SEAL,
    STAGES,
    add,
    begun_files,
    differences,
    files_of,
    read_seal,
    sealed_folds,
)

_OUTPUT = {"oof.parquet", "holdout.parquet", "members", "metrics.json", "report.html"}
_RUN = {"manifest.json", "log.jsonl", "backbone", "code", SEAL, *_OUTPUT}
_FOLD = re.compile(
    r"checkpoints|members|(best|last|encoders|training|validation|seal)\.json|metrics\.jsonl"
    r"|learning_curves\.png|(predictions|holdout)\.parquet"
)
_ONE = re.compile(r"(asked|measured)\.json|log\.jsonl")
_CHECKPOINT = re.compile(r"(damaged-\d+-)?step-\d{6,}")


def findings(run: RunFolder, trackers: Collection[str]) -> list[str]:
    """Check every file of a run.

    Args:
        run: the run.
        trackers: names of the folders that its trackers write into.

    Returns:
        What is wrong, every line naming its file.
    """
    parts = [_stages(run.path, "begun"), _lines(run.log, Event), _unknown(run, trackers)]
    found = [line for part in parts for line in _told(part)]
    try:
        named = sealed_folds(run)
    except FoldwiseError:  # told already
        named = []
    for number in sorted({*named, *run.fold_numbers()}):
        found += _of_fold(run.fold(number), *(["trained"] if number in named else []))
    for one in run.ones():
        found += [*_of_fold(one), *_told(_lines(one.log, Event))]
    return list(dict.fromkeys(found))


def seal_anew(run: RunFolder, trackers: Collection[str]) -> None:
    """Seal a run as it lies, whatever its seals say.

    Raises:
        FoldwiseError: a file is gone without which it isn't a run.
    """
    record = [run.manifest]
    for path in begun_files(run):
        first = path.relative_to(run.path).parts[0]
        if first not in _OUTPUT and first not in trackers:
            record.append(path)
    add(run.path, "begun", record)
    folds = [run.fold(n) for n in run.fold_numbers() if run.fold(n).trained.exists()]
    for fold in [*folds, *(one for one in run.ones() if _can_be_sealed(one))]:
        _seal_fold(fold)
    if run.finished:
        held = [run.holdout] if run.holdout.exists() else []
        seals = [fold.path / SEAL for fold in folds]
        run.append_log("sealed anew")
        left = [run.out_of_fold, *held, *files_of(run.path / "members"), run.log, *seals]
        add(run.path, "finished", [*left, run.metrics])


def _can_be_sealed(one: FoldFolder) -> bool:
    # What is still in the making isn't; one of members alone has no end to tell it by.
    return one.trained.exists() or first_stage(one) == "fitted"


def _seal_fold(fold: FoldFolder) -> None:
    left = [fold.encoders, *([fold.asked] if fold.for_all else [])]
    if fold.trained.exists():
        left += [fold.best, fold.history, fold.trained]
        add(fold.path, "trained", left, checkpoints.pointed(fold) / WEIGHTS)
    else:
        add(fold.path, "fitted", left)
    held = [fold.holdout] if fold.holdout.exists() else []
    if fold.validation.exists():
        add(fold.path, "validated", [fold.predictions, *held, fold.validation])
    if fold.validation.exists() or fold.for_all:
        add(fold.path, "members", files_of(fold.path / "members"))
    if fold.measured.exists():
        add(fold.path, "measured", [*held, fold.measured])


def _of_fold(fold: FoldFolder, *expected: str) -> list[str]:
    parts = [_stages(fold.path, *expected), _pointers(fold), _checkpoints(fold)]
    parts += [_lines(fold.history, Logged), _unknown_of_fold(fold)]
    return [line for part in parts for line in _told(part)]


def _told(part: Iterator[str]) -> Iterator[str]:
    try:
        yield from part
    except FoldwiseError as error:
        yield str(error)


def _stages(folder: Path, *expected: str) -> Iterator[str]:
    # The stages of the seal, those whose last file is there, and those that must be.
    stages = [*read_seal(folder), *expected]
    for stage, (last, _) in STAGES.items():
        of_run = stage in ("begun", "finished")
        if last is not None and of_run == (folder / "config.yaml").exists():
            stages += [stage] * (folder / last).exists()
    yield from differences(folder, *dict.fromkeys(stages))


def _pointers(fold: FoldFolder) -> Iterator[str]:
    if fold.best.exists():
        checkpoints.pointed(fold, "best")
    if fold.last.exists():
        checkpoints.pointed(fold, "last")
    yield from ()


def _checkpoints(fold: FoldFolder) -> Iterator[str]:
    for step in steps(fold):
        yield from _told(_verified(fold.checkpoints / f"step-{step:06d}"))


def _verified(folder: Path) -> Iterator[str]:
    try:
        manifest = verify(folder)
    except FoldwiseError as error:
        # A manifest has no checksum of its own: where a file doesn't fit it, either may be wrong.
        told = "" if "manifest.json" in str(error) else " (or manifest.json beside it has changed)"
        yield f"{error}{told}"
        return
    for path in sorted(folder.iterdir()):
        if path.name not in {*manifest["files"], "manifest.json"}:
            yield f"{path}: not a file of this checkpoint; remove it"


def _lines(path: Path, holds: type[Event] | type[Logged]) -> Iterator[str]:
    if path.exists():
        read_lines(path, holds)
    yield from ()


def _unknown(run: RunFolder, trackers: Collection[str]) -> Iterator[str]:
    named = read_seal(run.path).get("begun", {})
    known = {*_RUN, *ONES, *trackers, *(f"fold-{n}" for n in run.fold_numbers())}
    known |= {name.partition("/")[0] for name in named}
    finished = read_seal(run.path).get("finished", {})
    files = [*run.path.iterdir(), *(run.code.iterdir() if run.code.is_dir() else [])]
    files += [
        p for p in files_of(run.path / "members") if str(p.relative_to(run.path)) not in finished
    ]
    for path in sorted(files):
        name = str(path.relative_to(run.path))
        of_code = path.parent == run.code and path.name != "__pycache__"
        if not path.name.startswith(".") and (name not in named if of_code else name not in known):
            yield f"{path}: not a file of this run; remove it"


def _unknown_of_fold(fold: FoldFolder) -> Iterator[str]:
    named = {name for entries in read_seal(fold.path).values() for name in entries}
    inside = [*fold.path.iterdir()] if fold.path.is_dir() else []
    below = [*fold.checkpoints.iterdir()] if fold.checkpoints.is_dir() else []
    for path in sorted([*inside, *below, *files_of(fold.path / "members")]):
        known = (_CHECKPOINT if path.parent == fold.checkpoints else _FOLD).fullmatch(path.name)
        if fold.for_all:
            known = known or _ONE.fullmatch(path.name)
        name = str(path.relative_to(fold.path))
        if not known and name not in named and not path.name.startswith("."):
            yield f"{path}: not a file of this fold; remove it"
