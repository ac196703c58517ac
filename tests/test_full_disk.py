"""A disk that fills up at any write: one message, and the same command ends with the same bytes."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from conftest import mounted
from foldwise import cli
from foldwise.run import checkpoints, space
from foldwise.run.folder import RunFolder

WRITERS = ("run.files", "run.checkpoints", "run.lock", "encoding.text")
SIZE = 24 * 2**20
MESSAGE = re.compile(
    r"stopped: (fold \d isn't begun: )?(?P<path>\S+): no space left on the disk: "
    r"((?P<need>[\d,]+) bytes are needed, )?(?P<free>[\d,]+) bytes are free; free some and give "
    r"the same command again\n"
)


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small file system of its own, which only root can make."""
    folder = tmp_path_factory.mktemp("volume")
    with mounted(folder, SIZE) as disk:
        yield disk


@pytest.fixture(scope="module")
def train(
    tmp_path_factory: pytest.TempPathFactory, backbone: Path, table_path: Path
) -> Iterator[Callable[[Path, pytest.CaptureFixture[str]], tuple[int, str]]]:
    """Give the command for a run in a folder; return its exit code and what it said."""
    place = tmp_path_factory.mktemp("configs")

    def run(folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
        values: dict[str, Any] = {
            "run": {"name": "run", "dir": str(folder), "seed": 7},
            "data": {"path": str(table_path), "target": "label", "text": ["text"]},
            "folds": {"n": 2, "duplicates": "identical"},
            "selection": {"rows": "inner"},
            "text": {"max_length": 16},
            "model": {"backbone": str(backbone)},
            "optimizer": {"lr": 3e-3, "head_lr": 1e-2},
            "training": {
                "epochs": 1,
                "batch_size": 12,
                "device": "cpu",
                "precision": "float32",
                "save_minutes": 0,
                "log_every": 1,
            },
            "trackers": [],
            "baselines": False,
            "ensemble": "model",
        }
        config = place / "config.yaml"
        config.write_text(json.dumps(values), "utf-8")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("signal.signal", lambda *_: None)
            patch.setattr(sys, "argv", ["foldwise", "train", str(config)])
            capsys.readouterr()
            with pytest.raises(SystemExit) as ended:
                cli.main()
        return ended.value.code or 0, capsys.readouterr().err

    with pytest.MonkeyPatch.context() as patch:  # drawing takes half of a tiny fold's time
        patch.setattr(
            "foldwise.charts.learning_curves.learning_curves",
            lambda *a: a[3].write_bytes(b"curves"),
        )
        yield run


@pytest.fixture(scope="module")
def whole(
    tmp_path_factory: pytest.TempPathFactory,
    train: Callable[..., tuple[int, str]],
) -> tuple[RunFolder, int]:
    """The undisturbed run, and how often it writes."""
    folder = tmp_path_factory.mktemp("whole")
    writes = 0

    @contextmanager
    def counting(*arguments: Any) -> Iterator[None]:
        nonlocal writes
        writes += 1
        with space.room_for(*arguments):
            yield

    class Said:
        def readouterr(self) -> Any:
            return type("Nothing", (), {"err": ""})

    with pytest.MonkeyPatch.context() as patch:
        for module in WRITERS:
            patch.setattr(f"foldwise.{module}.room_for", counting)
        assert train(folder, Said())[0] == 0
    return RunFolder(folder / "run"), writes


def fill(volume: Path, leave: int) -> Path:
    """Take all but some bytes of a volume."""
    filler = volume / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(2**16))
    with filler.open("r+b", buffering=0) as file, suppress(OSError):
        file.seek(0, os.SEEK_END)
        while True:
            file.write(bytes(2**12))
    os.truncate(filler, max(0, filler.stat().st_size - leave))
    return filler


def assert_same(run: RunFolder, whole: RunFolder) -> None:
    for name in ("oof.parquet", "metrics.json", "folds.parquet", "classes.json"):
        assert (run.path / name).read_bytes() == (whole.path / name).read_bytes(), name
    for number in (1, 2):
        left, right = (checkpoints.pointed(r.fold(number)) for r in (run, whole))
        assert left.name == right.name
        name = "model.safetensors"
        assert (left / name).read_bytes() == (right / name).read_bytes()
        left, right = (r.fold(number).history for r in (run, whole))
        assert left.read_bytes() == right.read_bytes()
    assert [p for p in run.path.rglob("*") if p.name.endswith((".tmp", ".old"))] == []


def fills_up_at(
    k: int,
    volume: Path,
    train: Callable[..., tuple[int, str]],
    whole: RunFolder,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Fill the volume at the k-th write, free it, and give the command again."""
    writes = 0
    filler: Path | None = None

    @contextmanager
    def filling(*arguments: Any) -> Iterator[None]:
        nonlocal writes, filler
        if writes == k:
            filler = fill(volume, leave=(k * 7919) % 2**17)  # in the middle of this, or of later
        writes += 1
        with space.room_for(*arguments):
            yield

    shutil.rmtree(volume / "runs", ignore_errors=True)
    with pytest.MonkeyPatch.context() as patch:
        for module in WRITERS:
            patch.setattr(f"foldwise.{module}.room_for", filling)
        code, said = train(volume / "runs", capsys)
    assert filler is not None
    filler.unlink()
    if code:
        assert code == 1, said
        told = MESSAGE.search(said)
        assert told is not None, said
        assert str(volume) in told["path"]
        assert int(told["free"].replace(",", "")) < 2**20
        assert "Traceback" not in said
        code, said = train(volume / "runs", capsys)
    assert code == 0, said
    assert_same(RunFolder(volume / "runs" / "run"), whole)


@pytest.mark.parametrize("share", [0.1, 0.45, 0.8])
def test_disk_that_fills_up_for_real_stops_the_run_and_the_same_command_ends_it(
    share: float,
    volume: Path,
    train: Callable[..., tuple[int, str]],
    whole: tuple[RunFolder, int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    fills_up_at(round(share * whole[1]), volume, train, whole[0], capsys)


@pytest.mark.slow
def test_disk_that_fills_up_at_any_write_at_all(
    volume: Path,
    train: Callable[..., tuple[int, str]],
    whole: tuple[RunFolder, int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    for k in range(whole[1]):
        fills_up_at(k, volume, train, whole[0], capsys)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_write_that_the_disk_refuses_is_named_and_the_same_command_ends_the_run(
    share: float,
    tmp_path: Path,
    train: Callable[..., tuple[int, str]],
    whole: tuple[RunFolder, int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    writes = 0

    @contextmanager
    def refusing(path: Path, size_bytes: int | None = None) -> Iterator[None]:
        nonlocal writes
        writes += 1
        with space.room_for(path, size_bytes):
            yield
            if writes == round(share * whole[1]):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.MonkeyPatch.context() as patch:
        for module in WRITERS:
            patch.setattr(f"foldwise.{module}.room_for", refusing)
        code, said = train(tmp_path / "runs", capsys)
    assert code == 1
    told = MESSAGE.search(said)
    assert told is not None, said
    assert told["path"].startswith(str(tmp_path / "runs"))
    code, said = train(tmp_path / "runs", capsys)
    assert code == 0, said
    assert_same(RunFolder(tmp_path / "runs" / "run"), whole[0])
