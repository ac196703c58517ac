"""Where an interrupted prediction stands: a folder beside the output, a file a chunk.

In: what the output follows from (run, table, options), and each chunk's lines. Out: the parts, and
once all are there the output under its name. A part is written whole, then what was counted in it;
only with both it is done. So a kill at any moment loses one chunk, and the same command goes on.
Parts of another run, table or option are refused: one output never mixes two.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from foldwise.errors import FoldwiseError
from foldwise.prediction.out import check_out
from foldwise.prediction.written import join, write_part
from foldwise.run.files import atomic, sha256, write_json
from foldwise.run.lock import has_locks, lock
from foldwise.run.space import room_for
from foldwise.storage.outputs import deliver

STATE = "state.json"
_LOCK = "lock"


class Parts:
    """The parts of one output.

    Args:
        out: the output.
        state: JSON values that all its lines follow from.
        raw: see `write_part`.
    """

    def __init__(self, out: Path, state: dict[str, Any], *, raw: bool = False) -> None:
        self.out, self.state, self.raw = out, state, raw
        self.folder = out.with_name(f".{out.name}.parts")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder while chunks are added; without any done it goes away again.

        Raises:
            FoldwiseError: another process writes this output, it is there already, or the folder
                holds parts of another one.
        """
        if self.folder.is_symlink() or (self.folder.exists() and not self.folder.is_dir()):
            raise FoldwiseError(f"{self.folder}: is no folder; remove it")
        check_out(self.out)
        self.folder.mkdir(exist_ok=True)
        try:
            with self._locked():
                check_out(self.out)
                self._begin()
                yield
        finally:
            if not any(self.folder.glob("*.json")) or not self.done(0):
                shutil.rmtree(self.folder, ignore_errors=True)

    def done(self, number: int) -> dict[str, Any] | None:
        """Return what was counted in a part; None where it isn't done, or not as it was written."""
        try:
            told = json.loads(self._told(number).read_text(encoding="utf-8"))
            sound = told["sha256"] == sha256(self._part(number))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return told["counted"] if sound else None

    def write(self, number: int, lines: pl.DataFrame, counted: dict[str, Any]) -> None:
        """Write a part, durably.

        Args:
            number: of the chunk, from 0.
            lines: of the output.
            counted: JSON values to be told at the end.
        """
        part = self._part(number)
        with atomic(part) as temporary:
            write_part(temporary, lines, self.out.suffix, first=number == 0, raw=self.raw)
        write_json(self._told(number), {"sha256": sha256(part), "counted": counted})

    def complete(self, count: int) -> None:
        """Give the output its name, and remove the parts.

        Args:
            count: the number of parts.
        """
        # Joined among the parts, so that a kill leaves nothing beside the output.
        whole = self.folder / f"whole{self.out.suffix}"
        with room_for(whole):
            join([self._part(number) for number in range(count)], whole, self.out.suffix)
            deliver(whole, self.out)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _begin(self) -> None:
        state = self.folder / STATE
        if not state.exists():
            write_json(state, self.state)
            return
        try:
            found = json.loads(state.read_text(encoding="utf-8"))
            differing = [name for name, value in self.state.items() if found[name] != value]
        except (OSError, ValueError, KeyError, TypeError):
            differing = ["unreadable"]
        if differing:
            raise FoldwiseError(
                f"{self.folder}: holds parts of an interrupted prediction that isn't this one "
                f"({', '.join(differing)}): give that one's command again, choose another -o, or "
                f"begin anew without them: rm -r {self.folder}"
            )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        if not has_locks():
            yield
            return
        with lock(self.folder / _LOCK, str(self.out)):
            yield

    def _part(self, number: int) -> Path:
        return self.folder / f"{number:08d}{self.out.suffix}"

    def _told(self, number: int) -> Path:
        return self.folder / f"{number:08d}.json"
