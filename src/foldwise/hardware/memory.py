"""The memory that a run holds: how the C library keeps it, and the most there has been."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from functools import cache

import torch

try:
    import resource
except ModuleNotFoundError:  # Windows, where nothing is trained: run/lock.py
    resource = None  # type: ignore[assignment]


def keep_freed_memory() -> bool:
    """Let the C library keep what tensors free, for the next step to use again.

    glibc gives blocks over 32 MiB back to the system at once, and long texts make many a step: each
    is then fetched and zeroed page by page again. Kept, steps of 32 texts of 256 tokens took 5.0 s
    instead of 6.1 s on a virtual machine with 2 cores. Other C libraries are left alone.

    Returns:
        Whether the setting was made.
    """
    if not _glibc():
        return False
    mallopt = ctypes.CDLL(None).mallopt
    trim_threshold, mmap_max = -1, -4  # the names' numbers in malloc.h
    return bool(mallopt(mmap_max, 0) and mallopt(trim_threshold, -1))


def release_freed_memory() -> None:
    """Give back what `keep_freed_memory` has kept: a step that ends leaves nothing to the next.

    Kept blocks of many lengths leave gaps that the next lengths don't fit, so the memory held grows
    with every epoch and fold although no more of it is in use: over four folds of two MiniLM blocks
    from 1,786 to 1,980 MiB, with 210 MiB of the heap in use after each. Given back, it was 814 MiB
    after ten folds (`benchmarks/memory.py`).
    """
    if _glibc():
        ctypes.CDLL(None).malloc_trim(0)


def peak_memory_bytes(device: str) -> int:
    """Return the most memory that this process has held so far, in bytes.

    On CUDA what its tensors took of the device; elsewhere the process's largest resident set, with
    the libraries, the table and, in a process that trained several folds, the folds before.
    """
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB


def machine_memory_bytes() -> int | None:
    """Return the machine's memory in bytes; None where the system doesn't say (Windows)."""
    if not hasattr(os, "sysconf"):
        return None
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@cache
def _glibc() -> bool:
    return platform.libc_ver()[0] == "glibc"
