"""Where everything of a run lies: the paths of its folder and of its folds."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foldwise.errors import FoldwiseError
from foldwise.run.contents import Event
from foldwise.run.files import append_line, now, sync_folder
from foldwise.run.readers import read_lines
from foldwise.run.tree import check_tree

# The names that Foldwise gives in a run's folder; others at its top are trackers'.
_OWN = r"\..*|backbone|code|fold-.*|refit|distilled|tensorboard"

REFIT = "refit"  # one model for all folds, trained on the rows of all
DISTILLED = "distilled"  # one that was taught the run's answer
ONES = (REFIT, DISTILLED)

GROUPS = ".groups"  # ends the name of a file of near-duplicates, among the token stores


NOT_FINITE = "not finite"  # the event of a loss or gradient that stopped a fold
STARTS = "training starts"  # of a fold's training, anew or from its last checkpoint
FITTED = "member fitted"  # of a member beside the model, with its seconds
FAILED = "failed"  # of an error that ended a run
CHANGED = "config changed"  # of a run that goes on by other values since


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
        """Every scored row with the answer of the fold that never saw it."""
        return self.path / "oof.parquet"

    @property
    def holdout(self) -> Path:
        """The holdout rows with the mean of the folds' answers."""
        return self.path / "holdout.parquet"

    def member(self, name: str) -> MemberFolder:
        """Return where a member's tables over all folds lie."""
        return MemberFolder(self.path / "members" / name)

    @property
    def frozen(self) -> Path:
        """The backbone's weights before training, where the run's answer needs them."""
        return self.path / "members" / "backbone.safetensors"

    @property
    def metrics(self) -> Path:
        """The scores; written last, so a run that has it is finished."""
        return self.path / "metrics.json"

    @property
    def report(self) -> Path:
        """The report; it can be drawn again at any time."""
        return self.path / "report.html"

    @property
    def embeddings(self) -> Path:
        """The frozen backbone's vectors of texts, shared by the runs beside this one."""
        return self.path.parent / ".embeddings"

    @property
    def token_stores(self) -> Path:
        """Token stores and groups of near-duplicates, shared by the runs beside this one."""
        return self.path.parent / ".tokens"

    @property
    def texts(self) -> Path | None:
        """Where the text of a big table may lie that is only looked at; None: in memory.

        That is with the token stores, where nothing keeps it from being written.
        """
        folder = self.token_stores
        there = next(path for path in (folder, *folder.parents) if path.exists())
        return folder if os.access(there, os.W_OK) and not folder.is_symlink() else None

    @property
    def tables(self) -> Path:
        """Tables that were given as frames, shared by the runs beside this one."""
        return self.path.parent / ".tables"

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

    def one(self, name: str) -> FoldFolder:
        """Return the paths of the one model that stands for all folds.

        Args:
            name: one of `ONES`.
        """
        return FoldFolder(self.path / name, 1)

    def ones(self) -> list[FoldFolder]:
        """Return those of them that lie there."""
        return [self.one(name) for name in ONES if (self.path / name).is_dir()]

    def weights(self) -> list[Path]:
        """Return the files of weights of all checkpoints."""
        folders = [*self.path.glob("fold-*"), *(one.path for one in self.ones())]
        pattern = "checkpoints/step-*/model.safetensors"
        return sorted(path for folder in folders for path in folder.glob(pattern))

    def fold_numbers(self) -> list[int]:
        """Return the numbers of the folds that have a folder, ascending."""
        matches = (re.fullmatch(r"fold-([1-9]\d{0,5})", path.name) for path in self.path.glob("*"))
        return sorted(int(match[1]) for match in matches if match)

    def check_is_run(self) -> None:
        """Check that a run lies here, and that nothing in it leads elsewhere.

        Raises:
            FoldwiseError: there is no config.yaml, or a link, pipe or device in the folder.
        """
        if not os.path.lexists(self.config):
            raise FoldwiseError(f"{self.path}: not a run folder (it has no config.yaml)")
        check_tree(self.path, _OWN)
        if not self.config.is_file():
            raise FoldwiseError(f"{self.config}: is a folder, not a run's config")

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
        if self.folds.exists():
            raise FoldwiseError(
                f"{self.config}: is gone, though {self.path} holds a run; put it back from a copy, "
                f"or remove {self.path} to begin anew"
            )
        if others:
            raise FoldwiseError(
                f"{self.path} holds other files than a run's ({others[0]!r}); choose another "
                "run.name"
            )
        if self.path.exists():
            check_tree(self.path, _OWN)

    def create(self) -> None:
        """Make the folder durable, its parents too."""
        self.path.mkdir(parents=True, exist_ok=True)
        sync_folder(self.path.parent)

    def append_log(self, event: str, **fields: Any) -> None:
        """Append one event to `log.jsonl`, in one write, so lines never mix."""
        _append(self.log, event, fields)

    def events(self) -> list[dict[str, Any]]:
        """Read `log.jsonl`, oldest first; none where the run has just begun."""
        return read_lines(self.log, Event) if self.log.exists() else []


