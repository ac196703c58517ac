"""Locks are the kernel's (`flock`): they die with their process, so none is ever left behind.

Windows has no `flock`. There nothing is trained or fetched: two processes could write one run. All
that needs no lock works: configs, tables, a look at them, and the models of a finished run.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from foldwise.errors import FoldwiseError
from foldwise.run.files import now, open_in_place
from foldwise.run.space import room_for

try:
    import fcntl
except ModuleNotFoundError:
    fcntl = None  # type: ignore[assignment]


@contextmanager
def lock(path: Path, what: str, *, wait: bool = False) -> Iterator[None]:
    """Hold an exclusive kernel lock while the block runs.

    Args:
        path: the lock file; it stays behind, empty of meaning once nobody holds it.
        what: what is locked, for the message ("fold 1 of runs/cfpb").
        wait: wait for the holder instead of raising.

    Raises:
        FoldwiseError: another process holds the lock (its id, host and start are named), the lock
            file is a link to somewhere else, or this system has no such locks.
    """
    _check_system(what)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = open_in_place(path, os.O_RDWR)
    try:
        if wait:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        elif not _taken(descriptor):
            told = os.pread(descriptor, 1000, 0).decode("utf-8", "replace").strip()
            raise FoldwiseError(
                f"{what} is in use by {told or 'another process'}; wait for it, "
                "or choose another run.name"
            )
        mine = f"process {os.getpid()} on {socket.gethostname()} since {now()}"
        with room_for(path, len(mine)):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, mine.encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _taken(descriptor: int) -> bool:
    # More than once: who only asks, `holder`, has it for an instant.
    for pause_s in (0.01, 0.05, 0.1, None):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if pause_s is not None:
                time.sleep(pause_s)
    return False


def holder(path: Path) -> str | None:
    """Say who holds a lock ("process 4711 on host since ..."); None if nobody does.

    Asking takes the lock for an instant, shared; `lock` waits that long.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        told = os.pread(descriptor, 1000, 0).decode("utf-8", "replace").strip()
        return told or "another process"
    finally:
        os.close(descriptor)
    return None


@cache
def use(path: Path) -> None:
    """Hold a lock, beside others who use the same, until this process ends.

    Args:
        path: the lock file, whose folder is there. Where this system has no locks nothing is held.
    """
    if fcntl is not None:
        descriptor = open_in_place(path, os.O_RDWR)  # closed by the process's end
        fcntl.flock(descriptor, fcntl.LOCK_SH)


@contextmanager
def unused(path: Path) -> Iterator[bool]:
    """Keep others from beginning to `use` a lock while the block runs.

    Yields:
        Whether nobody uses it.
    """
    _check_system(str(path))
    descriptor = open_in_place(path, os.O_RDWR)
    try:
        yield _taken(descriptor)
    finally:
        os.close(descriptor)


def has_locks() -> bool:
    """Say whether this system has them; what labels new rows does without."""
    return fcntl is not None


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder; what the disk refuses meanwhile is one message."""
    _check_system(str(folder))
    handle = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FoldwiseError(
                f"{folder}: another process is fetching or preparing data here: wait for its end"
            ) from error
        yield
    except OSError as error:  # the network's are handled where they occur
        raise FoldwiseError(
            f"{error.filename or folder}: {error.strerror or error}: "
            "check the permissions and the free space"
        ) from error
    finally:
        if handle is not None:
            os.close(handle)


def _check_system(what: str) -> None:
    if fcntl is None:
        raise FoldwiseError(
            f"{what} can't be locked: this system has no flock, so another process could write "
            "there too; use Linux, macOS or, on Windows, WSL"
        )
