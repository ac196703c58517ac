"""The seal of a run: size and SHA-256 of every file that gives it its meaning.

In: files that are on the disk. Out: `seal.json` in the run's folder, and one in each fold's, by
stages: what a step wrote. Whoever opens a run checks the stages it reads, so that a file that was
edited, swapped, damaged or deleted is named instead of giving other numbers.

Each step ends by writing one file that says it is done (manifest.json, training.json,
validation.json, measured.json, metrics.json). The seal is written just before that file and names
it too. A kill before the seal leaves a step that isn't done, one after it a file that isn't there:
both times the same command does the step again. A seal is a checksum and no signature: whoever can
write to the folder can seal it anew.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from foldwise.errors import FoldwiseError
from foldwise.run.contents import Metrics, Seal
from foldwise.run.files import to_json, write_text
from foldwise.run.folder import ONES, FoldFolder, RunFolder
from foldwise.run.manifests import WEIGHTS, read_manifest
from foldwise.run.readers import read_json

SEAL = "seal.json"
SCHEMA = 2
LOG = "log.jsonl"
# Stage -> the file whose presence says that it is done, and what else it must name.
STAGES: dict[str, tuple[str | None, set[str]]] = {
    "begun": ("manifest.json", {"config.yaml", "classes.json", "folds.parquet"}),
    "finished": ("metrics.json", {"oof.parquet"}),
    "trained": ("training.json", {"encoders.json", "best.json", "metrics.jsonl"}),
    "fitted": (None, {"asked.json", "encoders.json"}),  # of members alone, in place of "trained"
    "validated": ("validation.json", {"predictions.parquet"}),
    "members": (None, set()),
    "measured": ("measured.json", {"holdout.parquet"}),
    "before": (None, set()),  # what a file was that is being replaced
}
_FIRST = {"begun", "trained", "fitted"}
_GONE = "is gone"
Stages = dict[str, dict[str, dict[str, Any]]]

# What a change of a file changes, for the message.
_MEANING = {
    "config.yaml": "it says what was run",
    "classes.json": "it says which class each output stands for",
    "folds.parquet": "it says which rows train and score which fold",
    "manifest.json": "it says what the run was made of",
    "backbone": "texts become tokens and the model is built by it",
    "code": "it is the run's own code",
    "encoders.json": "it holds what was fitted on the fold's training rows",
    "best.json": "it says which weights are the fold's model",
    "checkpoints": "it holds the fold's model",
    "training.json": "it says how the fold's training ended",
    "metrics.jsonl": "it holds the fold's learning curves",
    "predictions.parquet": "the out-of-fold scores come from it",
    "holdout.parquet": "the holdout's scores come from it",
    "validation.json": "it holds the fold's scores",
    "oof.parquet": "report and comparison are made from it",
    "members": "the run's answer is made of it",
    "metrics.json": "it holds the scores",
    "asked.json": "it says what the model was made of",
    "measured.json": "it holds what the model comes to on the holdout",
    SEAL: "it vouches for the fold's files",
    LOG: "it holds what the training took",
}
_NOT_NEEDED = "best.json"  # the checkpoints' manifests say it too, and validating writes it again
_MADE_AGAIN = {"finished", "validated", "members"}  # by validating
_NAME = re.compile(r"[^/.\\\0][^/\\\0]*(/[^/.\\\0][^/\\\0]*){0,3}")


def commit(
    folder: Path,
    stage: str,
    files: Iterable[Path],
    last: Path,
    text: str,
    weights: Path | None = None,
) -> None:
    """Seal a step's files, then write the one that says it is done.

    Args:
        folder: of the run or the fold.
        stage: a key of STAGES; a first one starts the seal anew.
        files: those that are on the disk.
        last: the file to write.
        text: what it is to hold.
        weights: of a fold's model, in a checkpoint. Its manifest tells their hash; its other files
            aren't sealed, as what only a continued training needs may go.
    """
    _seal(folder, stage, files, weights, {last.name: _planned(text)})
    write_text(last, text)


def add(folder: Path, stage: str, files: Iterable[Path], weights: Path | None = None) -> None:
    """Seal files of a step that are all on the disk."""
    _seal(folder, stage, files, weights, {})


def replace(folder: Path, path: Path, text: str) -> None:
    """Replace a file that is sealed; a kill at any moment leaves one that the seal knows.

    Raises:
        FoldwiseError: it isn't as it was sealed.
    """
    stages = {s: entries for s, entries in read_seal(folder).items() if s != "before"}
    stage = next(stage for stage, entries in stages.items() if path.name in entries)
    check(folder, stage, only=[path.name])
    before = {path.name: entry_of(path)}
    stages[stage] = stages[stage] | {path.name: _planned(text)}
    write_text(folder / SEAL, seal_text(stages | {"before": before}))
    write_text(path, text)
    write_text(folder / SEAL, seal_text(stages))


def begun_files(run: RunFolder) -> list[Path]:
    """List what a run's record consists of before its manifest: whatever lies there by then.

    A task of one's own may have saved files that Foldwise knows nothing of.
    """
    found = []
    for path in sorted(run.path.rglob("*")):
        parts = path.relative_to(run.path).parts
        aside = parts[0].startswith("fold-") or parts[0] in ONES
        aside = aside or any(part.startswith(".") for part in parts)
        if not aside and path not in (run.log, run.manifest, run.path / SEAL) and path.is_file():
            found.append(path)
    return found


def files_of(folder: Path) -> list[Path]:
    """List the files of a folder and of those below it, in order; hidden ones are passed over."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in found if not path.name.startswith("."))


