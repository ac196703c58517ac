"""What is asked of a store: list, fetch, put, remove; through fsspec, with bounded patience.

In: URLs. Out: files on this disk, objects there, or one error. What a store answers isn't taken on
trust: a file that was fetched has the size, and where the store tells it the MD5, that the listing
named, or it is fetched again. Whatever fails for a while is tried again, with growing pauses, until
FOLDWISE_STORE_SECONDS (300) have passed; then the call is `RunInterrupted`, as what is here stays
and the same command goes on. Names and credentials that are wrong are bad input at once.

What differs between kinds of stores is in systems.py.
"""

from __future__ import annotations

import hashlib
import os
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from foldwise.errors import FoldwiseError, RunInterrupted
from foldwise.run.space import free_bytes, is_full, no_space
from foldwise.storage.systems import (
    Found,
    decides,
    file_system,
    found_of,
    is_condition,
    put_on_condition,
    raise_bad_input,
    told_of,
)
from foldwise.storage.urls import check_url, protocol_of

SECONDS = "FOLDWISE_STORE_SECONDS"
_SLOWEST = 50_000  # bytes a second; what is slower than this for long counts as standing still
_AT_ONCE = 8  # objects under way
_T = TypeVar("_T")


def look(url: str) -> Found | None:
    """Return what a store says of an object; None where there is none."""
    return _asked(url, lambda fs: found_of(url, fs.info(url)), missing=None)


def listing(url: str) -> dict[str, Found]:
    """Return all objects below a URL, by what follows it in their names; none where it is empty.

    Names are the store's: nothing says that they can be names of files here.
    """
    root = url.rstrip("/") + "/"

    def find(fs: Any) -> dict[str, Found]:
        fs.invalidate_cache()
        stripped = fs._strip_protocol(root).rstrip("/") + "/"
        entries = fs.find(stripped, detail=True)
        return {
            name.removeprefix(stripped): found_of(root + name.removeprefix(stripped), entry)
            for name, entry in entries.items()
            if name.startswith(stripped) and name != stripped
        }

    return _asked(url, find, missing={})


def matching(url: str) -> list[str]:
    """Return the URLs of the objects that a URL with `*`, `?` or `[` names, in order."""

    def glob(fs: Any) -> list[str]:
        fs.invalidate_cache()
        return sorted(str(fs.unstrip_protocol(name)) for name in fs.glob(url))

    found = _asked(url, glob, missing=[])
    for name in found:  # the store's names are as odd as it likes
        check_url(name, url)
    return found


def fetch(found: Found, to: Path) -> Found:
    """Fetch an object into a file, whole and as the store has it.

    Args:
        found: as `look` or `listing` told it; one that has changed since is fetched as it is now.
        to: the file; what it holds on an error means nothing.

    Returns:
        What was fetched.

    Raises:
        Gone: there is no such object.
        FoldwiseError: it may not be read.
        RunInterrupted: the store fails, or never gave what it says it has; the disk is full.
    """
    before: list[str] = []

    def get(fs: Any) -> Found:
        now = found_of(found.url, fs.info(found.url))
        if now.size is not None and now.size > free_bytes(to):
            raise RunInterrupted(no_space(to, now.size))
        fs.get_file(found.url, str(to), **_limit(fs, now.size))
        size, digest = to.stat().st_size, _md5(to)
        if now.size is not None and size != now.size:
            raise OSError(f"{size:,} of {now.size:,} bytes came")
        if now.md5 is not None and digest != now.md5 and digest not in before:
            # Not every such ETag is the MD5 (where keys of one's own encrypt, say): what comes
            # twice alike is what is there.
            before.append(digest)
            raise OSError("what came isn't what the store says it has")
        if found_of(found.url, fs.info(found.url)).version != now.version:
            raise OSError("it was replaced while it was read")
        return now

    return _asked(found.url, get)


def read(url: str) -> bytes | None:
    """Return a small object's bytes; None where there is none."""
    return _asked(url, lambda fs: _read(fs, url), missing=None)


def put(file: Path, url: str) -> None:
    """Put a file into a store; the object is there whole, or as it was before.

    Raises:
        FoldwiseError: there is no such bucket, or it may not be written.
        RunInterrupted: the store fails.
    """
    size = file.stat().st_size
    _asked(url, lambda fs: fs.put_file(str(file), url, **_limit(fs, size)))


