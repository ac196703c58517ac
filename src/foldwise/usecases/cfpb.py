"""Prepare the tables that the CFPB use case trains on.

In: the complaint database's archive (over ten million complaints in one zipped CSV). Out: Parquet
tables of the complaints that have a narrative, a Sub-issue, a ZIP code and a Product: `full`,
`partial` (at most 1,000 a class) and `debug` (at most 5 a class), and the counts of what was read,
dropped and kept. Memory stays bounded: rows go from the zip into small Parquet parts, which a
streaming query joins. A file gets its name only when it is whole.
"""

from __future__ import annotations

import csv
import gzip
import heapq
import io
import json
import random
import shutil
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

import polars as pl
from rich import get_console

from foldwise.errors import FoldwiseError
from foldwise.run.lock import locked
from foldwise.table.subsets import PER_CLASS, place
from foldwise.usecases.download import UNZIP_ERRORS

REQUIRED = ("Consumer complaint narrative", "Sub-issue", "ZIP code", "Product")
KEPT = (
    "Date received",
    "Product",
    "Sub-issue",
    "Consumer complaint narrative",
    "Company",
    "State",
    "ZIP code",
    "Complaint ID",
)
PART_ROWS = 50_000  # about 60 MB of narratives

Row = tuple[str | None, ...]


def prepare(archive: Path, folder: Path, seed: int = 42) -> dict[str, Path]:
    """Write the complaints that have every required cell to `folder`, and return the files.

    Args:
        archive: the CFPB's `.zip`, or its CSV as `.csv` or `.csv.gz`.
        folder: gets `cfpb_full.parquet`, `cfpb_partial.parquet`, `cfpb_debug.parquet` (all in the
            archive's order, cells as they stand there) and `cfpb_counts.json`.
        seed: draws the rows of partial and, among those, of debug.

    Raises:
        FoldwiseError: for an unreadable archive, or other files under the outputs' names.
    """
    if not archive.is_file():
        raise FoldwiseError(f"{archive}: there is no such file; `foldwise data cfpb` downloads it")
    with locked(folder):
        staging = folder / ".cfpb.staging"
        shutil.rmtree(staging, ignore_errors=True)  # a killed run's
        (staging / "parts").mkdir(parents=True)
        try:
            return _place(_write(archive, staging, seed), folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _write(archive: Path, staging: Path, seed: int) -> list[Path]:
    rows = _records(archive)
    header = next(rows)
    kept = [column for column in KEPT if column in header]
    dropped = Counter(dict.fromkeys(REQUIRED, 0))
    samples: dict[str, _Sample] = {}
    part: list[Row] = []
    n_read = n_parts = 0
    with get_console().status("reading the archive") as status:
        for cells in rows:
            n_read += 1
            row = dict(zip(header, cells, strict=True))
            missing = next((column for column in REQUIRED if not row[column].strip()), None)
            if missing is not None:
                dropped[missing] += 1
                continue
            part.append(tuple(row[column] or None for column in kept))
            product = row["Product"]
            if product not in samples:
                samples[product] = _Sample(f"{seed}:{product}")
            samples[product].offer(n_read, part[-1])
            if len(part) == PART_ROWS:
                _frame(part, kept).write_parquet(staging / "parts" / f"{n_parts:06d}.parquet")
                part, n_parts = [], n_parts + 1
                status.update(f"reading the archive: {n_read:,} rows")
    if not samples:
        raise FoldwiseError(
            f"{archive}: none of its {n_read:,} rows has all of {', '.join(REQUIRED)}: "
            "nothing is left to train on"
        )
    _frame(part, kept).write_parquet(staging / "parts" / f"{n_parts:06d}.parquet")
    paths = [staging / f"cfpb_{kind}.parquet" for kind in ("full", *PER_CLASS)]
    pl.scan_parquet(staging / "parts" / "*.parquet").sink_parquet(
        paths[0], row_group_size=PART_ROWS, maintain_order=True
    )
    for path, n in zip(paths[1:], PER_CLASS.values(), strict=True):
        chosen = sorted(pair for sample in samples.values() for pair in sample.smallest(n))
        _frame([row for _, row in chosen], kept).write_parquet(path)
    sizes = sorted(((sample.seen, product) for product, sample in samples.items()), reverse=True)
    counts = {
        "rows_read": n_read,
        "rows_dropped": dict(dropped),
        "rows_kept": sum(size for size, _ in sizes),
        "classes": {product: size for size, product in sizes},
        "seed": seed,
    }
    (staging / "cfpb_counts.json").write_text(json.dumps(counts, indent=2) + "\n", "utf-8")
    return [*paths, staging / "cfpb_counts.json"]


class _Sample:
    """Keep the rows with the smallest random keys: a uniform sample, and so is any part of it."""

    def __init__(self, seed: str) -> None:
        self.seen = 0
        self._random = random.Random(seed)
        self._heap: list[tuple[float, int, Row]] = []  # by the negated key

    def offer(self, number: int, row: Row) -> None:
        self.seen += 1
        entry = (-self._random.random(), number, row)
        if len(self._heap) < max(PER_CLASS.values()):
            heapq.heappush(self._heap, entry)
        elif entry[0] > self._heap[0][0]:
            heapq.heapreplace(self._heap, entry)

    def smallest(self, n: int) -> list[tuple[int, Row]]:
        return [(number, row) for _, number, row in sorted(self._heap, reverse=True)[:n]]


def _frame(rows: list[Row], columns: list[str]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String), orient="row")


