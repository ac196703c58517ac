"""Calls as processes of this machine, each with its share of cores and GPUs."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from foldwise.places.place import THREADS, Call

_MAIN = "from foldwise.places.leash import hold; hold(); from foldwise.cli import main; main()"


class Process:
    """A call in a process of its own, which ends with this one.

    Args:
        call: what it does.
        environment: of it.
        folder: where it works; None for this process's.
        freed: is called once it has ended.
    """

    def __init__(
        self,
        call: Call,
        environment: Mapping[str, str],
        folder: str | None = None,
        freed: Callable[[], None] | None = None,
    ) -> None:
        self.call, self.freed = call, freed
        self.process = subprocess.Popen(
            command_of(call.arguments),
            env=environment,
            cwd=folder,
            stdin=subprocess.PIPE,  # its leash
            stdout=subprocess.PIPE if call.whole else subprocess.DEVNULL,
            stderr=subprocess.STDOUT if call.whole else subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def ended(self) -> int | None:
        """Return the exit code, once all it said has been told; None while it runs."""
        code = self.process.poll()
        if code is not None:
            self._end()
        return code

    def stop(self) -> None:
        """Ask it to end."""
        if self.process.poll() is None:
            self.process.terminate()

    def wait(self) -> None:
        """Wait for its end."""
        self.process.wait()
        self._end()

    def _read(self) -> None:
        lines = self.process.stdout if self.call.whole else self.process.stderr
        assert lines is not None
        for line in lines:
            self.call.tell(line.rstrip("\n"))

    def _end(self) -> None:
        self.reader.join()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        if self.freed is not None:
            self.freed()
            self.freed = None


class Here:
    """This machine.

    Args:
        room: processes at a time. The only one has all of the machine.
        gpus: names for CUDA_VISIBLE_DEVICES, dealt to the processes in turn; none: as it is.
    """

    def __init__(self, room: int, gpus: Sequence[str] = ()) -> None:
        self._room, self.gpus = room, gpus
        self.free = list(range(room))

    @property
    def room(self) -> int:
        """How many processes at a time."""
        return self._room

    def start(self, call: Call) -> Process:
        """Start a call in a process, with the share of one that has ended, or of none yet."""
        share = self.free.pop(0)

        def freed() -> None:
            self.free = sorted([*self.free, share])

        return Process(call, self._environment(share), freed=freed)

    def _environment(self, share: int) -> dict[str, str]:
        environment = dict(os.environ)
        if self.room == 1:
            return environment
        asked = environment.get("OMP_NUM_THREADS")
        threads = shares_of(len(os.sched_getaffinity(0)), self.room, asked)
        environment |= dict.fromkeys(THREADS, str(threads))
        if self.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self.gpus[share % len(self.gpus)]
        return environment


def command_of(arguments: Sequence[str]) -> list[str]:
    """Return the command of a call that ends with what started it."""
    return [sys.executable, "-c", _MAIN, *arguments]


def shares_of(cores: int, jobs: int, asked: str | None) -> int:
    """Return the threads of each process: its share of the cores, or of OMP_NUM_THREADS."""
    whole = int(asked) if asked and asked.isdigit() and int(asked) else cores
    return max(1, whole // jobs)


def gpus_here() -> list[str]:
    """Return names for CUDA_VISIBLE_DEVICES of the GPUs that this process may use."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name]
    if not Path("/dev/nvidia0").exists():  # torch takes seconds to say the same
        return []
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]
