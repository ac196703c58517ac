"""Whatever befalls the checkpoint store, the newest committed step is found and none is lost."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from chaos.disk import Disk
from chaos.faults import Event, watched
from foldwise.errors import FoldwiseError, RunInterrupted
from foldwise.run import checkpoints
from foldwise.run.checkpoints import Checkpoint
from foldwise.run.folder import FoldFolder
from foldwise.run.lock import lock
from foldwise.run.manifests import steps, verify

FILES = ("manifest.json", "model.safetensors", "optimizer.safetensors", "state.json")
KEPT = 2


class Killed(BaseException):
    """Not an Exception, like a kill: no handler may turn it into something else."""


def checkpoint(step: int, last: bool) -> Checkpoint:
    weight = torch.full((2, 3), step / 7)
    optimizer = {"0.exp_avg": weight / 3} if last else {}
    return Checkpoint(step, {"weight": weight}, optimizer, {"progress": {"step": step}})


class Store(RuleBasedStateMachine):
    """A training that saves, dies, is damaged and goes on, beside what must hold.

    `committed` has the steps whose save came to its end (or, in a kill, to the rename), each with
    whether training can go on from it; `damaged` those that were harmed afterwards.
    """

    def __init__(self) -> None:
        super().__init__()
        self.top = Path(tempfile.mkdtemp(prefix="store-"))
        # `Disk` stands for the disk; the real one need not be waited for.
        self.fsync = mock.patch.object(os, "fsync", return_value=None)
        self.fsync.start()
        self.fold = FoldFolder(self.top / "a" / "fold-1", 1)
        self.fold.path.mkdir(parents=True)
        self.committed: dict[int, bool] = {}
        self.damaged: set[int] = set()
        self.step = 0
        self.moves = 0

    def teardown(self) -> None:
        self.fsync.stop()
        shutil.rmtree(self.top)

    @initialize(pattern=st.lists(st.sampled_from(("best", "last", "both")), min_size=9, max_size=9))
    def plan(self, pattern: list[str]) -> None:
        """What is saved at a step follows from the step, as in a training that goes on."""
        self.pattern = pattern

    @rule()
    def save(self) -> None:
        self.step += 1
        self._save(self.step)
        self._commit(self.step)

    @rule(at=st.integers(1, 120), power=st.booleans())
    def crash_while_saving(self, at: int, power: bool) -> None:
        """Die at a file operation of a save; with the power cut, lose what wasn't fsynced."""
        step = self.step + 1
        disk = Disk(self.fold.path.parent)
        seen = {"moment": 0, "renamed": False}
        final = str(self.fold.checkpoints / f"step-{step:06d}")

        def before(event: Event) -> None:
            seen["moment"] += 1
            if seen["moment"] >= at:
                raise Killed

        def after(event: Event) -> None:
            disk.after(event)
            seen["renamed"] |= event.kind == "rename" and event.path == final
            before(event)  # a file that was opened for writing is empty now

        finished = False
        with watched(self.top, before, after), suppress(Killed):
            self._save(step)
            finished = True
        if power:
            disk.cut_power()
        disk.close()
        if finished:
            self.step = step
            self._commit(step)
        elif seen["renamed"] and not power:
            self._keep(step)
        else:
            # What a save had begun to replace is neither promised nor forbidden to be there.
            self.committed.pop(step, None)
            self.damaged.discard(step)
            if self._sound(step):
                self._keep(step)
        self._forget_pruned()
        self.resume()

    @rule(at=st.integers(1, 30))
    def second_writer(self, at: int) -> None:
        """Another writer comes in the midst of a save that holds the fold's lock."""
        path = self.fold.path / ".lock"
        numbers = iter(range(1, 10**6))
        refused: list[str] = []

        def before(event: Event) -> None:
            if next(numbers) == at:
                with pytest.raises(FoldwiseError) as told, lock(path, "the fold"):
                    pass
                refused.append(str(told.value))

        self.step += 1
        with lock(path, "the fold"), watched(self.fold.path.parent, before):
            self._save(self.step)
        assert all(f"in use by process {os.getpid()} on" in words for words in refused)
        self._commit(self.step)

    @precondition(lambda self: self._intact())
    @rule(
        which=st.integers(0, 9), name=st.sampled_from(FILES), how=st.integers(0, 9), data=st.data()
    )
    def damage(self, which: int, name: str, how: int, data: Any) -> None:
        """Flip a bit, cut or delete a file of a committed checkpoint."""
        intact = self._intact()
        step = intact[which % len(intact)]
        path = self.fold.checkpoints / f"step-{step:06d}" / name
        if not path.exists():
            path = path.with_name("model.safetensors")
        content = bytearray(path.read_bytes())
        if how == 0:
            path.unlink()
        elif how == 1:
            path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
        else:
            bit = data.draw(st.integers(0, 8 * len(content) - 1))
            content[bit // 8] ^= 1 << bit % 8
            path.write_bytes(content)
        self.damaged.add(step)

    @rule()
    def prune(self) -> None:
        checkpoints.prune(self.fold)
        self._check_kept()
        self._forget_pruned()

    @rule()
    def move(self) -> None:
        """Move the whole run elsewhere."""
        self.moves += 1
        target = self.top / f"moved-{self.moves}"
        os.rename(self.fold.path.parent, target)
        self.fold = FoldFolder(target / "fold-1", 1)

    @rule()
    def resume(self) -> None:
        """Go on from the newest, as the next process does."""
        expected = max(self._resumable(), default=None)
        tried = {s for s, last in self.committed.items() if expected is None or s > expected}
        if expected is None and (tried & self.damaged or self.fold.last.exists()):
            with pytest.raises(RunInterrupted, match=str(self.fold.path)):
                checkpoints.newest(self.fold)
            shutil.rmtree(self.fold.path)  # as it says
            self.fold.path.mkdir()
            self.committed, self.damaged, self.step = {}, set(), 0
            return
        found = checkpoints.newest(self.fold)
        self.step = expected or 0
        if expected is None:
            assert found is None
        else:
            assert found is not None
            same(found, checkpoint(expected, True))
            assert checkpoints.pointed(self.fold, "last") == self._folder(expected)
        for step in tried & self.damaged:
            assert not self._folder(step).exists()
            assert list(self.fold.checkpoints.glob(f"damaged-*-step-{step:06d}"))
        self.committed = {s: last for s, last in self.committed.items() if self._folder(s).exists()}
        self.damaged &= set(self.committed)

    @invariant()
    def nothing_committed_is_lost(self) -> None:
        for step, last in self.committed.items():
            if step not in self.damaged:
                same(checkpoints.load(self._folder(step)), checkpoint(step, last))

    @invariant()
    def nothing_damaged_is_loaded(self) -> None:
        for step in self.damaged:
            with pytest.raises(FoldwiseError, match=f"^{self._folder(step)}"):
                checkpoints.load(self._folder(step))

    def _save(self, step: int) -> None:
        what = self.pattern[step % len(self.pattern)]
        last = what != "best"
        checkpoints.save(self.fold, checkpoint(step, last), best=what != "last", last=last)

    def _commit(self, step: int) -> None:
        # A save that came to its end: it is there, pointed at, and what is needed is kept.
        self._keep(step)
        what = self.pattern[step % len(self.pattern)]
        for pointer in ("best", "last"):
            if what in (pointer, "both"):
                assert checkpoints.pointed(self.fold, pointer) == self._folder(step)
        self._check_kept()
        self._forget_pruned()

    def _keep(self, step: int) -> None:
        self.committed[step] = self.pattern[step % len(self.pattern)] != "best"
        self.damaged.discard(step)

    def _check_kept(self) -> None:
        there = steps(self.fold)
        going = sorted(step for step, last in self.committed.items() if last)
        undamaged = [s for s in going if s not in self.damaged]
        assert set(undamaged[-1:]) <= set(there)
        if not self.damaged:
            assert set(going[-KEPT:]) <= set(there)

    def _forget_pruned(self) -> None:
        there = steps(self.fold)
        self.committed = {s: last for s, last in self.committed.items() if s in there}
        self.damaged &= set(self.committed)

    def _resumable(self) -> list[int]:
        return [s for s, last in self.committed.items() if last and s not in self.damaged]

    def _intact(self) -> list[int]:
        return sorted(set(self.committed) - self.damaged)

    def _folder(self, step: int) -> Path:
        return self.fold.checkpoints / f"step-{step:06d}"

    def _sound(self, step: int) -> bool:
        with suppress(FoldwiseError):
            verify(self._folder(step))
            return True
        return False


def same(found: Checkpoint, expected: Checkpoint) -> None:
    assert (found.step, found.state) == (expected.step, expected.state)
    for left, right in ((found.model, expected.model), (found.optimizer, expected.optimizer)):
        assert left.keys() == right.keys()
        assert all(torch.equal(tensor, right[name]) for name, tensor in left.items())


BOUNDS = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def test_the_newest_committed_step_is_always_found() -> None:
    # Without shrinking, which takes minutes: the failing story is printed whole.
    few = {"max_examples": 15, "stateful_step_count": 20, "phases": [Phase.generate]}
    run_state_machine_as_test(Store, settings=settings(BOUNDS, derandomize=True, **few))


@pytest.mark.slow
def test_the_newest_committed_step_is_found_in_a_thousand_stories() -> None:
    many = settings(BOUNDS, max_examples=1000, stateful_step_count=40)
    run_state_machine_as_test(Store, settings=many)
