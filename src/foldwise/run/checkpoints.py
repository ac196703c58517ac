"""Checkpoints: one folder a step, safetensors and JSON, complete or absent.

In: tensors and plain state. Out: `checkpoints/step-000120/` whose `manifest.json` (size and sha256
of each file) is written last inside a hidden folder that is then renamed; the pointers `best.json`
and `last.json` name a step only after its folder is durable. A folder that fails its manifest is
renamed to `damaged-…`, never deleted and never loaded: safetensors has no checksum of its own.
A kill between a folder and its pointers is mended by `newest`: the manifest says if it is the best.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foldwise.errors import FoldwiseError, RunInterrupted
from foldwise.run.files import sha256, sync_file, sync_folder, to_json, write_json
from foldwise.run.folder import FoldFolder

if TYPE_CHECKING:
    import torch

SCHEMA = 1
KEEP = 2
OPTIMIZER = "optimizer.safetensors"
_STEP = re.compile(r"^step-(\d{6,})$")
_KEYS = {"schema", "step", "best", "files"}


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds.

    Attributes:
        step: optimizer updates done.
        model: the model's tensors by name.
        optimizer: the optimizer's tensors by "index.name"; empty in a checkpoint of weights only.
        state: everything else training needs to go on, JSON values.
    """

    step: int
    model: dict[str, torch.Tensor]
    optimizer: dict[str, torch.Tensor]
    state: dict[str, Any]


def save(fold: FoldFolder, checkpoint: Checkpoint, *, best: bool, last: bool) -> None:
    """Write a checkpoint, point `best` and/or `last` at it, and prune what neither needs.

    Args:
        fold: the fold's folder.
        checkpoint: what to write; with `last` it carries the optimizer's tensors too.
        best: it is the best so far.
        last: training can continue from it.
    """
    from safetensors.torch import save_file

    fold.checkpoints.mkdir(parents=True, exist_ok=True)
    final = fold.checkpoints / f"step-{checkpoint.step:06d}"
    building = fold.checkpoints / f".{final.name}.tmp"
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir()
    try:
        save_file(_contiguous(checkpoint.model), building / "model.safetensors")
        # Of an optimizer without state (plain SGD) too: the file says that training can go on.
        if last:
            save_file(_contiguous(checkpoint.optimizer), building / OPTIMIZER)
        (building / "state.json").write_text(json.dumps(checkpoint.state), encoding="utf-8")
        files = {}
        for path in sorted(building.iterdir()):
            sync_file(path)
            files[path.name] = {"bytes": path.stat().st_size, "sha256": sha256(path)}
        write_json(
            building / "manifest.json",
            {"schema": SCHEMA, "step": checkpoint.step, "best": best, "files": files},
        )
        sync_folder(building)
        _replace_folder(building, final)
    finally:
        shutil.rmtree(building, ignore_errors=True)  # a disk that was full gets its space back
    _point(fold, checkpoint.step, best=best, last=last)
    prune(fold)


def load(folder: Path) -> Checkpoint:
    """Read a checkpoint after checking every file against its manifest.

    Raises:
        FoldwiseError: the checkpoint is incomplete or a file's bytes have changed.
    """
    from safetensors.torch import load_file

    manifest = verify(folder)
    return Checkpoint(
        step=manifest["step"],
        model=load_file(folder / "model.safetensors"),
        optimizer=load_file(folder / OPTIMIZER) if OPTIMIZER in manifest["files"] else {},
        state=json.loads((folder / "state.json").read_text(encoding="utf-8")),
    )


