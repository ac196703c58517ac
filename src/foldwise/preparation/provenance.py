"""What a run was: config, code, data, folds and machine, written before its first fold.

In: a `Prepared`. Out: config.yaml, classes.json, folds.parquet, backbone/, code/ and, with their
seal, manifest.json.
When a run is continued the same things are compared instead, and any difference refused.
"""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from foldwise.config.load import dump_config
from foldwise.errors import FoldwiseError, RunInterrupted
from foldwise.hardware.memory import machine_memory_bytes
from foldwise.preparation.prepare import Prepared
from foldwise.run.contents import Manifest, Training
from foldwise.run.files import copy_file, now, to_json, write_json, write_parquet, write_text
from foldwise.run.folder import FAILED, FITTED, RunFolder
from foldwise.run.readers import read_json
from foldwise.run.seal import begun_files, check, commit, replace

_OURS = (FoldwiseError, RunInterrupted)  # their messages stand for themselves
PACKAGES = (
    "foldwise",
    "torch",
    "transformers",
    "tokenizers",
    "accelerate",
    "scikit-learn",
    "polars",
    "numpy",
)


def check_continues(prepared: Prepared, advice: str = "put them back") -> None:
    """Refuse to continue a run with other data, code or weights than it began with.

    Args:
        prepared: of the inputs as they are now.
        advice: what can be done about it.

    Raises:
        FoldwiseError: naming what differs.
    """
    path = prepared.run.manifest
    if not path.exists():
        return
    stored, current = read_json(path, Manifest), _identity(prepared)
    for key, what in {
        "data_sha256": "the table's bytes",
        "code_sha256": "the files under code:",
        "backbone_sha256": "the backbone's weights",
    }.items():
        if current[key] is not None and stored.get(key) != current[key]:
            raise FoldwiseError(
                f"{prepared.run.path} was made with other inputs: {what} have changed "
                f"({stored.get(key)} then, {current[key]} now); {advice}"
            )


def start_record(prepared: Prepared) -> None:
    """Write the run's record; what is there already is left as it is.

    The manifest comes last, so a kill in between leaves a record that is simply written again.
    """
    run = prepared.run
    if run.manifest.exists():
        check(run.path, "begun")
        run.append_log("continued", pid=os.getpid())
        return
    run.code.mkdir(exist_ok=True)
    names = []
    for path in prepared.code.paths.values():
        copy_file(path, run.code / path.name)
        names.append(f"code/{path.name}")
    # Relative to config.yaml itself, so that a run folder can move and takes its code along.
    write_text(run.config, dump_config(prepared.config.model_copy(update={"code": names})))
    write_parquet(run.folds, prepared.assignment.frame)
    write_json(run.classes, prepared.task.state()["target"])
    prepared.task.save(run.path)
    manifest = {
        **_identity(prepared),
        "data_path": prepared.config.data.path,
        "started": now(),
        "seed": prepared.config.run.seed,
        "counts": prepared.counts,
        "versions": {"python": platform.python_version()}
        | {name: metadata.version(name) for name in (*PACKAGES, *_extras(prepared))},
        "git_commit": _git_commit(),
        "machine": _machine(),
    }
    commit(run.path, "begun", begun_files(run), run.manifest, to_json(manifest))
    run.append_log("started", pid=os.getpid(), counts=prepared.counts)


@contextmanager
def failures_told(run: RunFolder) -> Iterator[None]:
    """Let the log say which error ended the run, for whoever asks where it stands."""
    try:
        yield
    except Exception as error:
        told = f"{type(error).__name__}: " * (not isinstance(error, _OURS)) + str(error)
        # Not on a full disk, which is the error then; a finished run's log is closed.
        with suppress(RunInterrupted, OSError):
            if not run.finished:
                run.append_log(FAILED, error=told[:500])
        raise


def stop_record(prepared: Prepared) -> None:
    """Add the timings of the folds to the manifest, once all are trained."""
    run = prepared.run
    seconds = {}
    for number in prepared.folds:
        fold = run.fold(number)
        check(fold.path, "trained", only=[fold.trained.name])
        seconds[str(number)] = read_json(fold.trained, Training)["elapsed_s"]
    took = {"training_s": seconds, "members_s": _members_s(run)}
    manifest = read_json(run.manifest, Manifest) | took | {"finished": now()}
    replace(run.path, run.manifest, to_json(manifest))
    run.append_log("finished", **took)


def _members_s(run: RunFolder) -> dict[str, float]:
    # Of the last time that each was fitted in each fold.
    fitted = [event for event in run.events() if event["event"] == FITTED]
    last = {(event["member"], event["fold"]): float(event["seconds"]) for event in fitted}
    names = dict.fromkeys(name for name, _ in last)
    return {n: round(sum(s for (name, _), s in last.items() if name == n), 3) for n in names}


def _identity(prepared: Prepared) -> dict[str, Any]:
    backbone = getattr(prepared.task, "pretrained", None)
    return {
        "data_sha256": prepared.data_sha256,
        "code_sha256": prepared.code.hashes(),
        "backbone_sha256": None if backbone is None else backbone.weights,
    }


def _extras(prepared: Prepared) -> list[str]:
    # The optional packages that this run's weights and scores went through.
    config = prepared.config
    model = config.model
    used = {
        "peft": model.lora,
        "bitsandbytes": model.quantize,
        "torchmetrics": any(m.name.startswith("torchmetrics.") for m in config.metrics),
    }
    return [name for name, needed in used.items() if needed]


def _git_commit() -> str | None:
    # Of the working directory: the user's project, which is what a config belongs to.
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()


def _machine() -> dict[str, Any]:
    import torch

    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text(encoding="utf-8", errors="replace").splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        cpu = names[0] if names else cpu
    cuda = torch.cuda.is_available()
    return {
        "system": platform.platform(),
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(0) if cuda else None,
        "memory_bytes": machine_memory_bytes(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }
