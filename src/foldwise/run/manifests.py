"""What lies in a fold's checkpoints, by their manifests: which steps, whole or not, which the best.

In: a fold's folder. Out: steps and manifests; nothing is written and no tensor is read. A manifest
has the size and sha256 of each file of its step and says whether that was the best so far.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from foldwise.errors import FoldwiseError
from foldwise.run.files import sha256, to_json
from foldwise.run.folder import FoldFolder

SCHEMA = 1
WEIGHTS = "model.safetensors"
OPTIMIZER = "optimizer.safetensors"
_STEP = re.compile(r"^step-(\d{6,})$")
_KEYS = {"schema", "step", "best", "files"}


def verify(folder: Path) -> dict[str, Any]:
    """Return a checkpoint's manifest if each file has the sha256 it names.

    Raises:
        FoldwiseError: naming the file and what is wrong with it.
    """
    manifest = read_manifest(folder)
    for name, entry in manifest["files"].items():
        path = folder / name
        if Path(name).name != name or path.is_symlink() or not path.is_file():
            raise FoldwiseError(f"{path}: missing from the checkpoint")
        if path.stat().st_size != entry.get("bytes") or sha256(path) != entry["sha256"]:
            raise FoldwiseError(f"{path}: its bytes have changed since it was written")
    return manifest


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read a checkpoint's manifest without looking at the files that it names.

    Raises:
        FoldwiseError: it is missing, damaged, or another step's.
    """
    path = folder / "manifest.json"
    try:
        text = path.read_text(encoding="utf-8")
        manifest = json.loads(text)
        known = manifest["schema"] == SCHEMA and manifest.keys() <= _KEYS
        files = {str(name) for name, entry in manifest["files"].items() if entry["sha256"]}
        step = int(manifest["step"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise FoldwiseError(f"{folder}: its manifest.json is missing or damaged") from None
    if not known or text != to_json(manifest) or path.is_symlink() or folder.is_symlink():
        raise FoldwiseError(f"{folder}: its manifest.json isn't as Foldwise writes it")
    if not {WEIGHTS, "state.json"} <= files:
        raise FoldwiseError(f"{folder}: its manifest.json names no weights")
    if _STEP.match(folder.name) and folder.name != f"step-{step:06d}":
        raise FoldwiseError(f"{folder}: its manifest.json is of step {step}")
    return dict(manifest)


def manifests(fold: FoldFolder) -> dict[int, dict[str, Any]]:
    """Read the manifests of a fold by step, ascending; those that can't be read are left out."""
    found = {}
    for step in steps(fold):
        try:
            manifest = read_manifest(folder_of(fold, step))
        except FoldwiseError:
            continue
        found[step] = {"best": False, **manifest}
    return found


def best_step(fold: FoldFolder) -> int | None:
    """Return the newest step whose manifest says that it is the best; None if none does."""
    return max(
        (step for step, manifest in manifests(fold).items() if manifest["best"]), default=None
    )


def last_step(fold: FoldFolder) -> int | None:
    """Return the newest step that training can go on from; of a trained fold the newest kept."""
    found = manifests(fold)
    whole = [step for step, manifest in found.items() if OPTIMIZER in manifest["files"]]
    return max(whole or (found if fold.trained.exists() else ()), default=None)


def steps(fold: FoldFolder) -> list[int]:
    """Return the steps that have a checkpoint folder, ascending."""
    if not fold.checkpoints.is_dir():
        return []
    matches = (_STEP.match(path.name) for path in fold.checkpoints.iterdir())
    return sorted(int(match.group(1)) for match in matches if match)


def folder_of(fold: FoldFolder, step: int) -> Path:
    """Return where a step's checkpoint lies."""
    return fold.checkpoints / f"step-{step:06d}"
