"""Files are whole or absent, and a lock belongs to a living process."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from foldwise.errors import FoldwiseError, RunInterrupted
from foldwise.run.files import (
    append_line,
    atomic,
    sha256,
    write_bytes,
    write_json,
    write_parquet,
    write_text,
)
from foldwise.run.folder import RunFolder
from foldwise.run.lock import lock
from foldwise.run.readers import read_json


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """What reaches the disk, in order: ("write", name), ("fsync", name), ("replace", from, to)."""
    seen: list[tuple[str, ...]] = []
    fsync, replace, write = os.fsync, os.replace, Path.write_bytes

    def record_fsync(descriptor: int) -> None:
        seen.append(("fsync", os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    def record_replace(source: Path, target: Path) -> None:
        seen.append(("replace", str(source), str(target)))
        replace(source, target)

    def record_write(path: Path, content: bytes) -> int:
        seen.append(("write", str(path)))
        return write(path, content)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "replace", record_replace)
    monkeypatch.setattr(Path, "write_bytes", record_write)
    return seen


def test_write_goes_to_a_temporary_beside_then_fsync_rename_fsync_of_the_folder(
    tmp_path: Path, events: list[tuple[str, ...]]
) -> None:
    target = tmp_path / "metrics.json"
    write_bytes(target, b"{}")
    temporary = events[0][1]
    assert Path(temporary).parent == tmp_path
    assert temporary != str(target)
    assert events == [
        ("write", temporary),
        ("fsync", temporary),
        ("replace", temporary, str(target)),
        ("fsync", str(tmp_path)),
    ]
    assert os.listdir(tmp_path) == ["metrics.json"]


def test_parquet_and_json_take_the_same_path(tmp_path: Path, events: list[tuple[str, ...]]) -> None:
    write_parquet(tmp_path / "oof.parquet", pl.DataFrame({"row": [1]}))
    write_json(tmp_path / "metrics.json", {"a": 1})
    replaced = [Path(event[2]).name for event in events if event[0] == "replace"]
    assert replaced == ["oof.parquet", "metrics.json"]
    assert sum(event == ("fsync", str(tmp_path)) for event in events) == 2


def test_failure_while_writing_leaves_the_old_file_and_no_temporary(tmp_path: Path) -> None:
    target = tmp_path / "best.json"
    write_text(target, "old")

    def half() -> None:
        with atomic(target) as temporary:
            temporary.write_text("ne")
            raise OSError(28, "No space left on device")

    with pytest.raises(RunInterrupted, match=rf"^{re.escape(str(target))}: no space left on the "):
        half()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["best.json"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_failure_of_fsync_or_rename_leaves_the_old_file_and_no_temporary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    target = tmp_path / "best.json"
    write_text(target, "old")

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="Input/output"):
        write_text(target, "new")
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["best.json"]


def test_json_has_null_for_numbers_that_are_not_finite(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"nan": float("nan"), "inf": [float("inf"), 1.5], "text": "ä"})
    assert path.read_text(encoding="utf-8").count("null") == 2
    assert read_json(path) == {"nan": None, "inf": [None, 1.5], "text": "ä"}


def test_damaged_or_absent_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(FoldwiseError, match=f"^{re.escape(str(path))}: no such file"):
        read_json(path)
    path.write_text('{"a": ')
    with pytest.raises(FoldwiseError, match=f"^{re.escape(str(path))}: damaged"):
        read_json(path)


def test_lines_are_appended_whole(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    append_line(path, "a")
    append_line(path, "ä")
    assert path.read_bytes() == "a\nä\n".encode()


def test_sha256_is_the_known_one(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256(tmp_path / "a") == expected


def test_run_is_finished_once_its_metrics_are_there(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "runs" / "a")
    run.create()
    assert not run.finished
    write_json(run.metrics, {})
    assert run.finished


HOLDER = """
import sys, time
from pathlib import Path
from foldwise.run.lock import lock
with lock(Path(sys.argv[1]), "fold 1"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / ".lock")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_lock_held_by_another_process_is_refused_naming_its_id(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    expected = f"^fold 1 of runs/a is in use by process {holder.pid} on .+ since .+; wait for it"
    with (
        pytest.raises(FoldwiseError, match=expected),
        lock(tmp_path / ".lock", "fold 1 of runs/a"),
    ):
        pass


def test_lock_dies_with_its_killed_holder(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with lock(tmp_path / ".lock", "fold 1"):
        text = (tmp_path / ".lock").read_text()
    assert text.startswith(f"process {os.getpid()} on ")


def test_lock_is_free_again_after_the_block(tmp_path: Path) -> None:
    for _ in range(2):
        with lock(tmp_path / "a" / ".lock", "a"):
            pass
    with (
        lock(tmp_path / "a" / ".lock", "a"),
        pytest.raises(FoldwiseError, match=r"^b is in use by"),
        lock(tmp_path / "a" / ".lock", "b"),
    ):
        pass


@pytest.mark.parametrize("target", ["precious.txt", "nothing-yet"])
def test_a_lock_or_log_that_is_a_link_is_not_written_through(tmp_path: Path, target: str) -> None:
    (tmp_path / "precious.txt").write_text("precious")
    (tmp_path / ".lock").symlink_to(tmp_path / target)
    with (
        pytest.raises(FoldwiseError, match=r"\.lock: is no plain file"),
        lock(tmp_path / ".lock", ""),
    ):
        pass
    with pytest.raises(FoldwiseError, match=r"\.lock: is no plain file"):
        append_line(tmp_path / ".lock", "line")
    assert (tmp_path / "precious.txt").read_text() == "precious"
    assert not (tmp_path / "nothing-yet").exists()


def test_a_lock_or_log_with_a_second_name_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("precious")
    os.link(tmp_path / "precious.txt", tmp_path / "log.jsonl")
    with pytest.raises(FoldwiseError, match=r"log\.jsonl: has another name too \(a hard link\)"):
        append_line(tmp_path / "log.jsonl", "line")
    with pytest.raises(FoldwiseError, match="hard link"), lock(tmp_path / "log.jsonl", ""):
        pass
    assert (tmp_path / "precious.txt").read_text() == "precious"


def test_a_lock_that_is_a_pipe_or_folder_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(FoldwiseError, match=f"{name}: is no plain file"):
            append_line(tmp_path / name, "line")
        with pytest.raises(FoldwiseError, match=name), lock(tmp_path / name, ""):
            pass


def test_links_may_stand_in_a_trackers_folder_where_they_stay_in_it(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    inner = run.path / "wandb" / "fold-1"
    (inner / "run-7").mkdir(parents=True)
    run.config.write_text("run:\n")
    (inner / "latest").symlink_to("run-7")
    run.check_is_run()
    (inner / "latest").unlink()
    (inner / "latest").symlink_to("../../config.yaml")
    with pytest.raises(FoldwiseError, match=r"wandb/fold-1/latest: is a link \(to '\.\./\.\./con"):
        run.check_is_run()


def test_a_run_that_leads_out_before_it_has_a_config_is_refused(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    (run.path / ".lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FoldwiseError, match=r"\.lock: is a link"):
        run.check_place()
