"""What of a run can go: nothing that a finished run needs, nothing that a running one holds.

In: a run folder. Out: files and folders with what they are and their size. The run's own locks are
held while anything is looked for or removed, so a run at work is refused, and none can begin.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from foldwise.errors import FoldwiseError
from foldwise.run.folder import GROUPS, FoldFolder, RunFolder
from foldwise.run.leftovers import find_leftovers
from foldwise.run.lock import lock
from foldwise.upkeep.standing import standing_of


@dataclass(frozen=True)
class Waste:
    """Something that can go.

    Attributes:
        path: a file or folder.
        why: what it is.
        size_bytes: what its files take.
    """

    path: Path
    why: str
    size_bytes: int


def waste_of(run: RunFolder) -> list[Waste]:
    """List what of a run can go.

    Args:
        run: the run; token stores, near-duplicates and vectors are those of all runs beside it.

    Raises:
        FoldwiseError: not a run folder, or a process is at work on it.
    """
    run.check_is_run()
    with _held(run) as folds:
        return [Waste(path, why, taken(path)) for path, why in _found(run, folds)]


def remove(run: RunFolder, waste: Sequence[Waste]) -> list[Waste]:
    """Remove what was listed and can still go.

    Args:
        run: the run.
        waste: from `waste_of`.

    Returns:
        What was removed.

    Raises:
        FoldwiseError: a process is at work on the run, or something can't be removed.
    """
    with _held(run) as folds:
        still = {path for path, _ in _found(run, folds)}
        gone = [item for item in waste if item.path in still]
        for item in gone:
            discard(item.path, run)
        return gone


@contextmanager
def _held(run: RunFolder) -> Iterator[list[FoldFolder]]:
    """Hold the locks of the run and of the folds and models for all folds that it has."""
    folds = [*map(run.fold, run.fold_numbers()), *run.ones()]
    with ExitStack() as held:
        for fold in folds:
            held.enter_context(lock(fold.path / ".lock", f"{fold.title} of {run.path}"))
        held.enter_context(lock(run.path / ".lock", f"{run.path}"))
        yield folds


def _found(run: RunFolder, folds: Sequence[FoldFolder]) -> Iterator[tuple[Path, str]]:
    for path in find_leftovers(run, folds):
        yield path, "half written by a process that has ended"
    for fold in folds:
        # Not before: of an unfinished fold they may be all there is to get something back from.
        if fold.trained.exists() and (fold.for_all or fold.validation.exists()):
            for path in sorted(fold.checkpoints.glob("damaged-*")):
                yield path, "damaged checkpoint of a fold that is done"
    # The run's own locks are ours now, so of itself only the files are asked.
    if run.finished:
        yield from made_again(run, {run.path})


def made_again(run: RunFolder, but: Collection[Path]) -> Iterator[tuple[Path, str]]:
    """Yield what runs share and can be made again, where each is done.

    Args:
        run: one of them.
        but: folders of runs that aren't asked.
    """
    runs = [RunFolder(path.parent) for path in run.path.parent.glob("*/config.yaml")]
    try:
        states = [standing_of(other).state for other in runs if other.path not in but]
    except FoldwiseError:  # one that nobody can read may be in use
        return
    if any(state != "done" for state in states):
        return
    if not run.token_stores.is_symlink():
        for path in sorted(run.token_stores.glob("[0-9a-f]*")):
            what = "near-duplicates" if path.suffix == GROUPS else "token store"
            yield path, f"{what}; no run beside it is unfinished, and it can be made again"
    if not run.embeddings.is_symlink():
        for path in sorted(run.embeddings.glob("[0-9a-f]*")):
            yield path, "vectors of texts; no run beside it is unfinished, they can be made again"


def discard(path: Path, run: RunFolder) -> None:
    """Remove a file or folder of a run, or beside it.

    Raises:
        FoldwiseError: it can't be removed.
    """
    try:
        _remove(path, run)
    except OSError as error:
        raise FoldwiseError(
            f"{error.filename or path}: can't be removed ({error.strerror}); look at its "
            "permissions and give the command again"
        ) from None


def _remove(path: Path, run: RunFolder) -> None:
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
    elif path.parent == run.token_stores:
        # Under a name that `clear_leftovers` knows first: half a store is never read.
        doomed = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        os.rename(path, doomed)
        shutil.rmtree(doomed)
    else:
        shutil.rmtree(path)


def taken(path: Path) -> int:
    """Return the bytes that a file takes, or the files of a folder."""
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size
    return sum(file.lstat().st_size for file in path.rglob("*") if not file.is_dir())
