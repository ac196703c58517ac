"""File operations under a folder, counted and made to fail, without a hook in the product.

In: a folder and a function that is told each operation before it happens. Out: the same Python, its
file functions wrapped while the block runs. The function may raise (a process dies there) or return
an errno, and the operation then fails as it does on a real disk: a file is left half written, a
library written in Rust says so in its own words.
"""

from __future__ import annotations

import builtins
import errno
import fcntl
import io
import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import polars as pl
import safetensors.torch


@dataclass(frozen=True)
class Event:
    """One file operation.

    Attributes:
        kind: read, write (opened for it, and emptied), append (opened for it, or a write), fsync,
            rename, mkdir, unlink, rmdir, lock, table (by polars) or tensors (by safetensors).
        path: the file or folder; the new name in a rename.
        source: the old name in a rename.
    """

    kind: str
    path: str
    source: str = ""


# What takes space or reaches the disk: the operations that a full or broken disk refuses.
WRITES = frozenset({"write", "append", "fsync", "rename", "mkdir", "table", "tensors"})
# (event) -> errno to fail with, or None; what it raises goes through the product to the top.
Before = Callable[[Event], int | None]


@contextmanager
def watched(
    root: Path, before: Before, after: Callable[[Event], None] = lambda event: None
) -> Iterator[None]:
    """Tell of every file operation under a folder while the block runs.

    Args:
        root: operations elsewhere aren't counted.
        before: told ahead of each operation.
        after: told once it has succeeded.
    """
    top = str(root.resolve())

    def inside(path: str) -> bool:
        return path == top or path.startswith(top + os.sep)

    def called(kind: str, path: str, call: Callable[[], Any], source: str = "") -> Any:
        if not inside(path):
            return call()
        event = Event(kind, path, source)
        if code := before(event):
            raise OSError(code, os.strerror(code), path)
        result = call()
        after(event)
        return result

    def opened(real: Any) -> Any:
        def open_(file: Any, mode: str = "r", *args: Any, **named: Any) -> Any:
            path = _path(file)
            if not inside(path):
                return real(file, mode, *args, **named)
            kind = (
                "write" if set(mode) & set("wx") else "append" if set(mode) & set("a+") else "read"
            )
            event = Event(kind, path)
            code = before(event)
            handle = real(file, mode, *args, **named)
            if code is not None:
                _half(handle, code, path)
            after(event)
            return handle

        return open_

    def os_open(file: Any, flags: int, *args: Any, **named: Any) -> int:
        writing = flags & (os.O_WRONLY | os.O_RDWR)
        kind = ("write" if flags & os.O_TRUNC else "append") if writing else "read"
        path = _path(file, named.get("dir_fd"))
        return int(called(kind, path, lambda: real["open"](file, flags, *args, **named)))

    def os_write(descriptor: int, content: bytes) -> int:
        path = _path(descriptor)
        if not inside(path):
            return int(real["write"](descriptor, content))
        event = Event("append", path)
        code = before(event)
        if code == errno.ENOSPC:  # the kernel writes what fits, and says how much that was
            content = content[: len(content) // 2]
        elif code is not None:
            raise OSError(code, os.strerror(code))
        written = int(real["write"](descriptor, content))
        after(event)
        return written

    def one_path(kind: str, name: str) -> Any:
        def operate(file: Any, *args: Any, **named: Any) -> Any:
            path = _path(file, named.get("dir_fd"))
            return called(kind, path, lambda: real[name](file, *args, **named))

        return operate

    def two_paths(name: str) -> Any:
        def operate(source: Any, target: Any, **named: Any) -> Any:
            paths = _path(target), _path(source)
            return called("rename", paths[0], lambda: real[name](source, target, **named), paths[1])

        return operate

    def flock(file: Any, operation: int) -> None:
        called("lock", _path(file), lambda: real["flock"](file, operation))

    def rust(kind: str, call: Any, which: int) -> Any:
        def operate(*args: Any, **named: Any) -> Any:
            path = _path(args[which])
            if not inside(path):
                return call(*args, **named)
            event = Event(kind, path)
            code = before(event)
            result = _cut_short(code, call, *args, **named) if code else call(*args, **named)
            after(event)
            return result

        return operate

    names = {"fsync": "fsync", "mkdir": "mkdir", "unlink": "unlink", "remove": "unlink"}
    names |= {"rmdir": "rmdir"}
    real = {name: getattr(os, name) for name in (*names, "open", "write", "rename", "replace")}
    real["flock"] = fcntl.flock
    wrapped: list[tuple[Any, str, Any]] = [
        (builtins, "open", opened(builtins.open)),
        (io, "open", opened(io.open)),
        (os, "open", os_open),
        (os, "write", os_write),
        (fcntl, "flock", flock),
        *((os, name, one_path(kind, name)) for name, kind in names.items()),
        *((os, name, two_paths(name)) for name in ("rename", "replace")),
        (pl.DataFrame, "write_parquet", rust("table", pl.DataFrame.write_parquet, 1)),
        (pl.DataFrame, "write_csv", rust("table", pl.DataFrame.write_csv, 1)),
        (safetensors.torch, "save_file", rust("tensors", safetensors.torch.save_file, 1)),
    ]
    patches = [mock.patch.object(owner, name, new) for owner, name, new in wrapped]
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in reversed(patches):
            patch.stop()


def _path(file: Any, folder: int | None = None) -> str:
    # Where a path, an open file or its number lies; rmtree names files by their folder's number.
    if hasattr(file, "fileno"):
        file = file.fileno()
    if isinstance(file, int):
        return os.readlink(f"/proc/self/fd/{file}") if file > 2 else ""
    name = os.fsdecode(file)
    if folder is not None:
        return os.path.join(os.readlink(f"/proc/self/fd/{folder}"), name)
    return os.path.join(os.path.realpath(os.path.dirname(name) or "."), os.path.basename(name))


def _half(handle: Any, code: int, path: str) -> None:
    # The first write leaves its first half on the disk and fails.
    write = handle.write

    def cut(content: Any) -> int:
        write(content[: len(content) // 2])
        handle.flush()
        raise OSError(code, os.strerror(code), path)

    handle.write = cut


def _cut_short(code: int, call: Any, *args: Any, **named: Any) -> Any:
    # The kernel itself refuses the write, by the largest size of a file; only the number in what
    # the library then says is put right.
    before, limits = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.RLIMIT_FSIZE
    soft, hard = resource.getrlimit(limits)
    resource.setrlimit(limits, (64, hard))
    try:
        return call(*args, **named)
    except Exception as error:
        told = f"{os.strerror(errno.EFBIG)} (os error {errno.EFBIG})"
        right = f"{os.strerror(code)} (os error {code})"
        raise type(error)(str(error).replace(told, right)) from None
    finally:
        resource.setrlimit(limits, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
