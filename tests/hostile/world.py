"""The small world around a received run or backbone: what must stay as it is, what may change."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from foldwise.errors import FoldwiseError
from foldwise.run.audit import seal_anew
from foldwise.run.folder import RunFolder

COMMANDS = ("validate", "predict", "evaluate", "report", "compare", "train")


@dataclass
class World:
    """One case's folders: runs/received is hostile, everything else must stay as it is.

    Attributes:
        path: holds all the others.
        requests: every attempt to reach another machine.
    """

    path: Path
    requests: list[str] = field(default_factory=list)

    @property
    def run(self) -> Path:
        """The received run."""
        return self.path / "runs" / "received"

    @property
    def twin(self) -> Path:
        """A sound run of the same config, to compare with."""
        return self.path / "runs" / "twin"

    @property
    def outside(self) -> Path:
        """Files of the user's that no run may touch."""
        return self.path / "outside"

    def seal_anew(self) -> None:
        """Seal the received run as it lies, as its sender can; what can't be sealed is left."""
        with suppress(FoldwiseError):
            seal_anew(RunFolder(self.run), ["tensorboard"])

    def state(self) -> dict[str, str]:
        """Return all that lies outside the received run and what commands write, with its hash."""
        runs = self.path / "runs"
        mine = (self.run, self.path / "here", runs / ".tokens", runs / "new")
        found = {}
        for folder, names, files in os.walk(self.path):
            names[:] = [name for name in names if Path(folder, name) not in mine]
            for name in [*names, *files]:
                path = Path(folder, name)
                content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
                found[str(path)] = hashlib.sha256(content).hexdigest()
        return found


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    printed: str
    message: str
