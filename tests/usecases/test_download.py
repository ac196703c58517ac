import io
import json
import re
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from foldwise.errors import FoldwiseError
from foldwise.synthetic.complaints import complaints
from foldwise.usecases import download
from foldwise.usecases.download import fetch


@pytest.fixture(scope="module")
def zip_bytes() -> bytes:
    stored = io.BytesIO()
    with zipfile.ZipFile(stored, "w", zipfile.ZIP_STORED) as opened:
        opened.writestr("complaints.csv", complaints(600).write_csv())
    return stored.getvalue()


class Server:
    """What a small web server serves, and the requests it got: (Range, If-Range) each."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.headers = {"ETag": '"v1"'}
        self.ranges = True
        self.status = 200
        self.cuts: list[int] = []  # bytes after which the next connections break
        self.requests: list[tuple[str | None, str | None]] = []
        self.url = ""


@contextmanager
def serving(content: bytes) -> Iterator[Server]:
    server = Server(content)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted, validator = self.headers.get("Range"), self.headers.get("If-Range")
            server.requests.append((wanted, validator))
            start = 0
            if server.status != 200:
                self.send_error(server.status)
                return
            if wanted and server.ranges and validator in server.headers.values():
                start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
                if start >= len(server.content):
                    self.send_error(416)
                    return
                self.send_response(206)
                last = len(server.content) - 1
                self.send_header("Content-Range", f"bytes {start}-{last}/{last + 1}")
            else:
                self.send_response(200)
            for name, value in server.headers.items():
                self.send_header(name, value)
            body = server.content[start:]
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: server.cuts.pop(0)] if server.cuts else body)

        def log_message(self, *arguments: object) -> None:
            """Keep the test's output clean."""

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listener.daemon_threads = True
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    server.url = f"http://127.0.0.1:{listener.server_port}/ccdb/complaints.csv.zip"
    try:
        yield server
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join(10)


