"""What befalls a command: a signal, a fault of the disk or a gradient that is no number."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from chaos.faults import WRITES, Event


class Fate:
    """Counts a process's file operations and strikes at one of them.

    Args:
        plan: {} for nothing; `at` (the operation's number, from 1) with `signals` (their names; the
            second comes `gap` operations later), `late` (they come after the operation) and
            `delay_s`, or with `error` (ENOSPC stays, EIO passes); `nan` (the optimizer step, from
            1, whose gradient is spoiled).
        trace: file that takes a line an operation, or None.
    """

    def __init__(self, plan: dict[str, Any], trace: str | None) -> None:
        self.plan = plan
        self.number = 0
        self.left = [signal.Signals[name] for name in plan.get("signals", [])]
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        self.trace = None if trace is None else os.open(trace, flags, 0o644)

    def before(self, event: Event) -> int | None:
        """Count an operation; return the errno it fails with."""
        self.number += 1
        if self.trace is not None:
            os.pwrite(self.trace, f"{event.kind}\t{event.path}\n".encode(), self._end())
        error, since = self.plan.get("error"), self.number - self.plan.get("at", 0)
        if error == "ENOSPC" and since >= 0 and event.kind in WRITES:
            return errno.ENOSPC
        if error == "EIO" and since == 0:
            return errno.EIO
        if not self.plan.get("late"):
            self._strike()
        return None

    def after(self, event: Event) -> None:
        """Strike where that is to come after an operation."""
        if self.plan.get("late"):
            self._strike()

    @contextmanager
    def poisoned(self) -> Iterator[None]:
        """Spoil a gradient at the planned step."""
        import torch

        real, steps = torch.nn.utils.clip_grad_norm_, iter(range(1, 10**9))

        def clip(parameters: Any, *args: Any, **named: Any) -> Any:
            parameters = list(parameters)
            if next(steps) == self.plan.get("nan"):
                parameters[0].grad.view(-1)[0] = float("nan")
            return real(parameters, *args, **named)

        with mock.patch.object(torch.nn.utils, "clip_grad_norm_", clip):
            yield

    def _strike(self) -> None:
        first = len(self.left) == len(self.plan.get("signals", []))
        if not self.left or self.number < self.plan["at"] + (0 if first else self.plan["gap"]):
            return
        number, delay_s = self.left.pop(0), self.plan["delay_s"]
        if delay_s:
            threading.Timer(delay_s, os.kill, (os.getpid(), number)).start()
        else:
            os.kill(os.getpid(), number)

    def _end(self) -> int:
        return os.fstat(self.trace).st_size  # type: ignore[arg-type]
