"""Checkpoints: one folder a step, safetensors and JSON, complete or absent.

In: tensors and plain state. Out: `checkpoints/step-000120/` whose `manifest.json` (size and sha256
of each file) is written last inside a hidden folder that is then renamed. A folder that fails its
manifest is renamed to `damaged-…`, never deleted and never loaded: safetensors has no checksum of
its own.

Which step is the best stands in the manifests: the newest one that says `best: true`, as only a
better score writes it. `best.json` and `last.json` point there for whoever looks; they are checked
against the manifests and written anew where training goes on.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from foldwise.errors import FoldwiseError, RunInterrupted
from foldwise.run.contents import Contents
from foldwise.run.files import sha256, sync_file, sync_folder, to_json, write_json, write_text
from foldwise.run.folder import FoldFolder
from foldwise.run.manifests import (
    OPTIMIZER,
    SCHEMA,
    WEIGHTS,
    best_step,
    folder_of,
    last_step,
    manifests,
    read_manifest,
    steps,
    verify,
)
from foldwise.run.readers import read_json, read_tensors
from foldwise.run.space import room_for

if TYPE_CHECKING:
    import torch

KEEP = 2  # that training can go on from: with the newest damaged there is one before it
Keep = Literal["best", "last", "all"]


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
    final = folder_of(fold, checkpoint.step)
    building = fold.checkpoints / f".{final.name}.tmp"
    shutil.rmtree(building, ignore_errors=True)
    tensors = [*checkpoint.model.values(), *(checkpoint.optimizer.values() if last else ())]
    with room_for(final, sum(tensor.nbytes for tensor in tensors)):
        try:
            building.mkdir()
            save_file(_contiguous(checkpoint.model), building / WEIGHTS)
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
    _point(fold)
    prune(fold)


def load(folder: Path) -> Checkpoint:
    """Read a checkpoint after checking every file against its manifest.

    Raises:
        FoldwiseError: the checkpoint is incomplete or a file's bytes have changed.
    """
    manifest = verify(folder)
    return Checkpoint(
        step=manifest["step"],
        model=read_tensors(folder / WEIGHTS),
        optimizer=read_tensors(folder / OPTIMIZER) if OPTIMIZER in manifest["files"] else {},
        state=read_json(folder / "state.json", Contents),
    )


def load_best(fold: FoldFolder) -> Checkpoint:
    """Read the best weights of a trained fold.

    Raises:
        FoldwiseError: there are none, or they are damaged; saying how to get them back.
    """
    try:
        return load(pointed(fold, "best"))
    except FoldwiseError as error:
        raise FoldwiseError(f"{error}; {_to_get_back(fold)}") from None


def newest(fold: FoldFolder) -> Checkpoint | None:
    """Return the newest sound checkpoint that training can go on from; None if none was saved.

    Unsound ones are set aside under a `damaged-` name, which is told and logged, and the one before
    is tried. The folder is left as it was right after that step: what training had saved past it is
    trained again, and might come out otherwise (on a GPU, or with another learning rate).

    Raises:
        RunInterrupted: checkpoints were saved but none is sound; training never restarts silently.
    """
    problems = []
    for step in reversed(steps(fold)):
        folder = folder_of(fold, step)
        try:
            if OPTIMIZER not in verify(folder)["files"]:
                continue
            checkpoint = load(folder)
        except FoldwiseError as error:
            problems.append(str(error))
            quarantine(fold, folder, str(error))
            continue
        _rewind(fold, step)
        return checkpoint
    if fold.last.exists() and not problems:
        problems.append(f"{fold.last} names one that isn't there")
    if problems:
        raise RunInterrupted(
            f"fold {fold.number}: no sound checkpoint to continue from; "
            + "; ".join(problems)
            + f"; to train the fold anew, remove {fold.path}"
        )
    _rewind(fold, 0)
    return None


def pointed(fold: FoldFolder, which: Literal["best", "last"] = "best") -> Path:
    """Return the folder of the best or the last checkpoint, by the manifests.

    A pointer that is gone isn't missed; one that says otherwise is an error, as one of the two has
    been changed.

    Raises:
        FoldwiseError: no such checkpoint, or `best.json` or `last.json` says otherwise.
    """
    step = (best_step if which == "best" else last_step)(fold)
    if step is None:
        raise FoldwiseError(
            f"{fold.checkpoints}: holds no {which} checkpoint; train fold {fold.number} first"
        )
    pointer = fold.best if which == "best" else fold.last
    if pointer.exists() and pointer.read_bytes() != _pointer(step).encode():
        raise FoldwiseError(
            f"{pointer}: isn't what was written there: by the checkpoints' manifests the {which} "
            f"is {folder_of(fold, step).name}; remove the file, it isn't needed to find that one"
        )
    return folder_of(fold, step)


def prune(fold: FoldFolder) -> None:
    """Delete all but the newest two that training can go on from, and the best as of each step.

    Not only the best of all: who goes on from the older of the two goes on with its best weights.
    What has a manifest that can't be read is spared, as nobody knows what it is.
    """
    found = manifests(fold)
    # Weights alone don't count: with the newest one damaged, training falls back on the second.
    whole = [step for step, manifest in found.items() if OPTIMIZER in manifest["files"]][-KEEP:]
    best = [step for step, manifest in found.items() if manifest["best"]]
    kept = {*whole, *best[-1:]}
    for last in whole:
        kept.update([step for step in best if step <= last][-1:])
    for step in found.keys() - kept:
        _discard(folder_of(fold, step))


def settle(fold: FoldFolder, keep: Keep) -> None:
    """Keep of a trained fold what `training.keep` says; done already, nothing changes.

    `training.json` stands before anything is deleted: a fold that has it is never trained again, so
    a kill in the middle leaves one that is trained, and the next call ends what this one began.

    Args:
        fold: a fold that is trained.
        keep: best: the best weights; last: the last ones too; all: what training left.

    Raises:
        FoldwiseError: the best weights are damaged; nothing was deleted.
    """
    best, last = best_step(fold), last_step(fold)
    if best is None or last is None:
        raise FoldwiseError(f"{fold.checkpoints}: holds no best checkpoint; {_to_get_back(fold)}")
    kept = {best, last} if keep == "last" else {best}
    found = manifests(fold)
    if keep != "all" and (found.keys() - kept or any(_has_optimizer(fold, s) for s in kept)):
        try:
            verify(folder_of(fold, best))
        except FoldwiseError as error:
            raise FoldwiseError(f"{error}; {_to_get_back(fold)}") from None
        for step in found.keys() - kept:
            _discard(folder_of(fold, step))
        for step in kept:
            _drop_optimizer(folder_of(fold, step))
    _point(fold)


def mend(fold: FoldFolder) -> None:
    """Write a trained fold's best.json again where it is gone; one that is there is left alone."""
    if (best := best_step(fold)) is not None and not fold.best.exists():
        write_text(fold.best, _pointer(best))


