"""The only way files get onto the disk: whole or absent.

In: plain values. Each file is written to a temporary name in the same folder, fsynced, renamed,
and the folder fsynced, so a kill or a power cut at any moment leaves the old file or the new one.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foldwise.errors import FoldwiseError
from foldwise.run.space import room_for

if TYPE_CHECKING:
    import polars as pl


def half(path: Path) -> Path:
    """Return the hidden name under which this process makes what becomes `path`.

    Other machines may share the disk, and have processes of the same number.
    """
    host = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:6]
    return path.with_name(f".{path.name}.{host}.{os.getpid()}.tmp")


@contextmanager
def atomic(path: Path, size_bytes: int | None = None) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it becomes `path`, durably.

    The temporary file lies in the same folder because a rename is atomic only within a file system.

    Args:
        path: the file to write or replace.
        size_bytes: what it takes, where that is known before.

    Yields:
        The temporary file's path, to be written by the caller.

    Raises:
        RunInterrupted: the disk is full; the old file stands.
    """
    temporary = half(path)
    with room_for(path, size_bytes):
        try:
            yield temporary
            sync_file(temporary)
            os.replace(temporary, path)
            sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file atomically."""
    with atomic(path, len(content)) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write a whole UTF-8 file atomically."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically; numbers that aren't finite become null."""
    write_text(path, to_json(value))


def to_json(value: Any) -> str:
    """Return a value as `write_json` writes it, so that a reader can tell any other bytes."""
    return json.dumps(finite(value), indent=2, ensure_ascii=False) + "\n"


def write_parquet(path: Path, frame: pl.DataFrame) -> None:
    """Write a table atomically."""
    with atomic(path, int(frame.estimated_size())) as temporary:  # at most: it is compressed
        frame.write_parquet(temporary)


def open_in_place(path: Path, flags: int) -> int:
    """Open a file that is written where it lies, and never another one in its stead.

    Args:
        path: the file; made if it is absent.
        flags: of os.open.

    Raises:
        FoldwiseError: it is a link or no plain file, or it has a second name (a hard link): what is
            written here would be written there too.
    """
    flags |= os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a pipe would wait
    try:
        descriptor = os.open(path, flags, 0o644)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
            raise
        raise FoldwiseError(f"{path}: is no plain file; remove it") from None
    found = os.fstat(descriptor)
    if stat.S_ISREG(found.st_mode) and found.st_nlink <= 1:
        return descriptor
    os.close(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise FoldwiseError(f"{path}: is no plain file; remove it")
    raise FoldwiseError(
        f"{path}: has another name too (a hard link), under which it would change as well; copy "
        "the folder, as by: cp -r"
    )


def append_line(path: Path, line: str) -> None:
    """Append one line in a single write; a disk that is full takes it whole or not at all."""
    content = line.encode("utf-8") + b"\n"
    with room_for(path, len(content)):
        descriptor = open_in_place(path, os.O_WRONLY | os.O_APPEND)
        try:
            before = os.fstat(descriptor).st_size
            if os.write(descriptor, content) < len(content):
                os.ftruncate(descriptor, before)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        finally:
            os.close(descriptor)


def finite(value: Any) -> Any:
    """Return the value with NaN and infinities replaced by None: JSON has no word for them."""
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def copy_file(source: Path, target: Path) -> None:
    """Copy a file atomically."""
    with atomic(target) as temporary:
        shutil.copyfile(source, temporary)


def sync_file(path: Path) -> None:
    """Force a file's bytes to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Force a folder's entries (new names, renames) to the disk; Windows opens no folder."""
    if os.name != "nt":
        sync_file(path)


def now() -> str:
    """Return the time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def publish(whole: Path, final: Path) -> None:
    """Give a file that is whole its name, so that a power cut leaves it whole or absent."""
    sync_file(whole)
    os.replace(whole, final)
    sync_folder(final.parent)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a hidden folder beside `path`, to be filled; on success it becomes `path`, durably.

    Raises:
        RunInterrupted: the disk is full; nothing is left.
        FoldwiseError: another process has put something under the name meanwhile.
    """
    building = half(path)
    with room_for(path):
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir()
        try:
            yield building
            for inner in building.rglob("*"):
                sync_file(inner)
            sync_file(building)
            if os.path.lexists(path):
                raise FoldwiseError(f"{path}: is there by now; remove it or choose another name")
            os.rename(building, path)
            sync_folder(path.parent)
        finally:
            shutil.rmtree(building, ignore_errors=True)
