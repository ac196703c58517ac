"""`foldwise export`: a run's model as a folder that works without Foldwise."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from foldwise.commands.output import PLAIN, Output
from foldwise.commands.quiet import begin
from foldwise.errors import FoldwiseError
from foldwise.run.files import atomic_folder, write_text
from foldwise.storage.places import called

if TYPE_CHECKING:
    from foldwise.export.bundle import Checked
    from foldwise.export.source import Source

PACKAGES = ("onnx", "onnxruntime", "onnxscript")  # of the extra `export`


@dataclass(frozen=True)
class Wanted:
    """What is to be exported, and how.

    Attributes:
        run: the run folder.
        kind: onnx or huggingface.
        out: the folder to make.
        model: fold-1, refit, distilled or all; None: the one that stands for all, else fold-1.
        int8: quantize (onnx).
        data: a table to check on; None: the run's own.
        trust_code: run the Python files that lie in the run folder.
        online: ask the hub for what is needed.
    """

    run: Path
    kind: Literal["onnx", "huggingface"]
    out: Path
    model: str | None = None
    int8: bool = False
    data: str | None = None
    trust_code: bool = False
    online: bool = False


@dataclass(frozen=True)
class Push:
    """Where an export is uploaded.

    Attributes:
        name: OWNER/NAME on the hub.
        public: for all to see.
        dry_run: list what would be uploaded, and send nothing.
    """

    name: str
    public: bool = False
    dry_run: bool = False


def export(wanted: Wanted, to: Push | None = None, tell: Output = PLAIN) -> None:
    """Write a model as a folder, check that it answers as the run's does, and say how closely.

    Args:
        wanted: what, and where.
        to: upload it there; None: nowhere.
        tell: prints.

    Raises:
        FoldwiseError: bad input, a model that can't be exported, or one that answers otherwise.
    """
    _check_place(wanted.out)
    if wanted.int8 and wanted.kind != "onnx":
        raise FoldwiseError("--int8 is for --to onnx; a Hugging Face folder holds float32")
    if lacking := [name for name in PACKAGES if find_spec(name) is None]:
        raise FoldwiseError(
            f"export needs the package {lacking[0]}: pip install 'foldwise[export]'"
        )
    begin(wanted.run, online=wanted.online or (to is not None and not to.dry_run))
    from foldwise.export import hub

    token = None if to is None else hub.ready(to.name, dry_run=to.dry_run)
    source, found, quantized = _write(wanted, tell)
    result: dict[str, Any] = {
        "run": called(wanted.run),
        "to": wanted.kind,
        "model": source.name,
        "folder": str(wanted.out),
        "checked": asdict(found),
        "int8": None if quantized is None else asdict(quantized),
    }
    if to is not None:
        result["uploaded"] = _upload(wanted.out, to, token, tell)
    tell_findings(source, found, quantized, tell)
    tell.end(f"{source.name} for {wanted.kind}: {wanted.out}", result)


def _write(wanted: Wanted, tell: Output) -> tuple[Source, Checked, Checked | None]:
    from foldwise.export.bundle import write_bundle
    from foldwise.export.card import write_card
    from foldwise.export.scores import scores_of
    from foldwise.export.source import open_source

    source = open_source(
        wanted.run,
        wanted.model,
        data=wanted.data,
        scored=wanted.int8,
        trust_code=wanted.trust_code,
        online=wanted.online,
    )
    for note in source.predictor.notes:
        tell.note(note)
    separator = ""
    with atomic_folder(wanted.out) as folder:
        if wanted.kind == "onnx":
            found, quantized = write_bundle(source, folder, int8=wanted.int8)
        else:
            from foldwise.export.huggingface import separator_of, write_huggingface

            found, quantized = write_huggingface(source, folder), None
            separator = separator_of(source.task.tokenizer)
        scored = scores_of(source)
        card = write_card(source, wanted.kind, scored, found, quantized, separator)
        write_text(folder / "README.md", card)
    return source, found, quantized


def tell_findings(source: Source, found: Checked, quantized: Checked | None, tell: Output) -> None:
    """Print how closely a copy answers, and what the exported model is worth beside the folds.

    Args:
        source: what was exported.
        found: by the check in float32.
        quantized: by that in int8; None without it.
        tell: prints.
    """
    from foldwise.export.card import compared
    from foldwise.export.card import lost as lost_in_int8

    number = source.task.holds == "number"
    labels = "" if number else f"{found.differing} get another label, and "
    unit = " deviations of the target" if number else ""
    tell.say(
        f"{found.rows}: {labels}the largest difference from the run's own model is "
        f"{found.largest:.1e}{unit}"
    )
    if quantized is not None:
        tell.say(lost_in_int8(source, quantized))
    for told in (compared(source), _beside_the_folds(source)):
        if told:
            tell.note(told)


def _beside_the_folds(source: Source) -> str:
    """Say what a model that stands for all folds came to on the holdout; nothing of others."""
    from foldwise.report.one_model import judged, measured, verdict

    for result in measured(source.run):
        if result["model"] == source.name:
            told = verdict(result, judged(source.run))
            return f"{source.name}, on the holdout's {result['rows']:,} rows: {told}"
    return ""


def _upload(folder: Path, to: Push, token: str | None, tell: Output) -> str | None:
    from foldwise.export.hub import listing, push

    if token is not None:
        url = push(folder, to.name, token, public=to.public)
        tell.say(f"uploaded: {url}")
        return url
    who = "all to see" if to.public else "you alone"
    tell.say(f"dry run: {to.name} would hold, for {who}:")
    for name, size in listing(folder):
        tell.say(f"  {name}  {size:,} bytes")
    tell.say((folder / "README.md").read_text(encoding="utf-8"))
    return None


def _check_place(out: Path) -> None:
    if os.path.lexists(out):
        raise FoldwiseError(f"-o {out}: is there already; choose another name or remove it")
    if not out.parent.is_dir():
        raise FoldwiseError(f"-o {out}: there is no folder {out.parent}")
    if not os.access(out.parent, os.W_OK | os.X_OK):
        raise FoldwiseError(f"-o {out}: {out.parent} can't be written to")
