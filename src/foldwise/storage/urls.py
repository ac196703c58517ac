"""What a path may name beside a local file: a URL of a store that fsspec knows.

In: text as a config or the command line has it. Out: whether it is a URL, and what is wrong with
it. Nothing is imported or asked here, so that a config is checked in a blink. What a URL says is
written down and printed, so it holds no secret; and it names one object of one store, as fsspec's
chains (`zip://...::s3://...`) would have a table read whatever the chain leads to.
"""

from __future__ import annotations

import re

from foldwise.errors import FoldwiseError

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
# Known to fsspec, and no store: they wrap another one, open an archive, or lie in this process.
_NO_STORES = {
    *("arrow_hdfs", "async_wrapper", "asynclocal", "asyncwrapper", "blockcache", "cached", "dask"),
    *("data", "dir", "filecache", "generic", "git", "jlab", "jupyter", "libarchive", "local"),
    *("memory", "pyscript", "reference", "simplecache", "tar", "wandb", "zip"),
}
FILE = "file"


def is_url(path: str) -> bool:
    """Say whether a path names something in a store: `s3://bucket/table.csv`; not `file://`."""
    found = _URL.match(path)
    return found is not None and found[1].lower() != FILE


def local_path(path: str) -> str:
    """Return the local path that `file:///srv/table.csv` names; any other path as it is."""
    found = _URL.fullmatch(path)
    return found[2] if found is not None and found[1].lower() == FILE else path


def protocol_of(url: str) -> str:
    """Return what stands before `://`, in lower case."""
    return url.partition("://")[0].lower()


def parts_of(url: str) -> list[str]:
    """Return protocol, bucket and the names below it, as a folder can be called by them."""
    protocol, _, rest = url.partition("://")
    return [protocol.lower(), *rest.rstrip("/").split("/")]


def name_of(url: str) -> str:
    """Return a URL's last name."""
    return parts_of(url)[-1]


def url_problem(path: str) -> str | None:
    """Say what is wrong with a path that is a URL, without repeating a secret; None: nothing."""
    if "::" in path and "://" in path:
        return "chains of file systems (`::`) aren't read; name the file in its store itself"
    found = _URL.fullmatch(path)
    if found is None:
        return None
    protocol, rest = found[1].lower(), found[2]
    if protocol == FILE:
        return None if rest.startswith("/") else "file:// needs a whole path: file:///srv/table.csv"
    place = rest.partition("/")[0]
    if "@" in place:
        return (
            f"{protocol}://...@...: an address with a user or password is written down in the run; "
            "leave it out, and set it where the store's package looks for it, such as "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if "?" in rest or "#" in rest:
        return (
            f"{protocol}://{place}/...: what follows '?' or '#' may be a secret and would be "
            "written down; give the plain address"
        )
    if protocol in _NO_STORES:
        return f"{protocol}:// is no store; give a local path, or such as s3://bucket/name"
    names = rest.rstrip("/").split("/")
    odd = [name for name in names if name in ("", ".", "..") or not name.isprintable()]
    if odd or "\\" in rest:
        return f"{path!r}: isn't a bucket and a name in it, such as {protocol}://bucket/name"
    return None


def check_url(path: str, what: str) -> None:
    """Check a path that may be a URL.

    Args:
        path: as it was given.
        what: where it was given, for the message: `data.path`, `-o`.

    Raises:
        FoldwiseError: it is a URL that isn't taken.
    """
    if problem := url_problem(path):
        raise FoldwiseError(f"{what}: {problem}")
