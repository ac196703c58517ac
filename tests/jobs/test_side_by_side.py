"""Folds side by side: the bytes of one process, a killed one goes on, bad input is told once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from foldwise.config.load import dump_config
from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError, RunInterrupted
from foldwise.jobs.side_by_side import dealt, train_side_by_side
from foldwise.places import processes, work
from foldwise.places.place import LOST, Call
from foldwise.places.processes import Here, shares_of
from foldwise.run.files import to_json
from foldwise.run.folder import RunFolder
from foldwise.run.lock import lock
from foldwise.run.manifests import OPTIMIZER, WEIGHTS
from foldwise.workflow import cross_validate

# In place of a training: notes its start, makes the manifest, then does what its folds are told.
STAND_IN = """
import os, signal, sys, time
from pathlib import Path
folder, folds = Path(sys.argv[1]), sys.argv[-1]
with (folder / "starts").open("a") as file:
    given = os.environ["OMP_NUM_THREADS"], os.environ.get("CUDA_VISIBLE_DEVICES")
    print(folds, *given, file=file)
does = (folder / folds).read_text() if (folder / folds).exists() else ""
if does == "refuse":
    sys.exit(print("error: the table is odd", file=sys.stderr) or 2)
(folder / "manifest.json").touch()
print(f"fold {folds} starts", file=sys.stderr, flush=True)
if does == "die":
    (folder / folds).write_text("")
    os.kill(os.getpid(), signal.SIGKILL)
if does == "die always":
    os.kill(os.getpid(), signal.SIGKILL)
if does == "stop":
    sys.exit(print("stopped: the loss isn't finite", file=sys.stderr) or 1)
if does == "wait":
    time.sleep(60)
while does == "meet" and len((folder / "starts").read_text().splitlines()) < 2:
    time.sleep(0.01)
"""


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Train three folds by two stand-ins; return what was told."""
    monkeypatch.setattr(work, "_LOOK_S", 0.01)
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    told: list[str] = []

    def stand_in(arguments: Sequence[str]) -> list[str]:
        return [sys.executable, "-c", STAND_IN, str(tmp_path), *arguments]

    def run(gpus: Sequence[str] = (), **does: str) -> list[str]:
        for name, what in does.items():
            (tmp_path / name.removeprefix("folds_").replace("_", ",")).write_text(what)
        monkeypatch.setattr(processes, "command_of", stand_in)
        shares = dealt([1, 2, 3], 2)
        train_side_by_side(Here(2, gpus), ["train"], RunFolder(tmp_path), shares, told.append)
        return told

    return run


def starts(folder: Path) -> list[str]:
    return sorted((folder / "starts").read_text().splitlines())


def test_folds_threads_and_gpus_are_dealt(train: Callable[..., list[str]], tmp_path: Path) -> None:
    # The second gets a GPU of its own only while the first is at work.
    told = train(gpus=["4", "7"], folds_1_3="meet")
    assert sorted(told) == ["fold 1,3 starts", "fold 2 starts"]
    assert starts(tmp_path) == ["1,3 2 4", "2 2 7"]


def test_bad_input_is_told_once_and_starts_nothing_more(
    train: Callable[..., list[str]], tmp_path: Path
) -> None:
    with pytest.raises(FoldwiseError, match=r"^the table is odd$"):
        train(folds_1_3="refuse")
    assert len(starts(tmp_path)) == 1


def test_a_killed_process_is_started_again(train: Callable[..., list[str]], tmp_path: Path) -> None:
    told = train(folds_2="die")
    assert [line.split()[0] for line in starts(tmp_path)] == ["1,3", "2", "2"]
    assert "a process was ended by signal 9; it goes on from its last checkpoint" in told


def test_one_that_is_killed_every_time_ends_in_a_stop_and_not_in_a_circle(
    train: Callable[..., list[str]], tmp_path: Path
) -> None:
    with pytest.raises(RunInterrupted, match="a process was ended by signal 9: it said nothing"):
        train(folds_1_3="die always")
    assert [line.split()[0] for line in starts(tmp_path)] == ["1,3"] * 3 + ["2"]


