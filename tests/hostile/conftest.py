"""A received run among files of the user's, and commands that may change none of these."""

from __future__ import annotations

import contextlib
import json
import resource
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import make_table
from foldwise import cli
from foldwise.config.load import load_config
from foldwise.workflow import cross_validate
from hostile.world import Ended, World

LONGEST_S = 10
MOST_MEMORY = 1_000_000  # KiB that a refusal may take beyond what was held before


def values_of(backbone: Path) -> dict[str, Any]:
    """Return a config that trains in two seconds, seen from the folder `here`."""
    return {
        "run": {"name": "received", "dir": "../runs", "seed": 7},
        "data": {
            "path": "../table.csv",
            "target": "label",
            "text": ["text"],
            "categorical": ["kind"],
        },
        "folds": {"n": 2, "duplicates": "identical"},
        "selection": {"rows": "inner"},
        "text": {"max_length": 24},
        "model": {"backbone": str(backbone)},
        "training": {"epochs": 1, "batch_size": 16, "device": "cpu", "precision": "float32"},
        "baselines": False,
        "ensemble": "model",
    }


@pytest.fixture(scope="session")
def origin(tmp_path_factory: pytest.TempPathFactory, backbone: Path) -> Path:
    """A folder with a table, two equal finished runs and the user's other files, to be copied."""
    path = tmp_path_factory.mktemp("origin")
    make_table(36).write_csv(path / "table.csv")
    (path / "train.yaml").write_text(json.dumps(values_of(backbone)), encoding="utf-8")
    (path / "here").mkdir()
    with contextlib.chdir(path / "here"):
        cross_validate(load_config(path / "train.yaml"))
    shutil.copytree(path / "runs" / "received", path / "runs" / "twin")
    (path / "outside" / "folder").mkdir(parents=True)
    (path / "outside" / "precious.txt").write_text("precious\n")
    return path


@pytest.fixture
def world(origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A copy of the origin in which no other machine can be reached; `here` is worked in."""
    path = tmp_path / "world"
    shutil.copytree(origin, path)
    monkeypatch.chdir(path / "here")
    monkeypatch.setenv("SECRET", str(path / "outside"))
    world = World(path)

    def refuse(*arguments: Any, **_: Any) -> Any:
        world.requests.append(repr(arguments)[:200])
        raise OSError("no network in this test")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    # As on a machine of a user's, where nothing says that the hub mustn't be asked.
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    handler = signal.getsignal(signal.SIGTERM)
    yield world
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def command(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Ended]:
    """Run a command on the received run; fail on traceback, hang, memory, request, stray write."""

    def run(name: str, *options: str) -> Ended:
        table, received = str(world.path / "table.csv"), str(world.run)
        words = {
            "validate": [received],
            "predict": [received, table, "-o", str(world.path / "here" / "labels.csv")],
            "evaluate": [received, table],
            "report": [received],
            "compare": [received, str(world.twin)],
            "train": [str(world.path / "train.yaml")],
        }[name]
        monkeypatch.setattr(sys, "argv", ["foldwise", name, *words, *options])
        before = world.state()
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        # What would eat the memory ends the case, not the machine.
        limits = resource.getrlimit(resource.RLIMIT_AS)
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + 4 * 2**30, limits[1]))
        signal.signal(signal.SIGALRM, _too_long)
        signal.alarm(6 * LONGEST_S)
        began = time.process_time()  # other work on the machine doesn't count
        try:
            with pytest.raises(SystemExit) as ended:
                cli.main()
        finally:
            signal.alarm(0)
            resource.setrlimit(resource.RLIMIT_AS, limits)
        took = time.process_time() - began
        printed, message = capsys.readouterr()
        assert took < LONGEST_S, f"{took:.1f} s"
        assert world.state() == before
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < MOST_MEMORY
        assert "Traceback" not in message
        assert world.requests == [] or "--online" in options, world.requests
        return Ended(int(ended.value.code or 0), printed, message)

    return run


class Hang(BaseException):
    """Not an Exception: a command that handles a file's errors would take it for one."""


def _too_long(*_: Any) -> None:
    raise Hang(f"no answer within {6 * LONGEST_S} s")
