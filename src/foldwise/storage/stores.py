"""What is asked of a store: list, fetch, put, remove; through fsspec, with bounded patience.

In: URLs. Out: files on this disk, objects there, or one error. What a store answers isn't taken on
trust: a file that was fetched has the size, and where the store tells it the MD5, that the listing
named, or it is fetched again. Whatever fails for a while is tried again, with growing pauses, until
FOLDWISE_STORE_SECONDS (300) have passed; then the call is `RunInterrupted`, as what is here stays
and the same command goes on. Names and credentials that are wrong are bad input at once.

Credentials and addresses are the store's package's own matter (s3fs: the variables and files of
AWS, AWS_ENDPOINT_URL for another server).
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from foldwise.errors import FoldwiseError, RunInterrupted
from foldwise.run.space import free_bytes, is_full, no_space
from foldwise.storage.urls import check_url, protocol_of

SECONDS = "FOLDWISE_STORE_SECONDS"
_SLOWEST = 50_000  # bytes a second; what is slower than this for long counts as standing still
_MD5 = re.compile(r"[0-9a-f]{32}")
_EXTRAS = {"s3": "foldwise[s3]", "s3a": "foldwise[s3]"}
_AT_ONCE = 8  # objects under way
_T = TypeVar("_T")


@dataclass(frozen=True)
class Found:
    """An object of a store.

    Attributes:
        url: its address.
        size: in bytes; None where the store doesn't tell.
        etag: what the store calls this content by; None where it doesn't.
        changed: when it was written, as text; None where the store doesn't tell.
    """

    url: str
    size: int | None
    etag: str | None
    changed: str | None

    @property
    def version(self) -> str:
        """What changes when the object does, as far as the store tells."""
        return self.etag or f"{self.size} {self.changed}"


def look(url: str) -> Found | None:
    """Return what a store says of an object; None where there is none."""
    return _asked(url, lambda fs: _found(url, fs.info(url)), missing=None)


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
            name.removeprefix(stripped): _found(root + name.removeprefix(stripped), entry)
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
        now = _found(found.url, fs.info(found.url))
        if now.size is not None and now.size > free_bytes(to):
            raise RunInterrupted(no_space(to, now.size))
        fs.get_file(found.url, str(to), **_limit(fs, now.size))
        size, digest = to.stat().st_size, _md5(to)
        if now.size is not None and size != now.size:
            raise OSError(f"{size:,} of {now.size:,} bytes came")
        if _MD5.fullmatch(now.etag or "") and digest != now.etag and digest not in before:
            # Not every such ETag is the MD5 (where keys of one's own encrypt, say): what comes
            # twice alike is what is there.
            before.append(digest)
            raise OSError("what came isn't what the store says it has")
        if _found(found.url, fs.info(found.url)).version != now.version:
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

    The store itself decides where it can (S3: If-None-Match, If-Match); elsewhere the object is
    looked at just before.

    Args:
        content: of the object, unlike any other that was put there.
        url: its address.
        version: of the object that it replaces; None: there must be none.
        patience_s: with a store that fails; None: as ever.

    Returns:
        The version of what was put; None where it wasn't.
    """

    def pipe(fs: Any) -> str | None:
        if hasattr(fs, "call_s3"):
            bucket, key, _ = fs.split_path(url)
            match = {"IfNoneMatch": "*"} if version is None else {"IfMatch": f'"{version}"'}
            put = fs.call_s3("put_object", Bucket=bucket, Key=key, Body=content, **match)
            return str(put["ETag"]).strip('"')
        fs.invalidate_cache()
        there = _found(url, fs.info(url)).version if fs.exists(url) else None
        if there != version:
            return None
        fs.pipe_file(url, content, **_limit(fs, len(content)))
        fs.invalidate_cache()
        return _found(url, fs.info(url)).version

    def refused(fs: Any) -> str | None:
        # A store may do what it was asked and fail to say so; asked again it refuses.
        return _found(url, fs.info(url)).version if _read(fs, url) == content else None

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
    size = _found(url, fs.info(url)).size
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
            return ask(_file_system(protocol_of(url), os.getpid(), patience_s))
        except (FoldwiseError, RunInterrupted):
            raise
        except FileNotFoundError as error:
            if missing is not _NEVER:
                return missing  # type: ignore[no-any-return]
            raise Gone(
                f"{url}: there is no such bucket or object ({_told(error)}); check the name"
            ) from None
        except Exception as error:  # of whichever package the store's is
            if is_full(error):
                raise RunInterrupted(no_space(Path("."), None)) from error
            if _is_condition(error):
                raise _Refused from None
            _raise_bad_input(url, error)
            tries += 1
            pause_s = min(20.0, 0.25 * 2**tries) * random.uniform(0.5, 1.0)
            if time.monotonic() - began + pause_s > patience_s:
                raise StoreFails(
                    f"{url}: the store fails ({_told(error)}; tries: {tries}, in "
                    f"{time.monotonic() - began:.0f} s); what is on this disk is kept: once the "
                    f"store answers, give the same command again ({SECONDS} has it wait longer)"
                ) from error
            time.sleep(pause_s)