def test_a_fold_that_stops_lets_the_others_end(train: Callable[..., list[str]]) -> None:
    with pytest.raises(RunInterrupted, match=r"^the loss isn't finite$"):
        train(folds_1_3="stop")


def test_nothing_is_left_running_when_it_is_interrupted(
    train: Callable[..., list[str]], tmp_path: Path
) -> None:
    def interrupt() -> None:
        while not (tmp_path / "starts").exists() or len(starts(tmp_path)) < 2:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        train(folds_1_3="wait", folds_2="wait")
    assert time.monotonic() - begun < 30


@pytest.mark.parametrize(
    ("cores", "asked", "threads"), [(8, None, 4), (8, "2", 1), (1, None, 1), (8, "x", 4)]
)
def test_threads_are_shared(cores: int, asked: str | None, threads: int) -> None:
    assert shares_of(cores, 2, asked) == threads


@pytest.mark.slow
def test_two_processes_make_the_bytes_of_one(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    alone = cross_validate(make_config(run={"name": "alone"}))
    config = make_config(run={"name": "both"})
    (tmp_path / "both.yaml").write_text(dump_config(config), encoding="utf-8")
    command = [sys.executable, "-c", "from foldwise.cli import main; main()"]
    arguments = ["train", str(tmp_path / "both.yaml"), "--jobs", "2"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    both = RunFolder(alone.path.parent / "both")
    assert both.out_of_fold.read_bytes() == alone.out_of_fold.read_bytes()
    assert "fold 3 of 3: starts" in done.stderr
    assert "f1_macro" in done.stdout


def test_a_process_ends_with_what_started_it_a_kill_included(tmp_path: Path) -> None:
    starter = """
import os, sys, time
from foldwise.places import processes
from foldwise.places.place import Call
processes.command_of = lambda arguments: [sys.executable, "-c", *arguments]
code = "from foldwise.places.leash import hold; hold(); import time; time.sleep(60)"
job = processes.Here(1).start(Call([code], print))
print(job.process.pid, flush=True)
time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", starter], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    process.kill()
    process.wait()
    for _ in range(500):
        status = Path(f"/proc/{child}/stat")
        if not status.exists() or status.read_text().split()[2] == "Z":
            return
        time.sleep(0.02)
    pytest.fail("it goes on")


def test_one_that_gets_further_is_started_again_as_often_as_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "_LOOK_S", 0.001)
    run, codes = RunFolder(tmp_path), [-9] * 6 + [0]
    files = {name: {"bytes": 1, "sha256": "0"} for name in (WEIGHTS, OPTIMIZER, "state.json")}

    class Mortal:
        """Saves a step and is killed, six times."""

        room = 1
        step = 0

        def start(self, call: Call) -> Mortal:
            self.step += 1
            step = run.fold(1).checkpoints / f"step-{self.step:06d}"
            step.mkdir(parents=True)
            manifest = {"schema": 1, "step": self.step, "best": False, "files": files}
            (step / "manifest.json").write_text(to_json(manifest))
            return self

        def ended(self) -> int:
            return codes.pop(0)

        def stop(self) -> None: ...

        def wait(self) -> None: ...

    told: list[str] = []
    train_side_by_side(Mortal(), ["train"], run, [[1]], told.append)
    assert codes == []
    assert len(told) == 6


def test_a_machine_that_is_lost_is_not_the_call_s_fault(tmp_path: Path) -> None:
    tasks = [work.Task(Call(["train"], print), RunFolder(tmp_path), [1]) for _ in range(2)]
    for task in tasks:
        task.stood = [(0, False)]
    assert [tasks[0].again(-9) for _ in range(3)] == [True, True, False]
    assert [tasks[1].again(LOST) for _ in range(11)] == [True] * 10 + [False]


def test_folds_that_a_lost_machine_still_holds_are_waited_for(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    task = work.Task(Call(["train"], print), run, [1])
    with lock(run.fold(1).path / ".lock", "fold 1"):
        assert task.free()  # of a task that was never started, who holds it is told
        assert task.again(-9)
        assert not task.free()
    assert task.free()