def read_seal(folder: Path) -> Stages:
    """Return the stages that a folder's seal has; none where there is no seal.

    Raises:
        FoldwiseError: the seal itself is damaged.
    """
    path = folder / SEAL
    if not path.exists() and not path.is_symlink():
        return {}
    seal = read_json(path, Seal)
    stages: Stages = seal["stages"]
    if seal["schema"] == 1:
        raise FoldwiseError(
            f"{path}: is of a version of Foldwise before a run had members; if you trust the run's "
            f"files, give: foldwise verify {_run_of(folder).path} --seal"
        )
    sound = (
        seal["schema"] == SCHEMA
        and not path.is_symlink()
        and path.read_bytes() == to_json(seal).encode("utf-8")
        and seal["sha256"] == _digest(stages)
        and stages.keys() <= STAGES.keys()
        and all(_NAME.fullmatch(name) for entries in stages.values() for name in entries)
        and all(_needed(stage) <= entries.keys() for stage, entries in stages.items())
    )
    if not sound:
        raise FoldwiseError(
            f"{path}: damaged: it isn't as Foldwise wrote it, so nothing vouches for the files it "
            f"names; put it back from a copy of the run{_or_reseal(_run_of(folder))}"
        )
    return stages


def check(folder: Path, *stages: str, only: Collection[str] | None = None) -> None:
    """Check files against their seal before they are read; best.json may be gone.

    Args:
        folder: of the run or the fold.
        stages: what was sealed together.
        only: names of the files to check; None for all of these stages.

    Raises:
        FoldwiseError: naming the first file that isn't as it was sealed, and what to do.
    """
    for problem in differences(folder, *stages, only=only, whole=False):
        raise FoldwiseError(problem)


def differences(
    folder: Path, *stages: str, only: Collection[str] | None = None, whole: bool = True
) -> Iterator[str]:
    """Say of each file of some stages that differs what is wrong and what to do.

    Args:
        folder: of the run or the fold.
        stages: what was sealed together.
        only: names of the files to look at; None for all of these stages.
        whole: a file that can be done without is missed, too.
    """
    found = read_seal(folder)
    run = _run_of(folder)
    for stage in stages:
        if stage not in found:
            yield _unsealed(folder, stage)
            continue
        for name, entry in found[stage].items():
            if only is not None and name not in only:
                continue
            before = [e for n, e in found.get("before", {}).items() if n == name]
            wrong = _wrong(folder / name, [entry, *before])
            spare = wrong == _GONE and name == _NOT_NEEDED
            if wrong is not None and (whole or not spare):
                why = f"{folder / name}: {wrong} since it was sealed ({_meaning(name)})"
                yield f"{why}; {_remedy(folder, stage, name)}"
        if stage == "begun" and only is None:
            yield from _strangers(run, found[stage])


def check_finished(run: RunFolder) -> None:
    """Check what report and comparison read of a finished run."""
    check(run.path, "finished")
    for number in sealed_folds(run):
        fold = run.fold(number)
        check(fold.path, "trained", only=[fold.trained.name, fold.history.name])


def sealed_folds(run: RunFolder) -> list[int]:
    """Return the folds that a finished run is made of; none while it isn't finished."""
    names = read_seal(run.path).get("finished", {})
    matches = (re.fullmatch(rf"fold-(\d+)/{SEAL}", name) for name in names)
    return sorted(int(match[1]) for match in matches if match)


def trained_folds(run: RunFolder) -> list[int]:
    """Return the folds that were trained: also one whose files have gone since, to be missed."""
    folds = [run.fold(number) for number in run.fold_numbers()]
    found = [f.number for f in folds if f.trained.exists() or (f.path / SEAL).exists()]
    return sorted({*found, *sealed_folds(run)})


def is_done(fold: FoldFolder) -> bool:
    """Whether a fold is trained and validated, and its other members are fitted."""
    wanted = {"trained", "validated", "members"}
    return fold.validation.exists() and wanted <= read_seal(fold.path).keys()


def intact(folder: Path, stage: str) -> set[Path]:
    """Return the files of a stage that are as they were sealed; none where it isn't sealed."""
    entries = read_seal(folder).get(stage, {})
    return {folder / n for n, entry in entries.items() if _wrong(folder / n, [entry]) is None}


def read_metrics(run: RunFolder) -> dict[str, Any]:
    """Read the scores of a finished run, as they were sealed."""
    check(run.path, "finished", only=[run.metrics.name])
    return dict(read_json(run.metrics, Metrics))