@pytest.fixture
def server(zip_bytes: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(download, "TIMEOUT_S", 10.0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving(zip_bytes) as running:
        yield running


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_downloads_the_whole_archive(server, zip_bytes, tmp_path):
    archive = fetch(tmp_path / "new" / "folder", server.url)
    assert archive == tmp_path / "new" / "folder" / "complaints.csv.zip"
    assert archive.read_bytes() == zip_bytes
    assert names(archive.parent) == ["complaints.csv.zip"]


def test_an_archive_that_is_there_is_not_fetched_again(server, tmp_path):
    fetch(tmp_path, server.url)
    fetch(tmp_path, server.url)
    assert len(server.requests) == 1


def test_a_broken_connection_is_continued_where_it_broke(server, zip_bytes, tmp_path):
    server.cuts = [100_000]
    assert fetch(tmp_path, server.url).read_bytes() == zip_bytes
    assert server.requests == [(None, None), ("bytes=100000-", '"v1"')]
    assert names(tmp_path) == ["complaints.csv.zip"]


def test_last_modified_serves_where_the_etag_is_weak(server, zip_bytes, tmp_path):
    day = "Tue, 01 Jul 2025 00:00:00 GMT"
    server.headers = {"ETag": 'W/"v1"', "Last-Modified": day}
    server.cuts = [5000]
    assert fetch(tmp_path, server.url).read_bytes() == zip_bytes
    assert server.requests[1] == ("bytes=5000-", day)


def test_without_validator_a_broken_download_starts_over(server, zip_bytes, tmp_path):
    server.headers = {}
    server.cuts = [5000]
    assert fetch(tmp_path, server.url).read_bytes() == zip_bytes
    assert server.requests == [(None, None), (None, None)]


def test_a_later_call_continues_what_an_earlier_one_left(server, zip_bytes, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "ATTEMPTS", 1)
    server.cuts = [70_000]
    part = tmp_path / "complaints.csv.zip.part"
    with pytest.raises(FoldwiseError) as caught:
        fetch(tmp_path, server.url)
    assert str(caught.value) == (
        f"{server.url}: the connection broke 1 times ({part} keeps the first 70,000 bytes, "
        "from which it continues): run the same command again, or download it by other means "
        "and pass the file as --archive FILE"
    )
    assert names(tmp_path) == ["complaints.csv.zip.part", "complaints.csv.zip.part.json"]
    assert fetch(tmp_path, server.url).read_bytes() == zip_bytes
    assert server.requests[1] == ("bytes=70000-", '"v1"')


def test_a_server_without_ranges_sends_all_again(server, zip_bytes, tmp_path):
    server.ranges = False
    server.cuts = [100_000]
    assert fetch(tmp_path, server.url).read_bytes() == zip_bytes


@pytest.mark.parametrize("left", [10, 500_000_000])
def test_an_archive_that_changed_since_is_fetched_from_its_start(
    server, tmp_path, monkeypatch, left
):
    monkeypatch.setattr(download, "ATTEMPTS", 1)
    server.cuts = [min(left, len(server.content) - 1)]
    with pytest.raises(FoldwiseError):
        fetch(tmp_path, server.url)
    changed = io.BytesIO()
    with zipfile.ZipFile(changed, "w") as opened:
        opened.writestr("complaints.csv", "another")
    server.content, server.headers = changed.getvalue(), {"ETag": '"v2"'}
    assert fetch(tmp_path, server.url).read_bytes() == changed.getvalue()


def test_a_part_longer_than_the_servers_file_is_given_up(server, zip_bytes, tmp_path):
    part = tmp_path / "complaints.csv.zip.part"
    part.write_bytes(b"x" * (len(zip_bytes) + 5))
    known = {"url": server.url, "validator": '"v1"', "size_bytes": len(zip_bytes) + 9}
    Path(f"{part}.json").write_text(json.dumps(known))
    assert fetch(tmp_path, server.url).read_bytes() == zip_bytes
    assert len(server.requests) == 2


def test_a_part_from_another_address_is_not_continued(server, zip_bytes, tmp_path):
    part = tmp_path / "complaints.csv.zip.part"
    part.write_bytes(b"something")
    known = {"url": server.url + "?", "validator": '"v1"', "size_bytes": len(zip_bytes)}
    Path(f"{part}.json").write_text(json.dumps(known))
    assert fetch(tmp_path, server.url).read_bytes() == zip_bytes
    assert server.requests == [(None, None)]


@pytest.mark.parametrize("note", ["", "{", "[]", '{"url": 1}'])
def test_a_damaged_note_starts_the_download_over(server, zip_bytes, tmp_path, note):
    (tmp_path / "complaints.csv.zip.part").write_bytes(b"something")
    (tmp_path / "complaints.csv.zip.part.json").write_text(note)
    assert fetch(tmp_path, server.url).read_bytes() == zip_bytes
    assert server.requests == [(None, None)]


def test_a_complete_part_needs_no_request(server, zip_bytes, tmp_path):
    part = tmp_path / "complaints.csv.zip.part"
    part.write_bytes(zip_bytes)
    known = {"url": server.url, "validator": '"v1"', "size_bytes": len(zip_bytes)}
    Path(f"{part}.json").write_text(json.dumps(known))
    assert fetch(tmp_path, server.url).read_bytes() == zip_bytes
    assert server.requests == []


def test_no_connection_is_one_message_and_leaves_nothing(zip_bytes, tmp_path):
    with serving(zip_bytes) as gone:
        url = gone.url
    with pytest.raises(FoldwiseError) as caught:
        fetch(tmp_path, url)
    assert str(caught.value) == (
        f"{url}: can't be reached, [Errno 111] Connection refused: check the network and run "
        "the same command again, or download it by other means and pass the file as "
        "--archive FILE"
    )
    assert names(tmp_path) == []


def test_no_connection_keeps_what_can_be_continued_and_says_so(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "ATTEMPTS", 1)
    server.cuts = [1234]
    with pytest.raises(FoldwiseError):
        fetch(tmp_path, server.url)
    server.status = 503
    with pytest.raises(FoldwiseError, match="the server answers 503 Service Unavailable"):
        fetch(tmp_path, server.url)
    assert (tmp_path / "complaints.csv.zip.part").stat().st_size == 1234


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda c: b"<html>log in to the hotel's network</html>", "File is not a zip file"),
        (lambda c: c[:5000] + b"\0\0\0\0" + c[5004:], "bad checksum of complaints.csv"),
    ],
)
def test_a_corrupt_archive_is_deleted(server, zip_bytes, tmp_path, spoil, reason):
    server.content = spoil(zip_bytes)
    with pytest.raises(FoldwiseError) as caught:
        fetch(tmp_path, server.url)
    assert str(caught.value) == (
        f"{server.url}: what arrived is no intact zip archive ({reason}) and was deleted: run "
        "the same command again, or download it by other means and pass the file as "
        "--archive FILE"
    )
    assert names(tmp_path) == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/a.csv", "file:///a.zip", "a.zip", ""])
def test_an_address_of_something_else_is_refused_before_connecting(tmp_path, url):
    with pytest.raises(FoldwiseError) as caught:
        fetch(tmp_path, url)
    assert str(caught.value) == f"{url}: is not the http(s) address of a .zip archive"


def test_the_rest_of_another_archive_is_not_appended(server, zip_bytes, tmp_path):
    part = tmp_path / "complaints.csv.zip.part"
    part.write_bytes(b"old" * 100)
    known = {"url": server.url, "validator": '"v1"', "size_bytes": 1000}
    Path(f"{part}.json").write_text(json.dumps(known))
    assert fetch(tmp_path, server.url).read_bytes() == zip_bytes
    assert server.requests == [("bytes=300-", '"v1"'), (None, None)]
