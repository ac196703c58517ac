"""Fetch the CFPB's complaint database and prepare the tables that the use case trains on.

In: the official archive (over ten million complaints in one zipped CSV), downloaded or brought by
hand. Out: Parquet tables of the complaints that have a narrative, a Sub-issue, a ZIP code and a
Product: `full`, `partial` (at most 1,000 a class) and `debug` (at most 5 a class), and the counts
of what was read, dropped and kept. Memory stays bounded: rows go from the zip into small Parquet
parts, which a streaming query joins. A file gets its name only when it is whole.
"""

from __future__ import annotations

import csv
import fcntl
import filecmp
import gzip
import heapq
import http.client
import io
import json
import os
import random
import re
import shutil
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import polars as pl
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from foldwise.errors import FoldwiseError
from foldwise.runfolder import sync_file, sync_folder

ARCHIVE_URL = "https://files.consumerfinance.gov/ccdb/complaints.csv.zip"
TIMEOUT_S = 60.0  # without a byte
ATTEMPTS = 5  # connections that may break in one call
BLOCK_BYTES = 1 << 18

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
PER_CLASS = {"partial": 1000, "debug": 5}
PART_ROWS = 50_000  # about 60 MB of narratives

# Bad bytes, a cut stream, an unknown compression method, an encrypted member.
UNZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)
BY_HAND = "download it by other means and pass the file as --archive FILE"

Row = tuple[str | None, ...]


