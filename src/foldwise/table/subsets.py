"""Full, partial and debug tables beside each other: to try on little before training on much.

`partial` has at most 1,000 rows a class and `debug` at most 5, drawn by a seed, `debug` out of
`partial`. A file gets its name only when it is whole, and one that is there with other content is
never overwritten.
"""

from __future__ import annotations

import filecmp
import shutil
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from foldwise.config.rows import PerClass
from foldwise.errors import FoldwiseError
from foldwise.run.files import publish
from foldwise.run.lock import locked
from foldwise.table.reading import draw_sample

PER_CLASS = {"partial": 1000, "debug": 5}


def write_subsets(
    frame: pl.DataFrame, target: str, folder: Path, stem: str, seed: int
) -> list[Path]:
    """Write a table whole, and its partial and debug parts, as Parquet; return the files.

    Args:
        frame: with the column `row`, which isn't written.
        target: the column of the class.
        folder: where they go.
        stem: the files are STEM_full.parquet, STEM_partial.parquet and STEM_debug.parquet.
        seed: of the draw.

    Raises:
        FoldwiseError: a file of that name has other content.
    """
    staging = folder / f".{stem}.staging"
    with locked(folder):
        shutil.rmtree(staging, ignore_errors=True)  # a killed call's
        staging.mkdir()
        try:
            staged, part = [], frame
            for kind in ("full", *PER_CLASS):
                if kind in PER_CLASS:
                    part = draw_sample(part, PerClass(per_class=PER_CLASS[kind]), target, seed)
                staged.append(staging / f"{stem}_{kind}.parquet")
                part.drop("row").write_parquet(staged[-1])
            return place(staged, folder, "table")
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def place(staged: Sequence[Path], folder: Path, source: str) -> list[Path]:
    """Give whole files their names in a folder, all or none; those there already must be equal.

    Args:
        staged: the files, on the folder's file system.
        folder: where they go.
        source: what they were made from, for the message.

    Raises:
        FoldwiseError: a file of that name has other content.
    """
    new = [path for path in staged if not (folder / path.name).exists()]
    for path in staged:
        if path not in new and not filecmp.cmp(path, folder / path.name, shallow=False):
            raise FoldwiseError(
                f"{folder / path.name}: exists with other content, from another {source} or seed: "
                "move it away or choose another folder"
            )
    for path in new:
        publish(path, folder / path.name)
    return [folder / path.name for path in staged]
