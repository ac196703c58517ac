"""What processes that were killed have left half written, cleared when their run goes on.

A temporary file carries its process in its name (`.metrics.json.4711.tmp`). In a run's folder only
who holds its lock writes, in a fold's who holds the fold's: with these in hand, whatever another
process began there is dead. Token stores have no lock: one in the making is cleared if no process
of its number lives here and, as another machine may share the disk, nothing moved for an hour.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from foldwise.run.folder import FoldFolder, RunFolder

_TEMPORARY = re.compile(r"^\..+\.(\d+)\.tmp$")
_IDLE_S = 3600
_CHECKPOINT = re.compile(r"^\.step-\d{6,}\.(tmp|old)$")


def clear_leftovers(run: RunFolder, folds: Sequence[FoldFolder]) -> list[Path]:
    """Remove the temporary files and half checkpoints of dead processes.

    Args:
        run: a run that goes on; this process holds its lock,
        folds: and those of these folds.

    Returns:
        What was removed.
    """
    cleared = find_leftovers(run, folds)
    for path in cleared:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return cleared


def find_leftovers(run: RunFolder, folds: Sequence[FoldFolder]) -> list[Path]:
    """List what `clear_leftovers` removes; the same locks must be held."""
    found = []
    for folder in (run.path, run.code, run.backbone, *_members(run.path)):
        found += [path for path in _temporary(folder) if not _lives(path)]
    for store in (run.token_stores, run.embeddings):  # of all runs, so no lock of ours holds them
        found += [path for path in _temporary(store) if not _lives(path) and _idle(path)]
    for fold in folds:
        for folder in (fold.path, *_members(fold.path)):
            found += _temporary(folder)
        found += [path for path in _entries(fold.checkpoints) if _CHECKPOINT.match(path.name)]
    return found


def _members(folder: Path) -> list[Path]:
    # The folder of members itself, where the backbone's weights lie, and theirs.
    members = folder / "members"
    return [members, *(path for path in _entries(members) if path.is_dir())]


def _temporary(folder: Path) -> Iterator[Path]:
    return (path for path in _entries(folder) if _TEMPORARY.match(path.name))


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() and not folder.is_symlink() else []


def _lives(path: Path) -> bool:
    found = _TEMPORARY.match(path.name)
    try:
        os.kill(int(found[1]) if found else 0, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _idle(path: Path) -> bool:
    newest = max(p.stat().st_mtime for p in (path, *_entries(path)))
    return time.time() - newest > _IDLE_S
