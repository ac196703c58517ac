"""A working copy of a run in a store: which files lie here and there, and what is known of both.

In: a run's folder below the cache, and its URL. Out: a `Copy`, kept beside the folder: what the
store called each file when it was last sent or fetched, and the file as it was here then. What the
store lists is somebody else's: a name in it becomes a path only if it can lead nowhere else.
"""

from __future__ import annotations

import json
import shutil
import uuid
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from foldwise.errors import FoldwiseError
from foldwise.run.files import sha256, write_json
from foldwise.run.folder import RunFolder
from foldwise.run.tree import DEEPEST, MOST_ENTRIES
from foldwise.storage import stores
from foldwise.storage.places import RUNS, cache, url_of
from foldwise.storage.systems import Found

_LONGEST = 200  # bytes of a name
_RECORD = ".store.json"


class Entry(NamedTuple):
    """A file as it was when here and there were last alike.

    Attributes:
        version: the store's.
        size: bytes; -1 where it lies in the store only.
        mtime_ns: when it was written here.
        sha256: of its content.
    """

    version: str
    size: int
    mtime_ns: int
    sha256: str


@dataclass(frozen=True)
class Copy:
    """What is known of a working copy.

    Attributes:
        owner: its own name, which no other has.
        lease: the version of the lease that it holds; None: it holds none.
        whole: nothing that was being fetched is missing.
        files: by name, relative to the run.
    """

    owner: str
    lease: str | None = None
    whole: bool = True
    files: dict[str, Entry] = field(default_factory=dict)

    def unsent(self, run: RunFolder) -> bool:
        """Whether a file here isn't as the store had it, or is gone here."""
        here = files_here(run)
        known = {name for name, entry in self.files.items() if entry.size >= 0}
        return here.keys() != known or any(
            not is_alike(path, self.files[name]) for name, path in here.items()
        )

    def lacking(self, run: RunFolder) -> bool:
        """Whether files are gone here and all others are as the store had them."""
        here = files_here(run)
        known = {name for name, entry in self.files.items() if entry.size >= 0}
        return here.keys() < known and all(is_alike(p, self.files[n]) for n, p in here.items())

    def versions(self) -> dict[str, str]:
        """Return the store's versions by name."""
        return {name: entry.version for name, entry in self.files.items()}


def read_copy(run: RunFolder) -> Copy:
    """Read what is known of a working copy; of one that is new it is nothing."""
    path = _record(run)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        files = {str(name): Entry(*entry) for name, entry in value["files"].items()}
        return Copy(str(value["owner"]), value["lease"], bool(value["whole"]), files)
    except FileNotFoundError:
        return Copy(uuid.uuid4().hex)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # Whose lease it holds is lost with it, so it begins as one that has to be fetched anew.
        return Copy(uuid.uuid4().hex, whole=False)


def copies() -> list[RunFolder]:
    """Return the working copies that lie below the cache."""
    records = sorted((cache() / RUNS).rglob(f".*{_RECORD}"))
    runs = [RunFolder(p.with_name(p.name[1:].removesuffix(_RECORD))) for p in records]
    return [run for run in runs if url_of(run.path) is not None]


def forget(run: RunFolder) -> None:
    """Remove a working copy, then what is known of it; under its guard."""
    if run.path.exists():
        write_copy(run, replace(read_copy(run), whole=False))  # half of it is none
        shutil.rmtree(run.path)
    _record(run).unlink(missing_ok=True)


def write_copy(run: RunFolder, copy: Copy) -> None:
    """Write it down, durably."""
    write_json(_record(run), asdict(copy))


def without(copy: Copy, names: set[str]) -> Copy:
    """Return a copy's record without some files."""
    return replace(copy, files={n: e for n, e in copy.files.items() if n not in names})


def files_here(run: RunFolder) -> dict[str, Path]:
    """Return the files of a run's folder by name; hidden ones belong to this machine alone."""
    found = {}
    for path in sorted(run.path.rglob("*")) if run.path.is_dir() else ():
        name = path.relative_to(run.path)
        if not any(part.startswith(".") for part in name.parts) and path.is_file():
            found[name.as_posix()] = path
    return found


def files_there(url: str) -> dict[str, Found]:
    """Return the files of a run in a store by name.

    Raises:
        FoldwiseError: a name in it can't be a file's in a run's folder.
    """
    found = {}
    for name, entry in stores.listing(url).items():
        if name.endswith("/") and not entry.size:  # how some tools draw a folder
            continue
        parts = name.split("/")
        bad = any(
            part in ("", ".", "..") or not part.isprintable() or len(part.encode()) > _LONGEST
            for part in parts
        )
        if bad or "\\" in name or ":" in name or len(parts) > DEEPEST:
            raise FoldwiseError(
                f"{url}: holds an object called {name[:200]!r}, which no run's file is; remove it"
            )
        if not any(part.startswith(".") for part in parts):
            found[name] = entry
    folders = {str(above) for name in found for above in PurePosixPath(name).parents}
    if both := sorted(folders & found.keys()):
        raise FoldwiseError(f"{url}: {both[0]!r} is an object and a folder there; remove one")
    if len(found) > MOST_ENTRIES:
        raise FoldwiseError(f"{url}: holds {len(found):,} objects, which is more than a run has")
    return found


def entry_of(path: Path, version: str, known: Entry | None = None) -> Entry:
    """Return a file as it is here, under the store's version."""
    stat = path.stat()
    alike = known is not None and (stat.st_size, stat.st_mtime_ns) == known[1:3]
    digest = known.sha256 if known is not None and alike else sha256(path)
    return Entry(version, stat.st_size, stat.st_mtime_ns, digest)


def is_alike(path: Path, known: Entry) -> bool:
    """Say whether a file is here as it was; only where times differ is it read."""
    try:
        stat = path.stat()
        if stat.st_size != known.size:
            return False
        return stat.st_mtime_ns == known.mtime_ns or sha256(path) == known.sha256
    except FileNotFoundError:
        return False


def _record(run: RunFolder) -> Path:
    return run.path.with_name(f".{run.path.name}{_RECORD}")