def quarantine(fold: FoldFolder, folder: Path, reason: str) -> None:
    """Rename a damaged checkpoint so that nothing loads it and nothing is lost; tell and log it."""
    number = 1
    while (target := folder.with_name(f"damaged-{number}-{folder.name}")).exists():
        number += 1
    os.rename(folder, target)
    sync_folder(folder.parent)
    fold.append_log("checkpoint set aside", renamed=target.name, reason=reason)
    print(f"warning: {reason}; set aside as {target}", file=sys.stderr)


def _rewind(fold: FoldFolder, step: int) -> None:
    # The fold's folder as it was after a step: no later checkpoint, and pointers that agree.
    for later in (number for number in steps(fold) if number > step):
        _discard(folder_of(fold, later))
    best = best_step(fold)
    if best is not None:
        try:
            verify(folder_of(fold, best))
        except FoldwiseError as error:
            quarantine(fold, folder_of(fold, best), str(error))
    _point(fold)


def _point(fold: FoldFolder) -> None:
    # Written only where they don't say it already: what is finished keeps its times.
    for pointer, step in ((fold.last, last_step(fold)), (fold.best, best_step(fold))):
        if step is None:
            pointer.unlink(missing_ok=True)
        elif not pointer.exists() or pointer.read_bytes() != _pointer(step).encode():
            write_text(pointer, _pointer(step))


def _pointer(step: int) -> str:
    return to_json({"step": step, "folder": f"step-{step:06d}"})


def _has_optimizer(fold: FoldFolder, step: int) -> bool:
    return (folder_of(fold, step) / OPTIMIZER).exists()


def _drop_optimizer(folder: Path) -> None:
    # The manifest first: a kill in between leaves a file that no manifest names, and no checkpoint
    # that lacks one.
    manifest = read_manifest(folder)
    if OPTIMIZER in manifest["files"]:
        del manifest["files"][OPTIMIZER]
        write_json(folder / "manifest.json", manifest)
    (folder / OPTIMIZER).unlink(missing_ok=True)


def _to_get_back(fold: FoldFolder) -> str:
    return (
        f"to get the best weights of fold {fold.number} back, restore {fold.checkpoints} from a "
        f"copy, or remove {fold.path} and give the train command again: it trains this fold anew"
    )


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
