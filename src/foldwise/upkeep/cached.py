"""What of the cache can go: what stores have as it is here, and what can be made again.

In: the cache, where copies of runs and tables in stores lie. Out: folders with what they are; and
what stays, with the reason. The stores are asked, as a copy of what one of them has lost is the
only one. What is looked at is locked, against whoever works on it or reads it.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

from foldwise.errors import FoldwiseError, RunInterrupted
from foldwise.run.folder import RunFolder
from foldwise.run.lock import unused
from foldwise.storage import mirror, tables
from foldwise.storage.copies import copies, files_there, forget, read_copy
from foldwise.storage.places import RUNS, TABLES, cache, called
from foldwise.upkeep.waste import Waste, discard, made_again, taken

_READ = "a process reads it"


def waste_of_cache(remove: Collection[Path] = ()) -> tuple[list[Waste], list[str]]:
    """List what of the cache can go, and remove what of that is wanted.

    Args:
        remove: folders of an earlier list.

    Returns:
        What can go, with what went; and why other copies stay, a line each.

    Raises:
        FoldwiseError: something can't be removed.
    """
    found: list[Waste] = []
    stays: list[str] = []
    for run in copies():
        _look_at_run(run, found, stays, remove)
    for folder in sorted(path for path in (cache() / TABLES).glob("*") if path.is_dir()):
        _look_at_table(folder, found, stays, remove)
    beside = {path.parent for path in (cache() / RUNS).rglob(".tokens")}
    beside |= {path.parent for path in (cache() / RUNS).rglob(".embeddings")}
    going = {item.path for item in found}
    for folder in sorted(beside):
        run = RunFolder(folder / "any")
        for path, why in made_again(run, going):
            found.append(Waste(path, why, taken(path)))
            if path in remove:
                discard(path, run)
    return found, stays


def _look_at_run(
    run: RunFolder, found: list[Waste], stays: list[str], remove: Collection[Path]
) -> None:
    url = called(run.path)
    with mirror.guarded(run), unused(mirror.readers(run)) as free:
        try:
            reason = _needed(run, url) if free else _READ
        except (FoldwiseError, RunInterrupted) as error:
            reason = str(error)
        if reason is not None:
            stays.append(f"{url}: its copy stays: {reason}")
            return
        if run.path.is_dir():
            found.append(Waste(run.path, f"copy of {url}, where all of it is", taken(run.path)))
        if run.path in remove:
            forget(run)


def _needed(run: RunFolder, url: str) -> str | None:
    copy = read_copy(run)
    if any(True for _ in mirror.others(run)):
        return "a process works on it"
    if copy.lease is not None:
        return "a process was killed at work on it; give its command again"
    if copy.whole and copy.unsent(run) and not copy.lacking(run):
        return "something in it isn't in the store"
    if run.config.name not in files_there(url):
        return "the store doesn't have the run any more"
    return None


def _look_at_table(
    folder: Path, found: list[Waste], stays: list[str], remove: Collection[Path]
) -> None:
    with unused(tables.readers(folder)) as free:
        try:
            versions = tables.versions(folder) if free else {}
        except (FoldwiseError, RunInterrupted) as error:
            stays.append(f"{folder}: stays: {error}")
            return
        if not free:
            stays.append(f"{folder}: stays: {_READ}")
        for version, (url, spare) in versions.items():
            if not spare:
                stays.append(f"{url}: its copy stays: the store has another one by now, or none")
                continue
            found.append(Waste(version, f"copy of {url}", taken(version)))
            if version in remove:
                shutil.rmtree(version)
