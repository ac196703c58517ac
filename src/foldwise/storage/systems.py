"""The kinds of stores, as fsspec's packages know them: how each is opened, and what it says.

In: a protocol. Out: its file system, what its entries and errors mean, and a write on a condition,
which every kind calls otherwise. Credentials and addresses are the packages' own matter (s3fs: the
variables and files of AWS, AWS_ENDPOINT_URL for another server; gcsfs: Google's application default
credentials, STORAGE_EMULATOR_HOST).
"""

from __future__ import annotations

import base64
import binascii
import logging
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from foldwise.errors import FoldwiseError

_NO_CREDENTIALS = {
    *("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "TokenError"),
    *("DefaultCredentialsError", "RefreshError"),
}
_MD5 = re.compile(r"[0-9a-f]{32}")
_S3 = ("s3", "s3a")
_GOOGLE = ("gs", "gcs")
_EXTRAS = dict.fromkeys(_S3, "foldwise[s3]") | dict.fromkeys(_GOOGLE, "foldwise[gs]")


@dataclass(frozen=True)
class Found:
    """An object of a store.

    Attributes:
        url: its address.
        size: in bytes; None where the store doesn't tell.
        etag: what the store calls this content by; None where it doesn't.
        changed: when it was written, as text; None where the store doesn't tell.
        md5: of its bytes, in hex, as the store tells; None where it doesn't.
    """

    url: str
    size: int | None
    etag: str | None
    changed: str | None
    md5: str | None = None

    @property
    def version(self) -> str:
        """What changes when the object does, as far as the store tells."""
        return self.etag or f"{self.size} {self.changed}"


@lru_cache(maxsize=8)
def file_system(protocol: str, pid: int, patience_s: float) -> Any:
    """Return the file system of a kind of stores.

    Args:
        protocol: what stands before `://`.
        pid: of this process: one that was forked needs connections of its own.
        patience_s: with a store that fails; it takes several tries.

    Raises:
        FoldwiseError: there is no such kind, or its package isn't installed.
    """
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
    timeout_s = max(0.5, min(20.0, patience_s / 4))
    if protocol in _GOOGLE:
        from aiohttp import ClientTimeout
        from gcsfs.core import GCSFileSystem

        logging.getLogger("gcsfs").addHandler(logging.NullHandler())  # it prints tracebacks
        waits = ClientTimeout(total=None, sock_connect=timeout_s, sock_read=timeout_s)
        # Not `kind`: that asks first, by another protocol, what kind of bucket it is, which takes
        # a minute where nobody answers (an emulator), though all kinds are read and written alike.
        return GCSFileSystem(
            skip_instance_cache=True, use_listings_cache=False, requests_timeout=waits
        )
    if protocol in _S3:
        # Trying again is ours alone: three layers that each try five times are 125 tries.
        settings = {"connect_timeout": timeout_s, "read_timeout": timeout_s}
        made = kind(
            skip_instance_cache=True,
            use_listings_cache=False,
            config_kwargs={**settings, "retries": {"total_max_attempts": 1, "mode": "standard"}},
        )
        made.retries = 1
        return made
    return kind(skip_instance_cache=True)


def decides(fs: Any) -> bool:
    """Say whether a store decides itself on a write that has a condition."""
    return not {*_S3, *_GOOGLE}.isdisjoint(_names(fs))


def put_on_condition(fs: Any, content: bytes, url: str, version: str | None) -> str:
    """Put a small object where none was put meanwhile; an error that `is_condition` says else.

    Args:
        fs: of a store that `decides`.
        content: of the object.
        url: its address.
        version: of the object that it replaces; None: there must be none.

    Returns:
        The version of what was put.
    """
    bucket, key, _ = fs.split_path(url)
    if not {*_S3}.isdisjoint(_names(fs)):
        match = {"IfNoneMatch": "*"} if version is None else {"IfMatch": f'"{version}"'}
        put = fs.call_s3("put_object", Bucket=bucket, Key=key, Body=content, **match)
        return str(put["ETag"]).strip('"')
    # gcsfs itself knows such a condition for new objects alone.
    put = fs.call(
        "POST",
        f"{fs.base.replace('/storage/', '/upload/storage/')}b/{quote(bucket)}/o",
        uploadType="media",
        name=key,
        ifGenerationMatch=version or "0",
        data=content,
        json_out=True,
    )
    return str(put["generation"])


def _names(fs: Any) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)


def found_of(url: str, entry: dict[str, Any]) -> Found:
    """Return what a file system's entry says of an object.

    Raises:
        FileNotFoundError: it is a folder's.
    """
    if entry.get("type") == "directory":
        raise FileNotFoundError(f"{url} is a folder")
    # Google's etag changes with what is noted about the object, too; its generation doesn't.
    etag = next((entry[key] for key in ("generation", "ETag", "etag") if entry.get(key)), None)
    etag = None if etag is None else str(etag).strip('"')
    changed = next((entry[key] for key in _TIMES if entry.get(key) is not None), None)
    size = entry.get("size")
    return Found(
        url,
        None if size is None else int(size),
        etag,
        None if changed is None else str(changed),
        _md5_of(entry.get("md5Hash"), etag),
    )


def _md5_of(told: str | None, etag: str | None) -> str | None:
    try:
        digest = base64.b64decode(told or "", validate=True).hex()
    except binascii.Error:
        digest = ""
    return next((text for text in (digest, etag or "") if _MD5.fullmatch(text)), None)


_TIMES = ("LastModified", "updated", "last_modified", "mtime", "modifiedTime", "modified")


def is_condition(error: Exception) -> bool:
    """Say whether an error means that the condition of a write doesn't hold."""
    code = getattr(error.__cause__, "response", {}).get("Error", {}).get("Code", "")
    refused = ("PreconditionFailed", "412", "ConditionalRequestConflict")
    return isinstance(error, FileExistsError) or code in refused


def raise_bad_input(url: str, error: Exception) -> None:
    """Raise what no patience helps against: names, rights and credentials that are wrong.

    Raises:
        FoldwiseError: saying what it is.
    """
    kind = type(error).__name__
    if isinstance(error, NotImplementedError):
        raise FoldwiseError(
            f"{url}: this kind of store can't do that; tables can be read from it, nothing can be "
            "put there"
        ) from None
    denied = str(error).startswith("Forbidden:") or getattr(error, "code", None) in (401, 403)
    if isinstance(error, PermissionError) or denied:
        raise FoldwiseError(
            f"{url}: the store doesn't allow it ({told_of(error)}); check the credentials and what "
            "they are allowed"
        ) from None
    if kind in _NO_CREDENTIALS:
        raise FoldwiseError(
            f"{url}: no credentials were found ({told_of(error)}); set your store's, such as "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or "
            "GOOGLE_APPLICATION_CREDENTIALS"
        ) from None
    if kind in ("ParamValidationError", "InvalidBucketName") or "InvalidBucketName" in str(error):
        raise FoldwiseError(f"{url}: no bucket can be called so ({told_of(error)})") from None


def told_of(error: BaseException) -> str:
    """Return what an error says, in a line."""
    return " ".join((str(error) or type(error).__name__).split())[:200]