def put_bytes(content: bytes, url: str) -> None:
    """Put a small object into a store."""
    _asked(url, lambda fs: fs.pipe_file(url, content, **_limit(fs, len(content))))


def put_if(
    content: bytes, url: str, version: str | None, patience_s: float | None = None
) -> str | None:
    """Put a small object if nobody else has put one meanwhile.

    The store itself decides where it can (S3: If-None-Match, If-Match; Google's:
    ifGenerationMatch); elsewhere the object is looked at just before.

    Args:
        content: of the object, unlike any other that was put there.
        url: its address.
        version: of the object that it replaces; None: there must be none.
        patience_s: with a store that fails; None: as ever.

    Returns:
        The version of what was put; None where it wasn't.
    """

    def pipe(fs: Any) -> str | None:
        if decides(fs):
            return put_on_condition(fs, content, url, version)
        fs.invalidate_cache()
        there = found_of(url, fs.info(url)).version if fs.exists(url) else None
        if there != version:
            return None
        fs.pipe_file(url, content, **_limit(fs, len(content)))
        fs.invalidate_cache()
        return found_of(url, fs.info(url)).version

    def refused(fs: Any) -> str | None:
        # A store may do what it was asked and fail to say so; asked again it refuses.
        return found_of(url, fs.info(url)).version if _read(fs, url) == content else None

    try:
        return _asked(url, pipe, missing=None, patience_s=patience_s)
    except _Refused:
        return _asked(url, refused, missing=None, patience_s=patience_s)


def remove(url: str) -> None:
    """Remove an object; one that is gone already isn't missed."""
    _asked(url, lambda fs: fs.rm_file(url), missing=None)


def each(do: Callable[[str], _T], names: Sequence[str]) -> list[_T]:
    """Do something with each name, several at a time; the first error ends it."""
    if len(names) < 2:
        return [do(name) for name in names]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        try:
            return list(pool.map(do, names))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _read(fs: Any, url: str) -> bytes:
    size = found_of(url, fs.info(url)).size
    content = bytes(fs.cat_file(url, **_limit(fs, size)))
    if size is not None and len(content) != size:
        raise OSError(f"{len(content):,} of {size:,} bytes came")
    return content


class Gone(FoldwiseError):
    """There is no such object, or no longer."""


class StoreFails(RunInterrupted):
    """A store has failed for longer than there was patience."""


class _Refused(Exception):
    """A condition that a write was given didn't hold."""


_NEVER: Any = object()


def _asked(
    url: str, ask: Callable[[Any], _T], missing: Any = _NEVER, patience_s: float | None = None
) -> _T:
    """Ask a store, again and again while it fails, as long as there is patience."""
    check_url(url, "a store's address")
    patience_s = patience_s or _patience_s()
    began, tries = time.monotonic(), 0
    while True:
        try:
            return ask(file_system(protocol_of(url), os.getpid(), patience_s))
        except (FoldwiseError, RunInterrupted):
            raise
        except FileNotFoundError as error:
            if missing is not _NEVER:
                return missing  # type: ignore[no-any-return]
            raise Gone(
                f"{url}: there is no such bucket or object ({told_of(error)}); check the name"
            ) from None
        except Exception as error:  # of whichever package the store's is
            if is_full(error):
                raise RunInterrupted(no_space(Path("."), None)) from error
            if is_condition(error):
                raise _Refused from None
            raise_bad_input(url, error)
            tries += 1
            pause_s = min(20.0, 0.25 * 2**tries) * random.uniform(0.5, 1.0)
            if time.monotonic() - began + pause_s > patience_s:
                raise StoreFails(
                    f"{url}: the store fails ({told_of(error)}; tries: {tries}, in "
                    f"{time.monotonic() - began:.0f} s); what is on this disk is kept: once the "
                    f"store answers, give the same command again ({SECONDS} has it wait longer)"
                ) from error
            time.sleep(pause_s)


def _patience_s() -> float:
    text = os.environ.get(SECONDS, "300")
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise FoldwiseError(f"{SECONDS}={text!r}: give seconds above 0, such as 300")
    return seconds


def _limit(fs: Any, size: int | None) -> dict[str, float]:
    # fsspec's own limit of a whole call, which those that answer by a thread of theirs take.
    if not getattr(fs, "async_impl", False):
        return {}
    return {"timeout": _patience_s() + (size or 0) / _SLOWEST}


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