@dataclass(frozen=True)
class FoldFolder:
    """The paths of one fold's files, or of the one model that stands for all folds.

    Attributes:
        path: `fold-3` in a run's folder, or one of `ONES`.
        number: of the fold; of the one model 1, as if the run had a single fold.
    """

    path: Path
    number: int

    @property
    def title(self) -> str:
        """What a person calls it: `fold 3`, `refit`."""
        return self.path.name if self.for_all else f"fold {self.number}"

    @property
    def for_all(self) -> bool:
        """Whether it stands for all folds, in a run that is finished."""
        return self.path.name in ONES

    @property
    def run(self) -> RunFolder:
        """The run that the fold is part of."""
        return RunFolder(self.path.parent)

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
        """The holdout rows as this fold's model predicts them; the one model's answer to them."""
        return self.path / "holdout.parquet"

    @property
    def asked(self) -> Path:
        """Of the one model: what it was to be made of, written before anything else."""
        return self.path / "asked.json"

    @property
    def measured(self) -> Path:
        """Of the one model: what it comes to on the holdout, beside the folds' answer."""
        return self.path / "measured.json"

    @property
    def log(self) -> Path:
        """Where its events go: the log of a finished run is closed."""
        return self.path / "log.jsonl" if self.for_all else self.run.log

    def append_log(self, event: str, **fields: Any) -> None:
        """Append one event of the fold to its log."""
        _append(self.log, event, {"fold": self.number, **fields})

    def events(self) -> list[dict[str, Any]]:
        """Read its events, oldest first; none where it hasn't begun."""
        told = read_lines(self.log, Event) if self.log.exists() else []
        return [event for event in told if event.get("fold") == self.number]

    def member(self, name: str) -> MemberFolder:
        """Return where a member that was fitted on this fold's training rows lies."""
        return MemberFolder(self.path / "members" / name)


@dataclass(frozen=True)
class MemberFolder:
    """The paths of a member's files, of a fold or over all folds."""

    path: Path

    @property
    def state(self) -> Path:
        """What was fitted, but for arrays."""
        return self.path / "state.json"

    @property
    def arrays(self) -> Path:
        """The arrays of what was fitted."""
        return self.path / "arrays.safetensors"

    @property
    def predictions(self) -> Path:
        """The fold's rows as the member predicts them."""
        return self.path / "predictions.parquet"

    @property
    def out_of_fold(self) -> Path:
        """All folds' rows as the member predicts them."""
        return self.path / "oof.parquet"

    @property
    def holdout(self) -> Path:
        """The holdout rows as the member predicts them."""
        return self.path / "holdout.parquet"


def _append(log: Path, event: str, fields: dict[str, Any]) -> None:
    entry = {"time": now(), "event": event, **fields}
    append_line(log, json.dumps(entry, ensure_ascii=False))
