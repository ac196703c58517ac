"""In which order a run's files go to a store, so that what lies there could be a killed run's.

In: names of files, relative to the run. Out: stages; each may begin once the one before is done.
On the disk a step ends with the file that says it is done; the same holds in the store: what a
file vouches for is there before it, and what it makes superfluous goes after it. So whoever goes on
from there, at any moment, finds a state that a killed process could have left.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from foldwise.run.folder import ONES
from foldwise.run.seal import SEAL

_FOLD = rf"(?:fold-\d+|{'|'.join(ONES)})"
_STEP = re.compile(rf"({_FOLD}/checkpoints/step-\d+)/(.+)")
_MANIFEST = "manifest.json"
_NEW = "new: "  # only where the store has none yet

# From first to last. A history comes before the checkpoint that it leads up to, a checkpoint
# before what points at it; a manifest that gives up the optimizer's state after training.json.
_STAGES = [
    r"code/.*|(?:refit|distilled)/asked\.json",
    r"config\.yaml",
    r".*",
    _NEW + r"seal\.json",
    _NEW + r"manifest\.json",
    _NEW + rf"{_FOLD}/checkpoints/step-\d+/manifest\.json",
    rf"{_FOLD}/(?:best|last)\.json",
    rf"{_FOLD}/seal\.json",
    rf"{_FOLD}/training\.json",
    rf"{_FOLD}/(?:validation|measured)\.json",
    r"seal\.json",
    r"metrics\.json",
    rf"report\.html|{_FOLD}/checkpoints/step-\d+/manifest\.json",
]
_OTHERS = _STAGES.index(r".*")
_REMOVALS = [
    r"metrics\.json",
    rf"{_FOLD}/(?:validation|measured)\.json",
    rf"{_FOLD}/training\.json",
    rf"{_FOLD}/(?:seal|best|last)\.json",
    rf"{_FOLD}/checkpoints/step-\d+/manifest\.json",
]


def sending(names: Iterable[str], there: Collection[str]) -> list[list[str]]:
    """Order what is to be sent.

    Args:
        names: new or changed here.
        there: what the store has; of a checkpoint that is sent anew `revoked` is gone by then.
    """
    begun = _MANIFEST in there
    stages: list[list[str]] = [[] for _ in _STAGES]
    for name in sorted(names):
        fresh = not begun if name == SEAL else name not in there
        stages[_rank(name, fresh=fresh)].append(name)
    return [stage for stage in stages if stage]


def removing(names: Iterable[str]) -> list[list[str]]:
    """Order what is to be removed: first what says that something is done."""
    stages: list[list[str]] = [[] for _ in range(len(_REMOVALS) + 1)]
    for name in sorted(names):
        ranks = (rank for rank, kind in enumerate(_REMOVALS) if re.fullmatch(kind, name))
        stages[next(ranks, len(_REMOVALS))].append(name)
    return [stage for stage in stages if stage]


def revoked(names: Iterable[str], there: Collection[str]) -> set[str]:
    """Return the manifests in the store of checkpoints whose other files are to be replaced."""
    steps = (_STEP.fullmatch(name) for name in names)
    manifests = {f"{step[1]}/{_MANIFEST}" for step in steps if step and step[2] != _MANIFEST}
    return manifests & set(there)


def whole(names: Collection[str]) -> set[str]:
    """Leave out the files of checkpoints that lack their manifest: they aren't there yet."""
    steps = {name: _STEP.fullmatch(name) for name in names}
    return {
        name for name, step in steps.items() if step is None or f"{step[1]}/{_MANIFEST}" in names
    }


def is_checkpoint(name: str) -> bool:
    """Say whether a file is part of a checkpoint."""
    return _STEP.fullmatch(name) is not None


def _rank(name: str, *, fresh: bool) -> int:
    for rank, kind in enumerate(_STAGES):
        pattern = kind.removeprefix(_NEW)
        if rank != _OTHERS and (fresh or pattern == kind) and re.fullmatch(pattern, name):
            return rank
    return _OTHERS