def verify(folder: Path) -> dict[str, Any]:
    """Return a checkpoint's manifest if each file has the sha256 it names.

    Raises:
        FoldwiseError: naming the file and what is wrong with it.
    """
    path = folder / "manifest.json"
    try:
        text = path.read_text(encoding="utf-8")
        manifest = json.loads(text)
        known = manifest["schema"] == SCHEMA and manifest.keys() <= _KEYS
        files = {str(name): entry["sha256"] for name, entry in manifest["files"].items()}
        step = int(manifest["step"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise FoldwiseError(f"{folder}: its manifest.json is missing or damaged") from None
    if not known or text != to_json(manifest) or path.is_symlink():
        raise FoldwiseError(f"{folder}: its manifest.json isn't as Foldwise writes it")
    if not {"model.safetensors", "state.json"} <= set(files):
        raise FoldwiseError(f"{folder}: its manifest.json names no weights")
    if _STEP.match(folder.name) and folder.name != f"step-{step:06d}":
        raise FoldwiseError(f"{folder}: its manifest.json is of step {step}")
    for name, expected in files.items():
        path = folder / name
        if Path(name).name != name or path.is_symlink() or not path.is_file():
            raise FoldwiseError(f"{path}: missing from the checkpoint")
        if path.stat().st_size != manifest["files"][name].get("bytes") or sha256(path) != expected:
            raise FoldwiseError(f"{path}: its bytes have changed since it was written")
    return dict(manifest)


def newest(fold: FoldFolder) -> Checkpoint | None:
    """Return the newest sound checkpoint that training can go on from; None if none was saved.

    Unsound ones are set aside under a `damaged-` name and the one before is tried. The pointers are
    made to agree with what is returned, as a kill may have come before they were written.

    Raises:
        RunInterrupted: checkpoints were saved but none is sound; training never restarts silently.
    """
    problems = []
    for step in reversed(steps(fold)):
        folder = fold.checkpoints / f"step-{step:06d}"
        try:
            manifest = verify(folder)
            if OPTIMIZER in manifest["files"]:
                checkpoint = load(folder)
                _point(fold, step, best=manifest.get("best", False), last=True)
                return checkpoint
        except FoldwiseError as error:
            problems.append(str(error))
            quarantine(folder)
    if fold.last.exists() and not problems:
        problems.append(f"{fold.last} names one that isn't there")
    if problems:
        raise RunInterrupted(
            f"fold {fold.number}: no sound checkpoint to continue from; "
            + "; ".join(problems)
            + f"; to train the fold anew, remove {fold.path}"
        )
    return None


def pointed(fold: FoldFolder, which: str = "best") -> Path:
    """Return the folder that `best.json` or `last.json` points at.

    Raises:
        FoldwiseError: no such pointer, or it points nowhere.
    """
    pointer = fold.best if which == "best" else fold.last
    name = _named(pointer)
    if name is None:
        raise FoldwiseError(f"{pointer}: missing or damaged; train fold {fold.number} first")
    folder = fold.checkpoints / name
    if not _STEP.match(name) or not folder.is_dir():
        raise FoldwiseError(f"{pointer}: points at {name!r}, which isn't a checkpoint here")
    return folder


def steps(fold: FoldFolder) -> list[int]:
    """Return the steps that have a checkpoint folder, ascending."""
    if not fold.checkpoints.is_dir():
        return []
    matches = (_STEP.match(path.name) for path in fold.checkpoints.iterdir())
    return sorted(int(match.group(1)) for match in matches if match)


def prune(fold: FoldFolder) -> None:
    """Delete all but the newest two that training can go on from and those the pointers name."""
    folders = [fold.checkpoints / f"step-{step:06d}" for step in steps(fold)]
    named = [_named(pointer) for pointer in (fold.best, fold.last) if pointer.exists()]
    if None in named:
        return  # a pointer can't be read, so nobody knows which one to spare
    # Weights alone don't count: with the newest one damaged, training falls back on the second.
    kept = {*named, *(f.name for f in [f for f in folders if (f / OPTIMIZER).exists()][-KEEP:])}
    for folder in folders:
        if folder.name not in kept:
            _discard(folder)


def quarantine(folder: Path) -> None:
    """Rename a damaged checkpoint so that nothing loads it and nothing is lost."""
    number = 1
    while (target := folder.with_name(f"damaged-{number}-{folder.name}")).exists():
        number += 1
    os.rename(folder, target)
    sync_folder(folder.parent)


def _point(fold: FoldFolder, step: int, *, best: bool, last: bool) -> None:
    for pointer, wanted in ((fold.last, last), (fold.best, best)):
        if wanted:
            write_json(pointer, {"step": step, "folder": f"step-{step:06d}"})


def _named(pointer: Path) -> str | None:
    # The folder's name as it stands in a pointer; None where the pointer is absent or damaged.
    try:
        return str(json.loads(pointer.read_text(encoding="utf-8"))["folder"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _replace_folder(source: Path, target: Path) -> None:
    # A folder can't be renamed over a full one, so an older save of the same step moves away first.
    if target.exists():
        _discard(target)
    os.rename(source, target)
    sync_folder(target.parent)


def _discard(folder: Path) -> None:
    # Renamed before it is deleted: a kill in between leaves no half checkpoint under a valid name.
    doomed = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(doomed, ignore_errors=True)
    os.rename(folder, doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def _contiguous(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    # safetensors refuses tensors that share memory (tied embeddings) or aren't contiguous.
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