def entry_of(path: Path) -> dict[str, Any]:
    """Return a file's size in bytes and SHA-256.

    Raises:
        FoldwiseError: it isn't there, or is a link.
    """
    if not path.is_file() or path.is_symlink():
        raise FoldwiseError(f"{path}: no such file; is this a complete run folder?")
    size = path.stat().st_size
    return {"bytes": size, "sha256": _sha256(path, size)}


def _seal(
    folder: Path,
    stage: str,
    files: Iterable[Path],
    weights: Path | None,
    planned: dict[str, dict[str, Any]],
) -> None:
    stages = {} if stage in _FIRST else read_seal(folder)
    entries = {str(path.relative_to(folder)): entry_of(path) for path in files} | planned
    if weights is not None:
        entries[str(weights.relative_to(folder))] = _of_weights(weights)
    write_text(folder / SEAL, seal_text(stages | {stage: dict(sorted(entries.items()))}))


def seal_text(stages: Stages) -> str:
    """Return the text of a seal of some stages."""
    ordered = {stage: stages[stage] for stage in STAGES if stage in stages}
    return to_json({"schema": SCHEMA, "stages": ordered, "sha256": _digest(ordered)})


def _planned(text: str) -> dict[str, Any]:
    content = text.encode("utf-8")
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _wrong(path: Path, entries: list[dict[str, Any]]) -> str | None:
    if path.is_symlink():
        return "has become a link"
    if not path.is_file():
        return _GONE
    if path.parent.parent.name == "checkpoints":  # their bytes are checked as they are loaded
        return (
            None
            if _of_weights(path) in entries
            else "has other weights (or manifest.json beside it has changed)"
        )
    # Of a log only what was there when it was sealed: events come after that.
    grows, size = path.name == LOG, path.stat().st_size
    for entry in entries:
        as_long = size == entry["bytes"] or (grows and size > entry["bytes"])
        if as_long and entry["sha256"] == _sha256(path, entry["bytes"]):
            return None
    return "has changed"


def _of_weights(path: Path) -> dict[str, Any]:
    entry = read_manifest(path.parent)["files"][WEIGHTS]
    return {"bytes": entry.get("bytes"), "sha256": entry.get("sha256")}


def _sha256(path: Path, size: int) -> str:
    # Of the first bytes alone: a log grows.
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while size > 0 and (part := file.read(min(size, 1 << 20))):
            digest.update(part)
            size -= len(part)
    return digest.hexdigest()


def _strangers(run: RunFolder, sealed: dict[str, Any]) -> Iterator[str]:
    # transformers reads what it finds beside a config: a file more changes the tokenizer, too.
    for path in sorted(run.backbone.rglob("*")) if run.backbone.is_dir() else []:
        name = str(path.relative_to(run.path))
        if not path.is_dir() and not path.name.startswith(".") and name not in sealed:
            yield (
                f"{path}: wasn't there when the run was sealed ({_MEANING['backbone']}); "
                f"remove it{_or_reseal(run)}"
            )


def _unsealed(folder: Path, stage: str) -> str:
    if stage == "begun":
        return (
            f"{folder}: has no {SEAL}: a version of Foldwise before there were seals made it, or "
            "the file is gone, so nothing vouches for its files; if you trust them, give: foldwise "
            f"verify {folder} --seal"
        )
    last = STAGES[stage][0]
    told = f"{folder / SEAL}: doesn't vouch for {last or stage}"
    return f"{told}; {_remedy(folder, stage, str(last))}"


def _meaning(name: str) -> str:
    first, _, rest = name.partition("/")
    return _MEANING.get(first) or _MEANING.get(rest) or "the run was made with it"


def _remedy(folder: Path, stage: str, name: str) -> str:
    run = _run_of(folder)
    if folder.name in ONES and run.path != folder:
        return f"put it back from a copy of the run, or remove {folder} and make it anew" + (
            _or_reseal(run)
        )
    if stage in _MADE_AGAIN or name == _NOT_NEEDED:
        first = "remove it if it is there; " if name == _NOT_NEEDED else ""
        return f"{first}to make it again, give: foldwise validate {run.path}"
    copy = "put it back from a copy of the run"
    if stage == "trained":
        copy += f", or remove {folder} and train again"
    return copy + _or_reseal(run)


def _or_reseal(run: RunFolder) -> str:
    return f"; if the change is meant, give: foldwise verify {run.path} --seal"


def _run_of(folder: Path) -> RunFolder:
    named = folder.name in ONES or re.fullmatch(r"fold-\d+", folder.name)
    is_fold = named and not (folder / "config.yaml").exists()
    return RunFolder(folder.parent if is_fold else folder)


def _needed(stage: str) -> set[str]:
    last, others = STAGES[stage]
    return others | ({last} if last is not None else set())


def _digest(stages: Stages) -> str:
    return hashlib.sha256(to_json(stages).encode("utf-8")).hexdigest()
