"""Where on this disk lies what belongs to a store: tables, working copies of runs, outputs.

In: a URL. Out: a path below one folder (FOLDWISE_CACHE, else `foldwise` in the user's cache), and
back: the path says which URL it is of, so nothing else has to be remembered. A run that came from
elsewhere can't claim to be of a store: only what lies there is.
"""

from __future__ import annotations

import os
from pathlib import Path

from foldwise.errors import FoldwiseError
from foldwise.run.folder import RunFolder
from foldwise.storage.urls import check_url, is_url, local_path, parts_of

CACHE = "FOLDWISE_CACHE"
RUNS, OUTPUTS, TABLES = "runs", "outputs", "tables"
_LONGEST = 200  # bytes of a name; hidden ones beside it are a little longer


def cache() -> Path:
    """Return the folder, which needn't be there yet."""
    named = os.environ.get(CACHE)
    if named:
        return Path(named).absolute()
    above = os.environ.get("XDG_CACHE_HOME")
    return (Path(above) if above else Path.home() / ".cache") / "foldwise"


def run_of(run_dir: str, name: str) -> RunFolder:
    """Return where a config's run lies: its folder, or the working copy of one in a store.

    Args:
        run_dir: run.dir of a config.
        name: run.name.
    """
    return RunFolder(folder_of(run_dir) / name)


def folder_of(run_dir: str) -> Path:
    """Return the local folder of run.dir."""
    return _placed(RUNS, run_dir) if is_url(run_dir) else Path(local_path(run_dir))


def output_of(path: str) -> Path:
    """Return where an output is written: at its path, or for a store at a place to send it from."""
    return _placed(OUTPUTS, path) if is_url(path) else Path(local_path(path))


def url_of(path: Path, kind: str = RUNS) -> str | None:
    """Return the URL of a working copy (or an output on its way); None of any other path."""
    root = Path(os.path.realpath(cache() / kind))
    real = Path(os.path.realpath(path))
    if not real.is_relative_to(root) or len(parts := real.relative_to(root).parts) < 3:
        return None
    return f"{parts[0]}://{'/'.join(parts[1:])}"


def called(path: Path) -> str:
    """Return what a person calls an output or a run: its URL, or the path as it is."""
    return url_of(path, OUTPUTS) or url_of(path) or str(path)


def _placed(kind: str, url: str) -> Path:
    check_url(url, "a store's address")
    parts = parts_of(url)
    if long := [part for part in parts if len(part.encode()) > _LONGEST]:
        raise FoldwiseError(f"{url}: the name {long[0]!r} is too long for a file on this disk")
    return cache().joinpath(kind, *parts)
