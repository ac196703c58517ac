"""Folds side by side: a config in, its run out, made by several calls at one place.

Each call is `foldwise train --folds` with its share of the folds, so a run is the same files
whether one process made it or several: byte for byte, where a process has as many threads. The
first makes the run folder, the others join in, and whichever ends last sums up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from foldwise.errors import FoldwiseError, RunInterrupted
from foldwise.places.place import Call, Place, ending
from foldwise.places.work import Task, do_all
from foldwise.run.folder import RunFolder


def train_side_by_side(
    place: Place,
    command: Sequence[str],
    run: RunFolder,
    shares: Sequence[Sequence[int]],
    tell: Callable[[str], None],
) -> None:
    """Train a run's folds in several calls.

    Args:
        place: where they are at work.
        command: the arguments of `foldwise` that train the config, without --folds.
        run: the run that they make.
        shares: the folds of each call.
        tell: takes each line of progress.

    Raises:
        FoldwiseError: bad input.
        RunInterrupted: a fold stopped, or its process was killed time and again.
    """
    tasks = [
        Task(Call([*command, "--folds", ",".join(map(str, share))], tell), run, share)
        for share in shares
    ]
    stopped: list[str] = []

    def ended(task: Task, code: int) -> None:
        # An end means nothing, a stop to tell once all have ended, or the end of all.
        if code == 2:
            raise FoldwiseError(task.reason)
        if code:
            told = f"a process {ending(code)}: {task.reason}"
            stopped.append(task.reason if code == 1 else told)

    # The first makes the folder: what is wrong with the input is then said once.
    do_all(place, tasks, ended, ready=run.manifest.exists)
    if stopped:
        raise RunInterrupted("; ".join(dict.fromkeys(stopped)))


def dealt(folds: Sequence[int], calls: int) -> list[list[int]]:
    """Deal folds to so many calls, in turn."""
    return [list(folds[number::calls]) for number in range(min(calls, len(folds)))]
