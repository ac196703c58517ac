"""Where everything of a run lies, and the only way files get there.

In: plain values. Out: files that are whole or absent: each is written to a temporary name in the
same folder, fsynced, renamed, and the folder fsynced, so a kill or a power cut at any moment leaves
either the old file or the new one. Locks are the kernel's (`flock`): they die with their process.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foldwise.errors import FoldwiseError

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class RunFolder:
    """The paths of one run; nothing else in Foldwise joins them by hand.

    Attributes:
        path: the run's folder, `<run.dir>/<run.name>`.
    """

    path: Path

    @property
    def config(self) -> Path:
        """The resolved config."""
        return self.path / "config.yaml"

    @property
    def manifest(self) -> Path:
        """Versions, hashes, seed, machine and timings."""
        return self.path / "manifest.json"

    @property
    def backbone(self) -> Path:
        """Config and tokenizer files of the backbone; the weights are in the checkpoints."""
        return self.path / "backbone"

    @property
    def classes(self) -> Path:
        """The class list, in the order of the logits."""
        return self.path / "classes.json"

    @property
    def code(self) -> Path:
        """Copies of the user's files."""
        return self.path / "code"

    @property
    def folds(self) -> Path:
        """The assignment of rows to folds."""
        return self.path / "folds.parquet"

    @property
    def log(self) -> Path:
        """One event a line."""
        return self.path / "log.jsonl"

    @property
    def tensorboard(self) -> Path:
        """Event files, one folder a fold and one for the summary."""
        return self.path / "tensorboard"

    @property
    def out_of_fold(self) -> Path:
        """Every scored row with its prediction by the fold model that never saw it."""
        return self.path / "oof.parquet"

    @property
    def holdout(self) -> Path:
        """The holdout rows with the mean prediction of the fold models."""
        return self.path / "holdout.parquet"

    @property
    def metrics(self) -> Path:
        """The scores; written last, so a run that has it is finished."""
        return self.path / "metrics.json"

    @property
    def report(self) -> Path:
        """The report; it can be drawn again at any time."""
        return self.path / "report.html"

    @property
    def token_stores(self) -> Path:
        """Token stores, shared by the runs beside this one."""
        return self.path.parent / ".tokens"

    @property
    def finished(self) -> bool:
        """Whether every fold of the run is trained, validated and summed up."""
        return self.metrics.exists()

    def tracker(self, name: str, fold: int) -> Path:
        """Return the folder where a tracker can write what it is told of a fold."""
        return self.path / name / f"fold-{fold}"

    def fold(self, number: int) -> FoldFolder:
        """Return the paths of one fold."""
        return FoldFolder(self.path / f"fold-{number}", number)

    def check_is_run(self) -> None:
        """Check that a run lies here.

        Raises:
            FoldwiseError: there is no config.yaml.
        """
        if not self.config.is_file():
            raise FoldwiseError(f"{self.path}: not a run folder (it has no config.yaml)")

    def check_place(self) -> None:
        """Check that a new run can lie here.

        Raises:
            FoldwiseError: a file is in the way, the folder is someone else's, or not writable.
        """
        above = next(path for path in (self.path, *self.path.parents) if path.exists())
        if not above.is_dir():
            raise FoldwiseError(
                f"run: the run's folder is to be {self.path}, but {above} is a file; choose "
                "another run.dir or run.name"
            )
        if not os.access(above, os.W_OK | os.X_OK):
            raise FoldwiseError(f"run: {above} can't be written to; choose another run.dir")
        # A run killed before its config was written has left no more than these.
        ours = re.compile(r"\..*|code|fold-\d+")
        others = sorted(p.name for p in self.path.glob("*") if not ours.fullmatch(p.name))
        if others:
            raise FoldwiseError(
                f"{self.path} holds other files than a run's ({others[0]!r}); choose another "
                "run.name"
            )

    def create(self) -> None:
        """Make the folder durable, its parents too."""
        self.path.mkdir(parents=True, exist_ok=True)
        sync_folder(self.path.parent)

    def append_log(self, event: str, **fields: Any) -> None:
        """Append one event to `log.jsonl`, in one write, so lines never mix."""
        entry = {"time": now(), "event": event, **fields}
        append_line(self.log, json.dumps(entry, ensure_ascii=False))

    def events(self) -> list[dict[str, Any]]:
        """Read `log.jsonl`, oldest first."""
        lines = self.log.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line]


