"""What dead processes have left half written goes when a run goes on; nothing else does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from foldwise.run.files import half
from foldwise.run.folder import RunFolder
from foldwise.run.leftovers import clear_leftovers


@pytest.fixture(scope="module")
def dead() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_processes_of_one_number_on_two_machines_write_under_two_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(tmp_path / "runs" / "a")
    here = half(run.fold(1).path / "training.json")
    monkeypatch.setattr("socket.gethostname", lambda: "elsewhere")
    there = half(run.fold(1).path / "training.json")
    assert here != there
    assert set(clear_leftovers(run, [run.fold(1)])) == set()
    put(here)
    put(there)
    assert set(clear_leftovers(run, [run.fold(1)])) == {here, there}


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("half")
    return path


def test_leftovers_of_the_dead_go_and_those_of_the_living_stay(tmp_path: Path, dead: int) -> None:
    run = RunFolder(tmp_path / "runs" / "a")
    steps = run.fold(1).checkpoints
    gone = [
        put(run.path / f".metrics.json.{dead}.tmp"),
        put(run.code / f".my_parts.py.{dead}.tmp"),
        put(run.backbone / f".config.json.{dead}.tmp"),
        put(run.fold(1).path / f".training.json.{os.getppid()}.tmp"),  # we hold the fold's lock
        put(steps / ".step-000003.tmp" / "model.safetensors"),
        put(steps / ".step-000001.old" / "model.safetensors"),
    ]
    stay = [
        put(run.path / f".report.html.{os.getpid()}.tmp"),
        put(run.fold(2).path / f".training.json.{dead}.tmp"),  # another's fold
        put(steps / "step-000002" / "model.safetensors"),
        put(steps / "damaged-1-step-000001" / "model.safetensors"),
        put(run.path / "notes.tmp"),
        put(run.path / ".lock"),
        put(run.token_stores / f".abc.{dead}.tmp" / "ids.bin"),  # another machine's, perhaps
    ]
    clear_leftovers(run, [run.fold(1)])
    assert [path for path in gone if path.exists()] == []
    assert [path for path in stay if not path.exists()] == []


def test_token_store_in_the_making_goes_an_hour_after_its_process(
    tmp_path: Path, dead: int
) -> None:
    run = RunFolder(tmp_path / "runs" / "a")
    old = put(run.token_stores / f".abc.{dead}.tmp" / "ids.bin")
    long_ago = old.stat().st_mtime - 3700
    for path in (old, old.parent):
        os.utime(path, (long_ago, long_ago))
    text = put(run.token_stores / f".texts-0a1b2c3d.4e5f67.{dead}.tmp")  # of a table half read
    fresh = put(run.token_stores / f".texts-8a9b0c1d.4e5f67.{dead}.tmp")
    os.utime(text, (long_ago, long_ago))
    clear_leftovers(run, [])
    assert not old.parent.exists()
    assert (text.exists(), fresh.exists()) == (False, True)


def test_nothing_outside_is_removed_through_a_link(tmp_path: Path, dead: int) -> None:
    mine = put(tmp_path / "mine" / f".a.{dead}.tmp")
    inside = put(tmp_path / "mine" / "inside" / "a")
    run = RunFolder(tmp_path / "runs" / "a")
    run.path.mkdir(parents=True)
    run.code.symlink_to(mine.parent)
    link = run.path / f".b.{dead}.tmp"
    link.symlink_to(inside.parent)
    clear_leftovers(run, [])
    assert mine.exists()
    assert inside.exists()
    assert not link.is_symlink()
