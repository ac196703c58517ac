"""Tables that lie in a store: a URL in, local files with the same bytes out.

They are kept below the cache by URL and version (ETag, or size and time), so a table is fetched
once, and one that was replaced meanwhile is another file. What lies there can be removed at any
time. A file gets its name only when it came whole.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from foldwise.errors import FoldwiseError
from foldwise.run.files import atomic, write_json
from foldwise.run.lock import use
from foldwise.storage import stores
from foldwise.storage.places import TABLES, cache
from foldwise.storage.systems import Found
from foldwise.storage.urls import check_url, name_of

_LATEST = "latest.json"
_WILD = set("*?[")


def named(url: str, *, online: bool) -> list[str]:
    """Return the URLs of the files that a URL or a pattern names, in order; nothing is fetched.

    Args:
        url: of a table, or with `*`.
        online: ask the store; else what it said last.

    Raises:
        FoldwiseError: the address isn't taken, or nothing was fetched from it before and the store
            may not be asked.
    """
    check_url(url, "the table")
    if not online:
        return [str(entry["url"]) for entry in _latest(url)]
    if _WILD & set(url):
        return stores.matching(url)
    return [url] if stores.look(url) is not None else []


def fetched(url: str, files: list[str], *, online: bool) -> list[str]:
    """Return local files that hold what a URL or a pattern names.

    Args:
        url: of a table, or with `*`.
        files: what `named` returned.
        online: as there.

    Raises:
        FoldwiseError: a file is gone, or may not be read.
        RunInterrupted: the store fails.
    """
    if not online:
        latest = _latest(url)
        use(readers(_folder(url)))
        return [str(cache() / TABLES / str(entry["file"])) for entry in latest]
    _folder(url).mkdir(parents=True, exist_ok=True)
    use(readers(_folder(url)))
    entries = [{"url": file, "file": _fetched(url, file)} for file in files]
    write_json(_folder(url) / _LATEST, entries)
    return [str(cache() / TABLES / entry["file"]) for entry in entries]


def readers(folder: Path) -> Path:
    """Return the lock that those hold who read a table, to their end.

    Args:
        folder: of all versions of what a URL or a pattern names.
    """
    return folder / ".readers"


def versions(folder: Path) -> dict[Path, tuple[str, bool]]:
    """Return the versions of a table that lie here, each in a folder.

    Args:
        folder: of all of them.

    Returns:
        By its folder what a version is of, and whether it is of no use any more, or the store has
        it as it is here.

    Raises:
        FoldwiseError: the store may not be asked.
        RunInterrupted: it fails.
    """
    try:
        entries = json.loads((folder / _LATEST).read_text(encoding="utf-8"))
        urls = {Path(entry["file"]).parent.name: str(entry["url"]) for entry in entries}
    except (OSError, ValueError, KeyError, TypeError):
        urls = {}  # never fetched whole, or damaged: `_latest` has it fetched again
    earlier = f"an earlier version of {', '.join(urls.values()) or 'a table'}"
    found = {}
    for version in sorted(path for path in folder.iterdir() if path.is_dir()):
        url = urls.get(version.name)
        there = None if url is None else stores.look(url)
        same = there is not None and _version(there) == version.name
        found[version] = (url or earlier, url is None or same)
    return found


def _fetched(url: str, file: str) -> str:
    found = stores.look(file)
    if found is None:
        raise FoldwiseError(f"{file}: was there a moment ago and is gone; check the table")
    while True:
        there = _place(url, found)
        known = found.etag or found.changed  # else nothing tells this version from another
        if known and there.is_file() and found.size in (None, there.stat().st_size):
            break
        there.parent.mkdir(parents=True, exist_ok=True)
        with atomic(there, found.size) as temporary:
            came = stores.fetch(found, temporary)
        if came.version == found.version:
            break
        there.unlink()  # another version's bytes, so not under this one's name
        found = came
    return str(there.relative_to(cache() / TABLES))


def _latest(url: str) -> list[dict[str, str]]:
    # A run's own config says where its table lies: that alone is no reason to ask a store.
    path = _folder(url) / _LATEST
    try:
        entries: list[dict[str, str]] = json.loads(path.read_text(encoding="utf-8"))
        whole = all((cache() / TABLES / entry["file"]).is_file() for entry in entries)
    except (OSError, ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise FoldwiseError(
            f"{url}: the run's table lies in a store and isn't on this machine; --online has it "
            "fetched"
        )
    return entries


def _folder(url: str) -> Path:
    return cache() / TABLES / hashlib.sha256(url.encode()).hexdigest()[:16]


def _place(url: str, found: Found) -> Path:
    # By its own name, as the ending says how it is read and messages name it.
    return _folder(url) / _version(found) / name_of(found.url)


def _version(found: Found) -> str:
    return hashlib.sha256(f"{found.url} {found.version}".encode()).hexdigest()[:16]
