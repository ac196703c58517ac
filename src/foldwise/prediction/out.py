"""Where labels are written to: a name in, a refusal out before anything is loaded."""

from __future__ import annotations

import os
from pathlib import Path

from foldwise.errors import FoldwiseError
from foldwise.storage.outputs import check_new
from foldwise.storage.places import called

SUFFIXES = (".parquet", ".csv", ".jsonl")


def check_out(out: Path) -> None:
    """Raise FoldwiseError where no file of labels can be written under a name."""
    if out.suffix not in SUFFIXES:
        raise FoldwiseError(
            f"-o {called(out)}: the file's name must end in .parquet, .csv or .jsonl"
        )
    check_new(out)
    if out.exists():
        raise FoldwiseError(f"-o {out}: is there already; choose another name or remove it")
    if not out.parent.is_dir():
        raise FoldwiseError(f"-o {out}: there is no folder {out.parent}")
    if not os.access(out.parent, os.W_OK | os.X_OK):
        raise FoldwiseError(f"-o {out}: {out.parent} can't be written to")
