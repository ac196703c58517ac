"""What a full disk says: the file, what it takes and what is free.

In: the path that is written. Out: one `RunInterrupted`, as the run goes on once there is room. The
check before training asks the run folder's own volume, which is where the checkpoints go.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from foldwise.errors import RunInterrupted


@contextmanager
def room_for(path: Path, size_bytes: int | None = None) -> Iterator[None]:
    """Turn a full disk into one message, while a file or folder is written.

    Args:
        path: what is written.
        size_bytes: what it takes; None where nobody knows before it is written.

    Raises:
        RunInterrupted: the disk is full; path, need and free bytes are named.
    """
    try:
        yield
    except Exception as error:
        if not is_full(error):
            raise
        raise RunInterrupted(no_space(path, size_bytes)) from error


def no_space(path: Path, size_bytes: int | None = None) -> str:
    """Say that a file doesn't fit, with what it takes and what is free."""
    takes = "" if size_bytes is None else f"{size_bytes:,} bytes are needed, "
    return (
        f"{path}: no space left on the disk: {takes}{free_bytes(path):,} bytes are free; free some "
        "and give the same command again"
    )


def free_bytes(path: Path) -> int:
    """Return the free bytes of the volume on which a path lies or will lie."""
    there = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    return shutil.disk_usage(there).free


def is_full(error: BaseException) -> bool:
    """Say whether an error means that a disk is full, or a quota used up."""
    return _tells_of(error, errno.ENOSPC, errno.EDQUOT)


def is_broken(error: BaseException) -> bool:
    """Say whether an error means that a disk fails to read or write."""
    return _tells_of(error, errno.EIO)


def _tells_of(error: BaseException, *codes: int) -> bool:
    # polars and safetensors, written in Rust, give the number in their message only.
    told = any(f"(os error {code})" in str(error) for code in codes)
    return told or (isinstance(error, OSError) and error.errno in codes)


def size(number: int | None) -> str:
    """Return a size as one reads it: `1.4 GiB`; a dash for what isn't known."""
    if number is None:
        return "-"
    for least, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if number >= least:
            return f"{number / least:.1f} {unit}"
    return f"{number} B"