@dataclass(frozen=True)
class FoldFolder:
    """The paths of one fold's files."""

    path: Path
    number: int

    @property
    def checkpoints(self) -> Path:
        """Folder of `step-000120` folders."""
        return self.path / "checkpoints"

    @property
    def best(self) -> Path:
        """Pointer to the checkpoint that the selection metric chose."""
        return self.path / "best.json"

    @property
    def last(self) -> Path:
        """Pointer to the newest checkpoint that training can continue from."""
        return self.path / "last.json"

    @property
    def encoders(self) -> Path:
        """What was fitted on this fold's training rows."""
        return self.path / "encoders.json"

    @property
    def history(self) -> Path:
        """Training losses and evaluations, one a line."""
        return self.path / "metrics.jsonl"

    @property
    def trained(self) -> Path:
        """How the training ended; a fold that has it is never trained again."""
        return self.path / "training.json"

    @property
    def curves(self) -> Path:
        """The learning curves."""
        return self.path / "learning_curves.png"

    @property
    def validation(self) -> Path:
        """The fold's scores, per class too."""
        return self.path / "validation.json"

    @property
    def predictions(self) -> Path:
        """The fold's rows with logits, probabilities and predicted labels."""
        return self.path / "predictions.parquet"

    @property
    def holdout(self) -> Path:
        """The holdout rows as this fold's model predicts them."""
        return self.path / "holdout.parquet"


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it becomes `path`, durably.

    The temporary file lies in the same folder because a rename is atomic only within a file system.

    Args:
        path: the file to write or replace.

    Yields:
        The temporary file's path, to be written by the caller.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        sync_file(temporary)
        os.replace(temporary, path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file atomically."""
    with atomic(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write a whole UTF-8 file atomically."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically; numbers that aren't finite become null."""
    write_text(path, to_json(value))


def to_json(value: Any) -> str:
    """Return a value as `write_json` writes it, so that a reader can tell any other bytes."""
    return json.dumps(finite(value), indent=2, ensure_ascii=False) + "\n"


def read_json(path: Path) -> Any:
    """Read a JSON file of a run; FoldwiseError where it is absent or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FoldwiseError(f"{path}: no such file; is this a complete run folder?") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise FoldwiseError(f"{path}: damaged ({error}); restore it or remove the run") from None


def write_parquet(path: Path, frame: pl.DataFrame) -> None:
    """Write a table atomically."""
    with atomic(path) as temporary:
        frame.write_parquet(temporary)


def append_line(path: Path, line: str) -> None:
    """Append one line in a single write."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, line.encode("utf-8") + b"\n")
    finally:
        os.close(descriptor)


def finite(value: Any) -> Any:
    """Return the value with NaN and infinities replaced by None: JSON has no word for them."""
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def copy_file(source: Path, target: Path) -> None:
    """Copy a file atomically."""
    with atomic(target) as temporary:
        shutil.copyfile(source, temporary)


def sync_file(path: Path) -> None:
    """Force a file's bytes to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Force a folder's entries (new names, renames) to the disk."""
    sync_file(path)


def now() -> str:
    """Return the time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextmanager
def lock(path: Path, what: str, *, wait: bool = False) -> Iterator[None]:
    """Hold an exclusive kernel lock while the block runs.

    Args:
        path: the lock file; it stays behind, empty of meaning once nobody holds it.
        what: what is locked, for the message ("fold 1 of runs/cfpb").
        wait: wait for the holder instead of raising.

    Raises:
        FoldwiseError: another process holds the lock (its id, host and start are named).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            holder = os.pread(descriptor, 1000, 0).decode("utf-8", "replace").strip()
            raise FoldwiseError(
                f"{what} is in use by {holder or 'another process'}; wait for it, "
                "or choose another run.name"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(
            descriptor, f"process {os.getpid()} on {socket.gethostname()} since {now()}".encode(), 0
        )
        yield
    finally:
        os.close(descriptor)
