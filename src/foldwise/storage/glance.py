"""A look at a run in a store: what says where it stands is fetched, which is little of it.

In: a URL. Out: a run's folder for the while, with small files as they are there, their times too,
and empty ones in place of those of which only the presence counts; and who holds the run. Where a
process of this machine is at work, its working copy is further than the store, and is looked at.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from foldwise.errors import FoldwiseError
from foldwise.run.folder import ONES, RunFolder
from foldwise.storage import stores
from foldwise.storage.copies import files_there, read_copy
from foldwise.storage.lease import read_lease
from foldwise.storage.mirror import copy_of, no_run, works_here

_FOLD = rf"(?:fold-\d+|{'|'.join(ONES)})"
_READ = re.compile(
    rf"config\.yaml|log\.jsonl|{_FOLD}/(?:(?:metrics|log)\.jsonl|"
    r"(?:training|validation|seal|asked|measured|checkpoints/step-\d+/(?:manifest|state))\.json)"
)
_THERE = re.compile(r"metrics\.json|report\.html|holdout\.parquet")


@contextmanager
def glance(url: str) -> Iterator[tuple[RunFolder, str | None]]:
    """Have what says where a run in a store stands, while the block reads it.

    Args:
        url: the run's.

    Yields:
        A run's folder, and who holds the run on another machine; None where nobody does.

    Raises:
        FoldwiseError: no run lies there, or it may not be read.
        RunInterrupted: the store fails.
    """
    url = url.rstrip("/")
    copy = copy_of(url)
    if works_here(copy):
        yield copy, None
        return
    lease = read_lease(url)
    # A lease of this machine's own, where nobody is at work, is a killed process's.
    elsewhere = lease is not None and lease.held and lease.owner != read_copy(copy).owner
    holder = lease.told if lease is not None and elsewhere else None
    if stores.look(f"{url}/{copy.config.name}") is None:
        if holder is not None:
            raise FoldwiseError(f"{url}: nothing of the run lies there yet; {holder} is at work")
        raise no_run(url)
    with tempfile.TemporaryDirectory(prefix="foldwise-") as folder:
        run = RunFolder(Path(folder) / copy.path.name)
        _fetch(url, run)
        yield run, holder


def _fetch(url: str, run: RunFolder) -> None:
    there = files_there(url)

    def get(name: str) -> None:
        content = stores.read(f"{url}/{name}") if _READ.fullmatch(name) else b""
        if content is not None:  # else pruned since it was listed
            path = run.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            _date(path, there[name].changed)

    stores.each(get, [name for name in there if _READ.fullmatch(name) or _THERE.fullmatch(name)])


def _date(path: Path, changed: str | None) -> None:
    try:
        seconds = datetime.fromisoformat(changed or "").timestamp()
    except ValueError:
        return  # a store that tells no time, or in a way of its own: then it is that of now
    os.utime(path, (seconds, seconds))