def fetch(folder: Path, url: str = ARCHIVE_URL) -> Path:
    """Download the archive into `folder`, continuing a partial download, and return its path.

    An archive that is already there is returned as it is. It is called `<name>.part` until it is
    complete and the checksum of every member is right.

    Raises:
        FoldwiseError: when the download fails; what can be continued stays in the `.part` file.
    """
    address = urlsplit(url)
    archive = folder / Path(address.path).name
    if address.scheme not in ("http", "https") or archive.suffix != ".zip":
        raise FoldwiseError(f"{url}: is not the http(s) address of a .zip archive")
    with _locked(folder):
        if archive.exists():
            return archive
        part, note = _sidecars(archive)
        complete = False
        for _ in range(ATTEMPTS):
            complete = _download(url, archive)
            if complete:
                break
        if not complete:
            raise FoldwiseError(
                f"{url}: the connection broke {ATTEMPTS} times{_progress_so_far(archive)}: "
                f"run the same command again, or {BY_HAND}"
            )
        damage = _damage(part)
        if damage:
            part.unlink()
            note.unlink(missing_ok=True)
            raise FoldwiseError(
                f"{url}: what arrived is no intact zip archive ({damage}) and was deleted: "
                f"run the same command again, or {BY_HAND}"
            )
        _publish(part, archive)
        note.unlink(missing_ok=True)
    return archive


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
    with _locked(folder):
        staging = folder / ".cfpb.staging"
        shutil.rmtree(staging, ignore_errors=True)  # a killed run's
        (staging / "parts").mkdir(parents=True)
        try:
            return _place(_write(archive, staging, seed), folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    handle = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FoldwiseError(
                f"{folder}: another process is fetching or preparing data here: wait for its end"
            ) from error
        yield
    except OSError as error:  # the network's are handled where they occur
        raise FoldwiseError(
            f"{error.filename or folder}: {error.strerror or error}: "
            "check the permissions and the free space"
        ) from error
    finally:
        if handle is not None:
            os.close(handle)


def _sidecars(archive: Path) -> tuple[Path, Path]:
    return Path(f"{archive}.part"), Path(f"{archive}.part.json")


def _progress_so_far(archive: Path) -> str:
    part, note = _sidecars(archive)
    if not (part.exists() and note.exists()):
        return ""
    return f" ({part} keeps the first {part.stat().st_size:,} bytes, from which it continues)"


def _download(url: str, archive: Path) -> bool:
    """Append what the server sends to the `.part` file; return whether that reached the end."""
    part, note = _sidecars(archive)
    start, validator, size = _resume_point(url, part, note)
    if start and start == size:
        return True
    headers = {"User-Agent": "foldwise", "Accept-Encoding": "identity"}
    if start:
        # If-Range: an archive that has changed since comes whole (200), not as its rest (206).
        headers |= {"Range": f"bytes={start}-", "If-Range": validator}
    try:
        response = urlopen(Request(url, headers=headers), timeout=TIMEOUT_S)
    except HTTPError as error:
        if start and error.code == 416:  # the server's file is shorter than the part
            note.unlink()
            return False
        raise FoldwiseError(
            f"{url}: the server answers {error.code} {error.reason}: try again later, or {BY_HAND}"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise FoldwiseError(
            f"{url}: can't be reached, {getattr(error, 'reason', error)}"
            f"{_progress_so_far(archive)}: check the network and run the same command again, "
            f"or {BY_HAND}"
        ) from error
    with response:
        if response.status == 206:
            rest = _content_range(response.headers.get("Content-Range", ""))
            if rest != (start, size):  # a server that doesn't know If-Range, and another archive
                note.unlink()
                return False
        else:
            start, size = 0, int(response.headers.get("Content-Length") or 0)
            # The note goes first: an old note must never vouch for a new part.
            note.unlink(missing_ok=True)
            part.write_bytes(b"")
            _write_note(note, url, response.headers, size)
        _append(response, part, start, size)
    return part.stat().st_size == size if size else True


def _resume_point(url: str, part: Path, note: Path) -> tuple[int, str, int]:
    if not (part.exists() and note.exists()):
        return 0, "", 0
    try:
        known = json.loads(note.read_text("utf-8"))
        if known["url"] == url:
            return part.stat().st_size, str(known["validator"]), int(known["size_bytes"])
    except (ValueError, KeyError, TypeError):
        note.unlink()  # not ours or half-written: the download starts over
    return 0, "", 0


def _write_note(note: Path, url: str, headers: http.client.HTTPMessage, size: int) -> None:
    # A weak ETag doesn't promise the same bytes; without validator nothing can be continued.
    etag = headers.get("ETag", "W/")
    validator = headers.get("Last-Modified") if etag.startswith("W/") else etag
    if validator:
        known = {"url": url, "validator": validator, "size_bytes": size}
        note.write_text(json.dumps(known), "utf-8")


def _content_range(value: str) -> tuple[int, int]:
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", value.strip())
    return (int(found[1]), int(found[2])) if found else (-1, 0)


def _append(response: IO[bytes], part: Path, start: int, size: int) -> None:
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with part.open("ab") as file, Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("download", total=size or None, completed=start)
        while True:
            try:
                block = response.read(BLOCK_BYTES)
            except (OSError, http.client.HTTPException):
                return  # broken off: the caller sees it by the size, and what came is kept
            if not block:
                return
            file.write(block)
            progress.advance(bar, len(block))


def _damage(archive: Path) -> str:
    try:
        with zipfile.ZipFile(archive) as opened:
            member = opened.testzip()
            return f"bad checksum of {member}" if member else ""
    except UNZIP_ERRORS as error:
        return str(error)


def _publish(whole: Path, final: Path) -> None:
    sync_file(whole)
    os.replace(whole, final)
    sync_folder(final.parent)


def _write(archive: Path, staging: Path, seed: int) -> list[Path]:
    rows = _records(archive)
    header = next(rows)
    kept = [column for column in KEPT if column in header]
    dropped = Counter(dict.fromkeys(REQUIRED, 0))
    samples: dict[str, _Sample] = {}
    part: list[Row] = []
    n_read = n_parts = 0
    with Console(stderr=True).status("reading the archive") as status:
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
    finals = {path.stem.removeprefix("cfpb_"): folder / path.name for path in staged}
    new = [path for path in staged if not (folder / path.name).exists()]
    for path in staged:
        if path not in new and not filecmp.cmp(path, folder / path.name, shallow=False):
            raise FoldwiseError(
                f"{folder / path.name}: exists with other content, from another archive or seed: "
                "move it away or choose another folder"
            )
    for path in new:
        _publish(path, folder / path.name)
    return finals
