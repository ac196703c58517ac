"""Download the CFPB's archive of complaints, through connections that break.

In: a folder and an address. Out: the path of the archive there, whole and with every checksum
right. A download that breaks is continued, in the same call or a later one. A note beside the
`.part` file says of which archive it is the start: halves of two days' archives are no archive. A
file gets its name only when it is whole.
"""

from __future__ import annotations

import http.client
import json
import re
import zipfile
import zlib
from pathlib import Path
from typing import IO
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from foldwise.errors import FoldwiseError
from foldwise.run.files import publish
from foldwise.run.lock import locked

ARCHIVE_URL = "https://files.consumerfinance.gov/ccdb/complaints.csv.zip"
TIMEOUT_S = 60.0  # without a byte
ATTEMPTS = 5  # connections that may break in one call
BLOCK_BYTES = 1 << 18

# Bad bytes, a cut stream, an unknown compression method, an encrypted member.
UNZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)
BY_HAND = "download it by other means and pass the file as --archive FILE"


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
    with locked(folder):
        if archive.exists():
            return archive
        part, note = _sidecars(archive)
        if not any(_download(url, archive) for _ in range(ATTEMPTS)):
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
        publish(part, archive)
        note.unlink(missing_ok=True)
    return archive


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
    with part.open("ab") as file, Progress(*columns) as progress:
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
