"""Tasks done at a place: as many at a time as it has room for, and again those that are killed.

In: calls in their order. Out: each one's exit code, as it ends. One that is killed, or whose
machine is lost, is started again and goes on from its last checkpoint: as often as it takes while
it gets further, `RESTARTS` times where it doesn't, or `LOSSES` times with its machine.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from foldwise.places.place import LOST, Call, Job, Place, ending
from foldwise.run.folder import RunFolder
from foldwise.run.lock import holder
from foldwise.run.manifests import last_step

RESTARTS = 2  # of a call that is killed time and again at the same checkpoint
LOSSES = 10  # machines come and go for reasons of their own
_PAUSE_S = 30.0
_LOOK_S = 0.2
_LOCKED_S = 300.0  # a lost machine's locks are given back by a file server's lease, at the latest


@dataclass(eq=False)
class Task:
    """A call, and the folds of a run that it works on.

    Attributes:
        call: what is to be done.
        run: the run,
        folds: and those of its folds.
        restarts: how often it was started again where it stood,
        losses: and how often after its machine was lost.
        begun: whether it was started ever.
        said: the errors that it told, in their order, without the word in front.
        stood: where its folds stood when it was last started: step, and whether done.
        lost: when it was killed, by the monotonic clock.
    """

    call: Call
    run: RunFolder
    folds: Sequence[int]
    restarts: int = 0
    losses: int = 0
    begun: bool = False
    said: list[str] = field(default_factory=list)
    stood: list[tuple[int, bool]] = field(default_factory=list)
    lost: float | None = None

    @property
    def reason(self) -> str:
        """What it last said."""
        return self.said[-1] if self.said else "it said nothing"

    def start(self, place: Place) -> Job:
        """Start the call; what it tells of an error is kept, not passed on."""
        self.stood, self.lost, self.begun = self._stands(), None, True
        return place.start(replace(self.call, tell=self._hear))

    def again(self, code: int) -> bool:
        """Say, of one that was killed or lost, whether it is to be started again."""
        if self._stands() != self.stood:
            self.restarts = self.losses = 0
        self.restarts += code != LOST
        self.losses += code == LOST
        self.lost = time.monotonic()
        return self.restarts <= RESTARTS and self.losses <= LOSSES

    def free(self) -> bool:
        """Say whether it may be started: nothing holds its folds that was there before its death.

        One that is lost time and again is given a while, too, longer from time to time.
        """
        since = 0.0 if self.lost is None else time.monotonic() - self.lost
        if self.losses > 1 and since < min(_PAUSE_S, 2.0**self.losses):
            return False
        if self.lost is None or since > _LOCKED_S:
            return True
        return not any(holder(self.run.fold(n).path / ".lock") for n in self.folds)

    def _stands(self) -> list[tuple[int, bool]]:
        folders = [self.run.fold(number) for number in self.folds]
        return [(last_step(folder) or 0, folder.validation.exists()) for folder in folders]

    def _hear(self, line: str) -> None:
        word, _, rest = line.partition(": ")
        if word in ("error", "stopped"):
            self.said.append(rest)
        if self.call.whole or word not in ("error", "stopped"):
            self.call.tell(line)


def do_all(
    place: Place,
    tasks: Sequence[Task],
    ended: Callable[[Task, int], None],
    *,
    began: Callable[[Task], None] = lambda task: None,
    ready: Callable[[], bool] = lambda: True,
) -> None:
    """Do tasks, in their order; whatever ends this ends all of them.

    Args:
        place: where.
        tasks: what.
        ended: takes a task that has ended and its exit code.
        began: takes a task that is started for the first time.
        ready: whether a second one may be started beside the first.
    """
    waiting, running = deque(tasks), list[tuple[Task, Job]]()
    try:
        while waiting or running:
            while waiting and len(running) < place.room and (not running or ready()):
                if (task := next((task for task in waiting if task.free()), None)) is None:
                    break
                waiting.remove(task)
                if not task.begun:
                    began(task)
                running.append((task, task.start(place)))
            time.sleep(_LOOK_S)
            for task, job in list(running):
                if (code := job.ended()) is None:
                    continue
                running.remove((task, job))
                if code < 0 and task.again(code):
                    told = f"a process {ending(code)}; it goes on from its last checkpoint"
                    task.call.tell(told)
                    waiting.appendleft(task)
                else:
                    ended(task, code)
    finally:
        for _, job in running:
            job.stop()
        for _, job in running:
            job.wait()


def train_call(config: Path, overrides: Sequence[str]) -> list[str]:
    """Return the arguments that train a config in the process that they are given to.

    Args:
        config: the YAML file.
        overrides: `key=value` texts of --set.
    """
    changed = [part for text in (*overrides, "run.on=null") for part in ("--set", text)]
    return ["train", str(config), *changed]
