"""A run whose folder lies in a store: a working copy here, kept alike at checkpoints and ends.

In: a run's folder; one that isn't a working copy is left alone. Out: the same files here and there.
Everything else works on the folder here, as ever. Who works on a run holds its lease; what another
machine has sent since is fetched first; what is done here is sent by `push`, in an order (order.py)
in which a machine that is lost leaves no more behind than a killed process.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from glob import escape
from pathlib import Path
from typing import Any

from foldwise.errors import FoldwiseError, RunInterrupted
from foldwise.run.files import atomic
from foldwise.run.folder import ONES, FoldFolder, RunFolder
from foldwise.run.lock import holder, lock, use
from foldwise.run.manifests import verify
from foldwise.run.seal import SEAL, seal_text
from foldwise.run.space import free_bytes, no_space
from foldwise.run.tree import check_tree
from foldwise.storage import order, stores
from foldwise.storage.copies import (
    Copy,
    Entry,
    entry_of,
    files_here,
    files_there,
    is_alike,
    read_copy,
    without,
    write_copy,
)
from foldwise.storage.lease import check_free, give_up, hold, read_lease
from foldwise.storage.places import folder_of, url_of
from foldwise.storage.stores import StoreFails
from foldwise.storage.systems import Found
from foldwise.storage.urls import is_url, local_path, name_of

_CHANGES = 5  # that a run may see while it is fetched


def local_run(path: str | os.PathLike[str]) -> Path:
    """Return a run's folder on this disk; of one in a store the working copy, as it is there now.

    Raises:
        FoldwiseError: no run lies at that URL, or it may not be read.
        RunInterrupted: the store fails.
    """
    named = os.fspath(path)
    if not is_url(named):
        return Path(local_path(named))
    run = copy_of(named)
    # First: below a name that is no run's may lie a whole bucket.
    if not run.config.exists() and stores.look(f"{named.rstrip('/')}/{run.config.name}") is None:
        raise no_run(named)
    refresh(run)
    if not run.config.exists():
        raise no_run(named)
    use(readers(run))
    return run.path


def readers(run: RunFolder) -> Path:
    """Return the lock that those hold who read a working copy, to their end."""
    return run.path.with_name(f".{run.path.name}.readers")


def copy_of(url: str) -> RunFolder:
    """Return where the working copy of a run in a store lies, or will."""
    above, name = url.rstrip("/").rpartition("/")[0], name_of(url)
    return RunFolder(folder_of(above) / name)


def no_run(url: str) -> FoldwiseError:
    """Return the error that says that no run lies at a URL."""
    return FoldwiseError(f"{url}: no run lies there (it has no config.yaml); check the name")


def refresh(run: RunFolder) -> None:
    """Fetch what a store has newer of a run, unless a process here works on it."""
    url = url_of(run.path)
    if url is None:
        return
    run.path.parent.mkdir(parents=True, exist_ok=True)
    with guarded(run):
        for left in reversed(range(_CHANGES)):
            if any(True for _ in others(run)):
                return
            copy, lease = read_copy(run), read_lease(url)
            ours = lease is not None and lease.owner == copy.owner
            try:
                write_copy(run, _as_there(run, url, copy, ours=ours))
                return
            except stores.Gone:  # whoever works on it has pruned since it was listed
                if not left:
                    raise


def works_here(run: RunFolder) -> bool:
    """Say whether a process of this machine holds a run in a store."""
    if not run.path.parent.is_dir():
        return False
    with guarded(run):
        return any(True for _ in others(run))


@contextmanager
def mirrored(run: RunFolder, folds: Sequence[FoldFolder] = ()) -> Iterator[None]:
    """Hold a run in a store while the block works on it here; send what it has done at the end.

    Args:
        run: where it lies here.
        folds: those that the block works on, known at its end.

    Raises:
        FoldwiseError: another machine holds it.
        RunInterrupted: the store fails; what is here is kept.
    """
    url = url_of(run.path)
    if url is None:
        yield
        return
    run.path.parent.mkdir(parents=True, exist_ok=True)
    mine = run.path.with_name(f".{run.path.name}.{uuid.uuid4().hex}.user")
    with ExitStack() as held:
        held.callback(mine.unlink, missing_ok=True)
        with guarded(run):
            held.enter_context(lock(mine, str(run.path)))
            held.callback(_leave, run, url, mine)
            _enter(run, url)
        try:
            yield
        except Exception as error:
            # What the log says of it, for whoever goes on elsewhere; the error itself is told.
            if not isinstance(error, StoreFails):
                with suppress(StoreFails, FoldwiseError):
                    push(run, *folds)
            raise
        push(run, *folds)


def push(run: RunFolder, *folds: FoldFolder, record: bool = True) -> None:
    """Send what is new or changed of a run, and remove there what is gone here.

    Args:
        run: where it lies here; one that isn't a working copy is left alone.
        folds: of which everything is sent; this process holds their locks.
        record: send what is the run's, too; else only its log.

    Raises:
        FoldwiseError: another machine has taken the run over.
        RunInterrupted: the store fails; the same call sends what is missing.
    """
    url = url_of(run.path)
    if url is None or not run.config.exists():
        return
    scope = {fold.path.name for fold in folds}
    with guarded(run):
        copy = read_copy(run)
        copy = replace(copy, lease=hold(url, copy.owner, copy.lease))
        write_copy(run, copy)
        if record:
            with lock(run.path / ".lock", str(run.path), wait=True):
                _send(run, url, copy, lambda name: _within(name, scope, record=True))
        else:
            _send(run, url, copy, lambda name: _within(name, scope, record=False))


def push_fold(fold: FoldFolder) -> None:
    """Send what is new of a fold, or of the one model for all, while it is trained."""
    push(fold.run, fold, record=False)


def _within(name: str, scope: Collection[str], *, record: bool) -> bool:
    # A fold's own folder, and its folder in those of trackers; the log grows by whole lines.
    top, _, rest = name.partition("/")
    below = rest.partition("/")[0]
    if top.startswith("fold-") or top in ONES:
        return top in scope
    if rest and below.startswith("fold-"):
        return below in scope
    return record or name == "log.jsonl"


def _enter(run: RunFolder, url: str) -> None:
    copy, lease = read_copy(run), read_lease(url)
    check_free(url, copy.owner, lease)
    ours = lease is not None and lease.owner == copy.owner
    if copy.files and lease is None and not files_there(url):
        raise FoldwiseError(
            f"{url}: is gone from the store; {run.path} still has a copy: put it back there, or "
            "remove that folder to begin anew"
        )
    held = hold(url, copy.owner, None if lease is None else lease.version)
    copy = replace(copy, lease=held)
    write_copy(run, copy)
    write_copy(run, _as_there(run, url, copy, ours=ours))


def _leave(run: RunFolder, url: str, mine: Path) -> None:
    with guarded(run):
        copy = read_copy(run)
        if copy.lease is None or any(other != mine for other in others(run)):
            return
        with suppress(StoreFails, FoldwiseError):  # it runs out by itself
            give_up(url, copy.owner, copy.lease, made=bool(copy.files))
        write_copy(run, replace(copy, lease=None))


def guarded(run: RunFolder) -> Any:
    """Keep other processes from beginning to work on a working copy, or to fetch it."""
    return lock(run.path.with_name(f".{run.path.name}.guard"), str(run.path), wait=True)


def others(run: RunFolder) -> Iterator[Path]:
    """Yield the marks of processes here that hold the run; asked under the guard.

    A mark that nobody holds was left by a killed one, and is removed.
    """
    for path in run.path.parent.glob(f".{escape(run.path.name)}.*.user"):
        if holder(path) is not None:
            yield path
        else:
            path.unlink(missing_ok=True)


def _as_there(run: RunFolder, url: str, copy: Copy, *, ours: bool) -> Copy:
    """Bring the working copy to what the store has, and return what is known of it then.

    Args:
        run: where it lies here.
        url: where it lies there.
        copy: what was known.
        ours: nobody else has held the run since: what is here goes before what is there.
    """
    there = files_there(url)
    versions = {name: found.version for name, found in there.items()}
    begun = run.config.exists() and copy.whole
    if ours and begun:
        # Sent but not written down, or changed there by hand: sent anew. Of half a checkpoint,
        # which may be gone here by now, nothing is to stay there.
        differing = {name for name, entry in copy.files.items() if versions.get(name) != entry[0]}
        odd = (name for name in there.keys() - copy.files.keys() if order.is_checkpoint(name))
        known = without(copy, differing)
        strays = {name: Entry(versions[name], -1, 0, "") for name in odd}
        return replace(known, files=known.files | strays)
    alike = begun and versions == copy.versions()
    if not there or (alike and not copy.lacking(run)):
        return replace(copy, whole=True)
    if begun and not alike and copy.unsent(run):
        _set_aside(run)
        copy = replace(copy, files={})
    return _take(run, there, copy)


def _set_aside(run: RunFolder) -> None:
    number = 1
    while (aside := run.path.with_name(f"{run.path.name}.aside-{number}")).exists():
        number += 1
    os.rename(run.path, aside)
    print(
        f"warning: {run.path}: another machine has gone on with the run; what this one had not "
        f"sent is set aside as {aside}",
        file=sys.stderr,
    )


def _take(run: RunFolder, there: dict[str, Found], copy: Copy) -> Copy:
    write_copy(run, replace(copy, whole=False))
    if run.path.exists():
        check_tree(run.path, ".*")
    wanted = order.whole(there.keys())
    for name, path in files_here(run).items():
        if name not in wanted:
            path.unlink()
    size = sum(there[name].size or 0 for name in wanted)
    if size > free_bytes(run.path) + sum(p.stat().st_size for p in files_here(run).values()):
        raise RunInterrupted(no_space(run.path, size))

    def get(name: str) -> Entry:
        path, known = run.path / name, copy.files.get(name)
        if known is not None and known.version == there[name].version and is_alike(path, known):
            return entry_of(path, known.version, known)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path, there[name].size) as temporary:
            came = stores.fetch(there[name], temporary)
        return entry_of(path, came.version)

    entries = dict(zip(sorted(wanted), stores.each(get, sorted(wanted)), strict=True))
    for name in there.keys() - wanted:
        entries[name] = Entry(there[name].version, -1, 0, "")
    for folder in [*run.path.glob("*/checkpoints/step-*")]:
        try:
            verify(folder)
        except FoldwiseError as error:
            # One that was being replaced when its machine was lost; another is there before it.
            print(f"warning: {error}; it isn't taken from the store", file=sys.stderr)
            shutil.rmtree(folder)
            inside = f"{folder.relative_to(run.path).as_posix()}/"
            for name in [name for name in entries if name.startswith(inside)]:
                entries[name] = Entry(entries[name].version, -1, 0, "")
    for folder in sorted((p for p in run.path.rglob("*") if p.is_dir()), reverse=True):
        with suppress(OSError):  # not empty
            folder.rmdir()
    return replace(copy, whole=True, files=entries)


def _send(run: RunFolder, url: str, copy: Copy, wanted: Callable[[str], bool]) -> None:
    here = {name: path for name, path in files_here(run).items() if wanted(name)}
    there = {name: entry for name, entry in copy.files.items() if wanted(name)}
    changed = {n for n, p in here.items() if n not in there or not is_alike(p, there[n])}
    gone = there.keys() - here.keys()
    if not changed and not gone:
        return
    for manifest in order.revoked(changed, there):
        stores.remove(f"{url}/{manifest}")
        changed.add(manifest)
        there.pop(manifest)
    _bridge(run, url, changed & there.keys(), here)
    sent: dict[str, Entry] = {}

    def put(name: str) -> None:
        with suppress(FileNotFoundError):  # pruned meanwhile
            before = entry_of(here[name], "")
            stores.put(here[name], f"{url}/{name}")
            sent[name] = before

    for stage in order.sending(changed, there.keys()):
        stores.each(put, stage)
    for stage in order.removing(gone):
        stores.each(lambda name: stores.remove(f"{url}/{name}"), stage)
    versions = {name: found.version for name, found in files_there(url).items()}
    files = {name: entry for name, entry in copy.files.items() if name not in gone}
    for name, entry in sent.items():
        files[name] = entry._replace(version=versions.get(name, ""))
    write_copy(run, replace(copy, files=files))


def _bridge(run: RunFolder, url: str, replaced: Collection[str], here: dict[str, Path]) -> None:
    """Have the seals there know both forms of the files that are about to be replaced."""
    for seal in sorted({"", *(f"{name.partition('/')[0]}/" for name in replaced)}):
        if f"{seal}{SEAL}" not in replaced:
            continue
        try:
            stages = _stages(stores.read(f"{url}/{seal}{SEAL}"))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # damaged there, and about to be replaced
        known = {name for entries in stages.values() for name in entries}
        both = {
            name: {"bytes": entry.size, "sha256": entry.sha256}
            for name in sorted(known)
            if name != SEAL and f"{seal}{name}" in replaced and "/checkpoints/" not in f"/{name}"
            for entry in [entry_of(here[f"{seal}{name}"], "")]
        }
        if both:
            text = seal_text({**stages, "before": both})
            stores.put_bytes(text.encode(), f"{url}/{seal}{SEAL}")


def _stages(content: bytes | None) -> Any:
    return {stage: dict(entries) for stage, entries in json.loads(content or b"")["stages"].items()}
