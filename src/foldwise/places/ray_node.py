"""What is at work on a machine of a Ray: a call as a process there, held by an actor of Ray's.

Ray brings this module's names to each machine; the code is that of the Foldwise installed there, so
it is checked first that it is the same, and that the same files lie under the same names.
"""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from foldwise.errors import FoldwiseError
from foldwise.places.place import Call
from foldwise.places.processes import Process
from foldwise.run.files import sha256

# Makes what works on things, and says what it is; imports what it needs where it is called.
Make = Callable[[], tuple[Mapping[str, Any], Callable[[Any], Any]]]
_SAME = ("foldwise", "torch", "transformers", "polars")  # versions that a run's bytes hang on
_FOLLOW_S = 1.0
# What each machine says for itself; the rest of the environment is that of the command.
_OF_MACHINE = ("PATH", "LD_LIBRARY_PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "HOSTNAME")
_OF_RAY = ("RAY_", "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")


@dataclass(frozen=True)
class Expected:
    """What must be the same on every machine.

    Attributes:
        folder: where the command was given; calls work there.
        files: sha256 of files, by their whole path.
        versions: of Python and of packages.
        environment: the command's, without what each machine says for itself.
    """

    folder: str
    files: Mapping[str, str]
    versions: Mapping[str, str]
    environment: Mapping[str, str]

    def differs(self) -> str | None:
        """Say what isn't the same on the machine that asks; None where all is."""
        for name, wanted in self.versions.items():
            if (found := versions().get(name)) != wanted:
                return f"has {name} {found or '(none)'}, not {wanted}: install the same everywhere"
        if not os.path.isdir(self.folder):
            return f"has no folder {self.folder}{_SHARED}"
        for path, wanted in self.files.items():
            if not os.path.isfile(path):
                return f"doesn't see {path}{_SHARED}"
            if sha256(Path(path)) != wanted:
                return f"has another file under {path}{_SHARED}"
        return None


_SHARED = ": all machines must share the disk that it lies on, under the same path"


def expected(files: Mapping[str, str]) -> Expected:
    """Return what the other machines must have in common with this one.

    Args:
        files: sha256 by whole path.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in _OF_MACHINE and not name.startswith(_OF_RAY)
    }
    return Expected(os.getcwd(), files, versions(), kept)


def versions() -> dict[str, str]:
    """Return the versions that a run's bytes hang on, as they are here."""
    found = {"Python": platform.python_version()}
    for name in _SAME:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def look(wanted: Expected) -> str | None:
    """Say what isn't the same on the machine where Ray runs this."""
    return wanted.differs()


class Holder:
    """Something large on a machine of a Ray, and work on things by it.

    Args:
        wanted: what must be the same here.
        settings: variables of the environment.
    """

    def __init__(self, wanted: Expected, settings: Mapping[str, str]) -> None:
        self.wanted = wanted
        os.environ.update({**wanted.environment, **settings})  # before libraries read it
        self._work: Callable[[Any], Any] | None = None

    def hold(self, make: Make) -> Mapping[str, Any]:
        """Make what is held; return what it is."""
        if problem := self.wanted.differs():
            raise FoldwiseError(f"the machine {platform.node()} {problem}")
        os.chdir(self.wanted.folder)
        identity, self._work = make()
        return identity

    def work(self, item: Any) -> Any:
        """Return the answer to a thing."""
        assert self._work is not None
        return self._work(item)


class Worker:
    """A call on a machine of a Ray, as an actor: it ends with the actor, and that with the command.

    Args:
        arguments: of the call.
        whole: whether its stdout is followed too.
        wanted: what must be the same here.
        settings: variables of the call's environment.
    """

    def __init__(
        self, arguments: list[str], whole: bool, wanted: Expected, settings: Mapping[str, str]
    ) -> None:
        self.lines: list[str] = []
        self.news = threading.Event()
        self.process: Process | None = None
        if problem := wanted.differs():
            self.lines.append(f"error: the machine {platform.node()} {problem}")
            return
        environment = {**os.environ, **wanted.environment, **settings}
        self.process = Process(Call(arguments, self._hear, whole), environment, wanted.folder)

    def follow(self, seen: int) -> tuple[list[str], int | None]:
        """Return what it said after so many lines, and its exit code; wait a moment for either."""
        if self.process is None:
            return self.lines[seen:], 2
        until = time.monotonic() + _FOLLOW_S
        while (code := self.process.ended()) is None and len(self.lines) == seen:
            if time.monotonic() >= until:
                break
            self.news.wait(0.1)
            self.news.clear()
        return self.lines[seen:], code

    def stop(self) -> None:
        """Ask the call to end."""
        if self.process is not None:
            self.process.stop()

    def _hear(self, line: str) -> None:
        self.lines.append(line)
        self.news.set()