def _records(archive: Path) -> Iterator[list[str]]:
    """Yield the header, which has every required column, and then the rows in their order."""
    number = line = 0
    try:
        with _opened(archive) as binary, io.TextIOWrapper(binary, "utf-8-sig", newline="") as text:
            reader = csv.reader(text)
            header = next(reader, [])
            absent = [column for column in REQUIRED if column not in header]
            if absent:
                raise FoldwiseError(
                    f"{archive}: has no column {absent[0]!r}, only {', '.join(header) or 'none'}: "
                    "use the complaint database's CSV as the CFPB publishes it"
                )
            yield header
            for cells in reader:
                line = reader.line_num
                if not cells:  # an empty line
                    continue
                if len(cells) != len(header):
                    raise FoldwiseError(
                        f"{archive}: row {number} (line {line}) has {len(cells)} cells under "
                        f"{len(header)} columns: the file is cut or edited; download it again"
                    )
                yield cells
                number += 1
    except (csv.Error, UnicodeDecodeError) as error:
        raise FoldwiseError(
            f"{archive}: row {number} (after line {line}) is no readable CSV ({error}): "
            "the file is cut or edited; download it again"
        ) from error
    except (*UNZIP_ERRORS, gzip.BadGzipFile) as error:
        raise FoldwiseError(
            f"{archive}: is damaged, after row {number} ({error}): download it again"
        ) from error


def _opened(archive: Path) -> IO[bytes]:
    if archive.suffix == ".csv":
        return archive.open("rb")
    if archive.suffix == ".gz":
        return cast(IO[bytes], gzip.open(archive, "rb"))
    if archive.suffix != ".zip":
        raise FoldwiseError(f"{archive}: is none of .zip, .csv and .csv.gz: rename or convert it")
    opened = zipfile.ZipFile(archive)
    members = [name for name in opened.namelist() if Path(name).suffix == ".csv"]
    if len(members) != 1:
        raise FoldwiseError(
            f"{archive}: holds {len(members)} CSV files instead of one: unzip it and pass the CSV"
        )
    return opened.open(members[0])


def _place(staged: list[Path], folder: Path) -> dict[str, Path]:
    placed = place(staged, folder, "archive")
    return {path.stem.removeprefix("cfpb_"): path for path in placed}
