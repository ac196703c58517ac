"""Groups of near-duplicates, searched for once: beside the token stores lie those that were found.

In: text columns and by what they are alike. Out: a group for each row, read back where the same
texts were searched before, by any run beside this one, else found by duplicates.py. Nothing is
written before `keep` is called, once the input is known to be good.

A file holds its groups and a sha256 of them and of its name, which is the hash of the texts and of
the rule. One that is half written, damaged or renamed is as none: it is searched again.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from foldwise.errors import FoldwiseError
from foldwise.hardware.cores import stretches
from foldwise.run.files import write_bytes
from foldwise.run.folder import GROUPS
from foldwise.table.duplicates import find_duplicates

SCHEMA = 1  # to be raised with whatever changes which texts are alike
_SHA256 = 32  # bytes


@dataclass(frozen=True)
class Grouped:
    """Which rows of some texts belong together, and where that is kept.

    Attributes:
        group: (rows,) int64, as of `find_duplicates`.
        path: the file; None where nothing is kept.
    """

    group: np.ndarray
    path: Path | None = None

    def keep(self) -> None:
        """Write the groups down, for the next run over the same texts.

        Raises:
            FoldwiseError: the folder is a link, or a folder stands where the file belongs.
            RunInterrupted: the disk is full.
        """
        if self.path is None or _read(self.path, len(self.group)) is not None:
            return
        if self.path.parent.is_symlink():
            raise FoldwiseError(
                f"{self.path.parent}: is a link; remove it, token stores lie beside the runs"
            )
        if self.path.is_dir() and not self.path.is_symlink():
            raise FoldwiseError(f"{self.path}: is a folder; remove it, a file belongs there")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        content = self.group.astype("<i8").tobytes()
        write_bytes(self.path, _sha256(self.path, content) + content)


def group_texts(
    texts: pl.DataFrame,
    how: Literal["near", "identical", "ignore"],
    similarity: float,
    stores: Path | None = None,
) -> Grouped:
    """Group rows by their texts, or read how that came out before.

    Args:
        texts: as for `find_duplicates`.
        how: the same.
        similarity: the same.
        stores: the folder of token stores, where groups are kept too; None: nothing is kept.
    """
    if stores is None or how == "ignore":
        return Grouped(find_duplicates(texts, how, similarity).group)
    path = stores / f"{_key(texts, how, similarity)}{GROUPS}"
    group = _read(path, texts.height)
    if group is None:
        if os.path.lexists(path):
            print(f"warning: {path}: not as it was written; made anew", file=sys.stderr)
        group = find_duplicates(texts, how, similarity).group
    return Grouped(group, path)


def _key(texts: pl.DataFrame, how: str, similarity: float) -> str:
    rule = [SCHEMA, how, similarity if how == "near" else 1.0, texts.width, texts.height]
    digest = hashlib.sha256(json.dumps(rule).encode())
    for part in stretches(texts):
        for column in texts[part]:
            cells = column.cast(pl.String)
            digest.update(cells.str.len_bytes().fill_null(2**32 - 1).to_numpy().tobytes())
            digest.update("".join(cells.drop_nulls().to_list()).encode())
    return digest.hexdigest()


def _read(path: Path, rows: int) -> np.ndarray | None:
    try:
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode) or found.st_size != _SHA256 + 8 * rows:
            return None
        content = path.read_bytes()
    except OSError:
        return None
    if content[:_SHA256] != _sha256(path, content[_SHA256:]):
        return None
    return np.frombuffer(content, dtype="<i8", offset=_SHA256).astype(np.int64)


def _sha256(path: Path, content: bytes) -> bytes:
    digest = hashlib.sha256(path.name.encode())
    digest.update(content)
    return digest.digest()
