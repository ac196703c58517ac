"""A store of Google's kind: the same files, versions and conditions as of S3's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gcsfs", reason="gcsfs isn't installed")
pytest.importorskip("gcp_storage_emulator", reason="no emulator of Google's store is installed")

from conftest import make_table
from foldwise.errors import FoldwiseError
from foldwise.run.folder import RunFolder
from foldwise.storage import lease, stores, systems
from foldwise.storage.mirror import mirrored
from foldwise.storage.places import run_of
from foldwise.table.formats import find_files
from foldwise.upkeep.standing import standing_at
from foldwise.workflow import cross_validate
from storage.gs_server import GoogleServer
from storage.test_stored_run import Killed, config_of, dies_after, numbers_of


@pytest.fixture(scope="module")
def server() -> Iterator[GoogleServer]:
    running = GoogleServer()
    running.make_bucket("team")
    yield running
    running.stop()


@pytest.fixture
def place(
    server: GoogleServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> str:
    """An empty place in a bucket."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.address)
    monkeypatch.setenv("FOLDWISE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FOLDWISE_STORE_SECONDS", "10")
    return f"gs://team/{request.node.name}"


def test_what_is_put_is_listed_fetched_and_removed(place: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"one")
    stores.put(file, f"{place}/a/file.txt")
    before = stores.listing(place)["a/file.txt"]
    assert (before.size, before.md5) == (3, "f97c5d29941bfb1b2fdab0874906ab82")
    file.write_bytes(b"two")
    stores.put(file, f"{place}/a/file.txt")
    after = stores.look(f"{place}/a/file.txt")
    assert after is not None
    assert after.version != before.version
    assert stores.fetch(before, tmp_path / "back") == after
    assert (tmp_path / "back").read_bytes() == b"two"
    stores.remove(f"{place}/a/file.txt")
    stores.remove(f"{place}/a/file.txt")
    assert stores.listing(place) == {}
    assert stores.read(f"{place}/a/file.txt") is None
    assert stores.matching(f"{place}/*") == []


def test_bytes_that_are_not_the_stores_are_not_taken(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{place}/t.csv"
    stores.put_bytes(b"a\n1\n", url)
    found = stores.look(url)
    assert found is not None
    from gcsfs.core import GCSFileSystem

    whole, taken = GCSFileSystem._get_file_request, []

    async def damaged(self: Any, rpath: str, lpath: str, *args: Any, **keys: Any) -> Any:
        answer = await whole(self, rpath, lpath, *args, **keys)
        if not taken:
            Path(lpath).write_bytes(b"a\n2\n")
        taken.append(rpath)
        return answer

    monkeypatch.setattr(GCSFileSystem, "_get_file_request", damaged)
    stores.fetch(found, tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_bytes() == b"a\n1\n"
    assert len(taken) == 2


def test_the_store_decides_who_puts_what_was_put_meanwhile(place: str) -> None:
    url = f"{place}/.lease.json"
    first = stores.put_if(b"first", url, None)
    assert first is not None
    assert stores.put_if(b"second", url, None) is None
    assert stores.read(url) == b"first"
    third = stores.put_if(b"third", url, first)
    assert third not in (None, first)
    assert stores.put_if(b"late", url, first) is None
    # It had been put, and the answer was lost: asked again it is known by its bytes.
    assert stores.put_if(b"third", url, first) == third
    assert stores.read(url) == b"third"


def test_a_run_there_is_held_by_one_machine(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(place, "x")
    with mirrored(run):
        monkeypatch.setenv("FOLDWISE_CACHE", str(tmp_path / "other"))
        with (
            pytest.raises(FoldwiseError, match="is in use by 'process"),
            mirrored(run_of(place, "x")),
        ):
            pass
        monkeypatch.setenv("FOLDWISE_CACHE", str(tmp_path / "cache"))
    assert stores.listing(place) == {}


def test_a_missing_bucket_and_missing_rights_are_told(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FoldwiseError, match="there is no such bucket or object"):
        stores.put_bytes(b"x", "gs://nobucket/x")
    from gcsfs.retry import validate_response

    def refused(code: int) -> Any:
        async def ask(*_: Any, **__: Any) -> None:
            validate_response(code, b'{"error": {"message": "no"}}', "b/team")

        return ask

    for code in (401, 403):
        monkeypatch.setattr("gcsfs.core.GCSFileSystem._info", refused(code))
        systems.file_system.cache_clear()
        with pytest.raises(FoldwiseError, match="the store doesn't allow it"):
            stores.look(f"{place}/x")
    systems.file_system.cache_clear()


@pytest.mark.slow
def test_killed_and_ended_elsewhere_it_has_the_bytes_of_a_run_here(
    place: str, tmp_path: Path, backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_table(60).write_csv(tmp_path / "table.csv")
    here = cross_validate(config_of(backbone, tmp_path / "table.csv", str(tmp_path / "runs")))
    stores.put(tmp_path / "table.csv", f"{place}/table.csv")
    assert (
        Path(find_files(f"{place}/*.csv", online=True)[0]).read_bytes()
        == (tmp_path / "table.csv").read_bytes()
    )
    config = config_of(backbone, f"{place}/table.csv", f"{place}/runs")
    with monkeypatch.context() as dying:
        dying.setattr(lease, "HOLDS_S", -1)  # nobody waits for a machine that is gone
        dying.setattr(stores, "put", dies_after(45))
        with pytest.raises(Killed):
            cross_validate(config)
    assert standing_at(f"{place}/runs/test").state == "stopped"
    monkeypatch.setenv("FOLDWISE_CACHE", str(tmp_path / "two"))
    copy = cross_validate(config)
    assert numbers_of(copy.path) == numbers_of(here.path)
    assert [e["event"] for e in RunFolder(copy.path).events()].count("started") == 1
    assert standing_at(f"{place}/runs/test").state == "done"
    sent = stores.listing(f"{place}/runs/test")
    for name, content in numbers_of(here.path).items():
        assert stores.read(f"{place}/runs/test/{name}") == content
        assert name in sent