def _raise_bad_input(url: str, error: Exception) -> None:
    kind = type(error).__name__
    if isinstance(error, NotImplementedError):
        raise FoldwiseError(
            f"{url}: this kind of store can't do that; tables can be read from it, nothing can be "
            "put there"
        ) from None
    if isinstance(error, PermissionError):
        raise FoldwiseError(
            f"{url}: the store doesn't allow it ({_told(error)}); check the credentials and what "
            "they are allowed"
        ) from None
    if kind in ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "TokenError"):
        raise FoldwiseError(
            f"{url}: no credentials were found ({_told(error)}); set those of your store, such as "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        ) from None
    if kind in ("ParamValidationError", "InvalidBucketName") or "InvalidBucketName" in str(error):
        raise FoldwiseError(f"{url}: no bucket can be called so ({_told(error)})") from None


def _is_condition(error: Exception) -> bool:
    code = getattr(error.__cause__, "response", {}).get("Error", {}).get("Code", "")
    refused = ("PreconditionFailed", "412", "ConditionalRequestConflict")
    return isinstance(error, FileExistsError) or code in refused


def _told(error: BaseException) -> str:
    return " ".join((str(error) or type(error).__name__).split())[:200]


def _patience_s() -> float:
    text = os.environ.get(SECONDS, "300")
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise FoldwiseError(f"{SECONDS}={text!r}: give seconds above 0, such as 300")
    return seconds


@lru_cache(maxsize=8)
def _file_system(protocol: str, pid: int, patience_s: float) -> Any:
    # A process that was forked needs connections of its own, hence `pid`.
    from fsspec import get_filesystem_class
    from fsspec.registry import known_implementations

    try:
        kind: Any = get_filesystem_class(protocol)
    except ValueError:
        raise FoldwiseError(f"{protocol}://: no store is known by that name") from None
    except ImportError:
        package = str(known_implementations.get(protocol, {}).get("class", "")).partition(".")[0]
        needed = _EXTRAS.get(protocol, package or protocol)
        raise FoldwiseError(
            f"{protocol}:// needs the package {package or protocol}: pip install '{needed}'"
        ) from None
    if protocol in _EXTRAS:
        # Trying again is ours alone: three layers that each try five times are 125 tries.
        timeout_s = max(0.5, min(20.0, patience_s / 4))
        settings = {"connect_timeout": timeout_s, "read_timeout": timeout_s}
        made = kind(
            skip_instance_cache=True,
            use_listings_cache=False,
            config_kwargs={**settings, "retries": {"total_max_attempts": 1, "mode": "standard"}},
        )
        made.retries = 1
        return made
    return kind(skip_instance_cache=True)


def _limit(fs: Any, size: int | None) -> dict[str, float]:
    # fsspec's own limit of a whole call, which those that answer by a thread of theirs take.
    if not getattr(fs, "async_impl", False):
        return {}
    return {"timeout": _patience_s() + (size or 0) / _SLOWEST}


def _found(url: str, entry: dict[str, Any]) -> Found:
    if entry.get("type") == "directory":
        raise FileNotFoundError(f"{url} is a folder")
    etag = entry.get("ETag") or entry.get("etag") or entry.get("md5Hash")
    changed = next((entry[key] for key in _TIMES if entry.get(key) is not None), None)
    size = entry.get("size")
    return Found(
        url,
        None if size is None else int(size),
        None if etag is None else str(etag).strip('"'),
        None if changed is None else str(changed),
    )


_TIMES = ("LastModified", "updated", "last_modified", "mtime", "modifiedTime", "modified")


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
