"""One fold over several processes on a CPU: the numbers of one process, and one word at the end."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from foldwise.commands.train import train
from foldwise.config.load import dump_config
from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError
from foldwise.places.where import Where
from foldwise.run.folder import RunFolder
from foldwise.run.history import read_history
from foldwise.workflow import cross_validate

MAIN = [sys.executable, "-c", "from foldwise.cli import main; main()"]


def launch(size: int, *arguments: str) -> list[subprocess.Popen[str]]:
    """Start so many processes, as torchrun does; of one, without its variables."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place: dict[str, Any] = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": size}
    place |= {"LOCAL_WORLD_SIZE": size}
    return [
        subprocess.Popen(
            [*MAIN, *arguments],
            env={
                **os.environ,
                **({k: str(v) for k, v in (place | {"RANK": r, "LOCAL_RANK": r}).items()}),
            }
            if size > 1
            else dict(os.environ),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for r in range(size)
    ]


def ends(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    told = [process.communicate(timeout=600) for process in processes]
    return [(p.returncode, *said) for p, said in zip(processes, told, strict=True)]


def written(config: Config, folder: Path) -> str:
    path = folder / f"{config.run.name}.yaml"
    path.write_text(dump_config(config), encoding="utf-8")
    return str(path)


def furthest(left: RunFolder, right: RunFolder, folds: Sequence[int] = (1, 2)) -> float:
    """Return the largest difference of any loss or gradient norm in the folds' histories."""
    far = 0.0
    for number in folds:
        lines = [read_history(run.fold(number).history) for run in (left, right)]
        assert [line["step"] for line in lines[0]] == [line["step"] for line in lines[1]]
        for one, other in zip(*lines, strict=True):
            assert one.keys() == other.keys()
            far = max(
                far,
                abs(one["loss"] - other["loss"]),
                abs(one.get("grad_norm", 0) - other.get("grad_norm", 0)),
            )
    return far


def uneven(make_config: Callable[..., Config], name: str, **training: Any) -> Config:
    # 45 rows a fold, some of them inner: windows of 3 micro-batches, a last one that doesn't fill.
    few = {"epochs": 2, "log_every": 1, "accumulate": 3, "shares": 2, "precision": "float32"}
    return make_config(run={"name": name}, folds={"n": 2}, training={**few, **training})


def test_two_processes_have_the_losses_of_one_at_every_step(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    both = uneven(make_config, "both")
    processes = launch(2, "train", written(both, tmp_path), "--folds", "1")
    one = cross_validate(uneven(make_config, "one"), only=[1])
    (code, _, err), (other_code, *silent) = ends(processes)
    assert (code, other_code) == (0, 0), err
    assert silent == ["", ""]  # who doesn't lead shows nothing
    assert "2 processes train each fold together: a step has 6 pieces" in err
    run = RunFolder(one.path.parent / "both")
    assert furthest(one, run, folds=[1]) < 1e-5
    written_by = {event["pid"] for event in run.events() if "pid" in event}
    assert written_by == {processes[0].pid}
    rows = [pl.read_parquet(r.fold(1).predictions) for r in (one, run)]
    assert rows[0]["row"].equals(rows[1]["row"])
    for name in (name for name in rows[0].columns if name.startswith("logit_")):
        assert (rows[0][name] - rows[1][name]).abs().max() < 1e-4


def test_folds_side_by_side_and_one_fold_together_are_not_mixed(
    make_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    path = Path(written(uneven(make_config, "mixed"), tmp_path))
    with pytest.raises(FoldwiseError, match="give one or the other"):
        train(path, [], None, Where(jobs=2))


@pytest.mark.slow
def test_bad_input_is_told_once_and_ends_all(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    path = written(uneven(make_config, "bad"), tmp_path)
    found = ends(launch(3, "train", path, "--set", "data.target=nothing"))
    assert [code for code, _, _ in found] == [2, 2, 2]
    assert sum(err.count("error: ") for _, _, err in found) == 1
    assert not RunFolder(tmp_path / "runs" / "bad").config.exists()


@pytest.mark.slow
@pytest.mark.parametrize("size", [3, 4])
@pytest.mark.parametrize(
    "more",
    [
        {"model": {"lora": {"r": 4}}},
        {"model": {"freeze": 1}},
        {"loss": {"name": "r_drop"}},
        {"training": {"tokens_per_batch": 90, "batch_size": None}},
        {"training": {"accumulate": 1, "average": {"ema": 0.9}}, "schedule": {"name": "plateau"}},
    ],
)
def test_several_processes_have_the_losses_of_one_whatever_is_trained(
    make_config: Callable[..., Config], tmp_path: Path, size: int, more: dict[str, Any]
) -> None:
    def config(name: str) -> Config:
        base = {"epochs": 3, "log_every": 1, "shares": 3, "precision": "float32"}
        sections = {**more, "training": base | more.get("training", {})}
        model = {"backbone": make_config().model.backbone, **more.get("model", {})}
        return make_config(run={"name": name}, folds={"n": 2}, **{**sections, "model": model})

    found = ends(launch(size, "train", written(config("several"), tmp_path)))
    assert [code for code, _, _ in found] == [0] * size, found
    one = cross_validate(config("one"))
    assert furthest(one, RunFolder(one.path.parent / "several")) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_random_moments_and_continued_by_two_or_one_it_is_the_same(
    make_config: Callable[..., Config], tmp_path: Path, seed: int
) -> None:
    draw = random.Random(seed)
    many = {"epochs": 30, "save_minutes": 0.0}
    one = cross_validate(uneven(make_config, "one", **many))
    path = written(uneven(make_config, "killed", **many), tmp_path)
    run = RunFolder(one.path.parent / "killed")
    total = done(one)
    for size, goal in zip([2, 2, 1, 2, 1], sorted(draw.sample(range(1, total), 5)), strict=True):
        processes = launch(size, "train", path)
        while all(p.poll() is None for p in processes) and done(run) < goal:
            time.sleep(0.01)
        time.sleep(draw.random() / 10)  # anywhere within a step
        victim = draw.choice(processes)
        victim.send_signal(signal.SIGKILL)
        found = ends(processes)
        for process, (code, _, err) in zip(processes, found, strict=True):
            if process is not victim and code:  # 0: it was through before it missed the other
                assert code == 1
                assert err.count("stopped: one of the 2 processes is gone without a word") == 1
    assert [code for code, _, _ in ends(launch(2, "train", path))] == [0, 0]
    assert furthest(one, run) < 1e-5


def done(run: RunFolder) -> int:
    """Return the steps that stand in the histories of both folds."""
    paths = [run.fold(number).history for number in (1, 2)]
    return sum(path.read_text().count('"split": "step"') for path in paths if path.exists())
