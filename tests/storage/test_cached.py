"""What of the cache can go goes, and nothing that is only here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from foldwise.cli import app
from foldwise.run.lock import use
from foldwise.run.tree import check_tree
from foldwise.storage import mirror, tables
from foldwise.storage.mirror import local_run, mirrored
from foldwise.storage.places import run_of
from foldwise.table.formats import find_files
from storage.conftest import Bucket


@pytest.fixture
def no_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if this process, which lives on, had ended after it read."""
    monkeypatch.setattr(mirror, "use", lambda path: None)
    monkeypatch.setattr(tables, "use", lambda path: None)


@pytest.fixture
def copy(bucket: Bucket) -> Path:
    """A copy of a run in a store."""
    for name in ("config.yaml", "fold-1/checkpoints/step-000001/state.json", "oof.parquet"):
        bucket.put(f"runs/x/{name}", b"x" * 100)
    bucket.put("in/t.csv", b"a\n1\n")
    return local_run(bucket.url("runs/x"))


def clean(*arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["clean", "--cache", "--json", *arguments])
    assert result.exception is None, result.exception
    return dict(json.loads(result.stdout))


@pytest.mark.usefixtures("no_reader")
def test_copies_of_what_stores_have_go_and_come_back(
    bucket: Bucket, copy: Path, tmp_path: Path
) -> None:
    url = bucket.url("in/t.csv")
    old = find_files(url, online=True)[0]
    bucket.put("in/t.csv", b"a\n2\n")
    new = find_files(url, online=True)[0]
    going = {str(copy), str(Path(old).parent), str(Path(new).parent)}
    listed = clean()
    assert {item["path"] for item in listed["can_go"]} == going
    assert (listed["bytes"], listed["removed"], listed["stays"]) == (208, [], [])
    assert set(clean("--yes")["removed"]) == going
    left = {p for p in tmp_path.rglob("*") if p.is_file() and not p.name.startswith(".")}
    assert {path.name for path in left} <= {"latest.json"}
    assert clean()["can_go"] == []
    assert len([p for p in local_run(bucket.url("runs/x")).rglob("*") if p.is_file()]) == 2
    assert Path(find_files(url, online=True)[0]).read_bytes() == b"a\n2\n"


@pytest.mark.usefixtures("no_reader")
def test_what_is_only_here_stays(bucket: Bucket, copy: Path) -> None:
    url = bucket.url("in/t.csv")
    table = Path(find_files(url, online=True)[0])
    (copy / "unsent").write_bytes(b"x")
    bucket.put("in/t.csv", b"a\n2\n")
    kept = clean("--yes")
    assert (kept["removed"], kept["can_go"]) == ([], [])
    assert kept["stays"] == [
        f"{bucket.url('runs/x')}: its copy stays: something in it isn't in the store",
        f"{url}: its copy stays: the store has another one by now, or none",
    ]
    (copy / "unsent").unlink()
    for key in bucket.keys("runs/"):
        bucket.remove(key)
    assert "the store doesn't have the run any more" in clean("--yes")["stays"][0]
    assert table.exists()
    check_tree(copy, ".*")


def test_what_a_process_reads_or_works_on_stays(
    bucket: Bucket, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_files(bucket.url("in/t.csv"), online=True)
    read = clean("--yes")
    assert [line.rpartition(": ")[2] for line in read["stays"]] == ["a process reads it"] * 2
    monkeypatch.setattr(mirror, "use", lambda path: None)
    run = run_of(bucket.url("runs"), "y")
    run.path.mkdir()
    run.config.write_bytes(b"x")
    with mirrored(run):
        assert f"{bucket.url('runs/y')}: its copy stays: a process works on it" in clean()["stays"]
    assert str(run.path) in {item["path"] for item in clean()["can_go"]}
    assert use.cache_info().currsize > 0


@pytest.mark.usefixtures("no_reader")
def test_a_version_whose_list_is_lost_can_go(bucket: Bucket, copy: Path) -> None:
    table = Path(find_files(bucket.url("in/t.csv"), online=True)[0])
    (table.parents[1] / "latest.json").write_text("{")
    (table.parents[2] / ("0" * 16)).mkdir()  # of a fetch that never came
    assert str(table.parent) in clean("--yes")["removed"]
    assert not table.exists()


def test_clean_takes_a_run_or_the_cache(tmp_path: Path) -> None:
    for arguments in ([], [str(tmp_path), "--cache"]):
        result = CliRunner().invoke(app, ["clean", *arguments])
        assert str(result.exception) == "clean: give a run's folder, or --cache, and not both"
