"""Calls on a Ray: the bytes of one process, whatever is lost on the way."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from foldwise.config.load import dump_config
from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError
from foldwise.places.on_ray import ray_place, share_of, slots
from foldwise.places.place import LOST, Call, Job
from foldwise.places.where import Where
from foldwise.run.files import now
from foldwise.run.folder import RunFolder
from foldwise.run.lock import holder
from foldwise.run.manifests import last_step
from foldwise.workflow import cross_validate

FOLDWISE = [sys.executable, "-m", "foldwise"]
KILLS = 5
GOES_ON = re.compile(r"(\S+) fold (\d) of 5: goes on after step (\d+) ")


def cluster_of(cores: list[int]) -> Any:
    """A Ray of several nodes on this machine, each with a raylet of its own."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    cluster = pytest.importorskip("ray.cluster_utils").Cluster()
    Path("/tmp/ray").mkdir(exist_ok=True)  # where it notes its address
    place = tempfile.mkdtemp(prefix="fw-test-", dir="/tmp")
    for number in cores:
        settings = {"num_cpus": number, "object_store_memory": 100 * 2**20}
        head = {"temp_dir": place, "include_dashboard": False} if not cluster.head_node else {}
        cluster.add_node(**settings, **head)
    cluster.place = place
    return cluster


def end(cluster: Any) -> None:
    cluster.shutdown()
    shutil.rmtree(cluster.place, ignore_errors=True)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    made = cluster_of([2])
    yield made
    end(made)


@pytest.fixture
def where(cluster: Any) -> str:
    return f"ray://{cluster.address}"


def followed(job: Job) -> int:
    while (code := job.ended()) is None:
        time.sleep(0.01)
    return code


def test_cores_are_shared_evenly_by_what_the_machines_have() -> None:
    assert share_of([(8, 0)], 4, 0) == 2
    assert share_of([(8, 0), (4, 0)], 3, 0) == 4
    assert share_of([(1, 0), (1, 0), (1, 0)], 5, 0) == 1
    assert share_of([(16, 2), (64, 0)], 2, 1) == 8
    assert slots([(8, 0), (3, 0)], 2, 0) == 5
    assert slots([(64, 0), (16, 2)], 4, 1) == 2
    assert slots([(0, 0)], 1, 0) == 0


@pytest.mark.parametrize("wrong", ["rays", "ray://", "ray://host", "ray://a:1/b", "http://a:1"])
def test_a_place_that_is_none_is_told(wrong: str) -> None:
    with pytest.raises(FoldwiseError, match="must be ray "):
        Where(wrong)


def test_the_option_goes_before_what_configs_say(make_config: Callable[..., Config]) -> None:
    on, off = make_config(run={"on": "ray"}), make_config()
    assert Where(jobs=3).of([on, on]) == Where("ray", 3)
    assert Where("ray://auto").of([on, off]) == Where("ray://auto")
    assert not Where().of([off]).elsewhere
    with pytest.raises(FoldwiseError, match=r"several places \(None, ray\): give --on$"):
        Where().of([on, off])


def test_a_run_in_a_store_has_one_machine_at_work_on_it(make_config: Callable[..., Config]) -> None:
    config = make_config(run={"name": "x", "dir": "s3://bucket/runs"})
    told = r"run.dir s3://bucket/runs: the machines of a Ray work in one folder"
    with pytest.raises(FoldwiseError, match=told), Where("ray://auto").opened([config], 2, []):
        pass


def test_without_the_package_its_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(FoldwiseError, match=r"the package ray: pip install 'foldwise\[ray\]'$"),
        ray_place("ray", 1, False, [tmp_path / "runs"]),
    ):
        pass
    assert not (tmp_path / "runs").exists()


def test_where_no_ray_is_that_is_told_at_once(tmp_path: Path) -> None:
    begun = time.monotonic()
    with (
        pytest.raises(FoldwiseError, match=r"^--on ray://127.0.0.1:9: .*`ray start --head` prints"),
        ray_place("ray://127.0.0.1:9", 1, False, [tmp_path / "runs"]),
    ):
        pass
    assert time.monotonic() - begun < 30
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_what_listens_and_is_no_ray_is_asked_for_seconds_and_not_for_minutes() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        call = f"ray_place('ray://127.0.0.1:{other.getsockname()[1]}', 1, False, []).__enter__()"
        code = f"from foldwise.places.on_ray import ray_place; {call}"
        done = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, timeout=60)
    assert b"`ray start --head` prints" in done.stderr


@pytest.mark.slow
def test_a_ray_of_ones_own_answers_nobody_else() -> None:
    asks = "print(ray.get(ray.remote(lambda: 'done').remote()), flush=True)"
    join = f"import ray, sys; ray.init(address=sys.argv[1]); {asks}"
    code = f"""
import os, subprocess, sys
from foldwise.places.on_ray import connected
with connected("ray") as ray:
    {asks}
    (folder,) = os.scandir(os.environ["TMPDIR"])
    print(folder.stat().st_mode & 0o77, flush=True)
    address = ray.get_runtime_context().gcs_address
    others = {{name: value for name, value in os.environ.items() if "RAY_AUTH" not in name}}
    subprocess.run([sys.executable, "-c", {join!r}, address], env=others)
"""
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "TMPDIR": place},
            capture_output=True,
            text=True,
            timeout=180,
        )
    assert done.stdout == "done\n0\n", done.stderr
    assert "Failed to connect to Ray cluster" in done.stderr


def test_calls_are_told_stopped_lost_and_refused(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    file = tmp_path / "a.yaml"
    file.write_text("run: {}")
    told: list[str] = []
    with ray_place(where, 2, False, [tmp_path / "runs"], [file]) as place:
        assert (place.room, place.threads) == (2, 1)
        job = place.start(Call(["--version"], told.append, whole=True))
        assert followed(job) == 0
        assert told.pop().startswith("foldwise ")
        assert followed(place.start(Call(["train", str(file)], told.append))) == 2
        assert told.pop(0).startswith(f"error: {file}:1: ")
        told.clear()
        job = place.start(Call(["serve", "--help"], told.append, whole=True))
        import ray

        ray.kill(job.actor)
        assert followed(job) == LOST
        assert told[-1].startswith("lost: ")
        file.write_text("run: {name: other}")
        told.clear()
        assert followed(place.start(Call(["--version"], told.append))) == 2
        assert "has another file under" in told[0]
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == handlers
    assert not (tmp_path / "runs").exists()
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    with (
        pytest.raises(FoldwiseError, match=r"takes 64 cores .* has 2: add a machine, or lower"),
        ray_place(where, 2, False, []),
    ):
        pass


def make() -> tuple[dict[str, Any], Callable[[int], tuple[int, int]]]:
    """Square numbers; the process ends at 7, once."""

    def square(number: int) -> tuple[int, int]:
        mark = Path(os.environ["MARK"])
        if number == 7 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return number * number, int(os.environ["OMP_NUM_THREADS"])

    return {"makes": "squares"}, square


def test_a_stream_keeps_its_order_and_is_taken_no_faster_than_it_is_answered(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray import cloudpickle

    from foldwise.places.ray_pool import Pool

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    monkeypatch.setenv("MARK", str(tmp_path / "mark"))
    lost: list[str] = []
    taken: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(20):
            taken.append(number)
            yield number

    with ray_place(where, 2, False, []) as place:
        pool = Pool(place, make, lost.append)
        assert pool.identity == {"makes": "squares"}
        for number, answer in enumerate(pool(numbers())):
            assert answer == (number * number, 1)
            assert len(taken) <= number + 2 * 2
    assert len(lost) == 1
    assert lost[0].endswith("its rows are labelled again")


def written(config: Config, folder: Path) -> Path:
    path = folder / f"{config.run.name}.yaml"
    path.write_text(dump_config(config), encoding="utf-8")
    return path


@pytest.mark.slow
def test_folds_on_a_ray_make_the_bytes_of_one_process_and_go_on_without_it(
    make_config: Callable[..., Config], where: str, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"folds": {"n": 2}, "training": {"epochs": 1}}
    alone = cross_validate(make_config(run={"name": "alone"}, **settings))
    path = written(make_config(run={"name": "both", "on": where}, **settings), tmp_path)
    done = subprocess.run([*FOLDWISE, "train", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    both = RunFolder(alone.path.parent / "both")
    assert both.out_of_fold.read_bytes() == alone.out_of_fold.read_bytes()
    assert both.config.read_text().replace("both", "alone") == alone.config.read_text()
    assert "fold 2 of 2: starts" in done.stderr
    assert "f1_macro" in done.stdout
    shutil.rmtree(both.fold(2).path)  # the same config, without a Ray, does it anew
    cross_validate(make_config(run={"name": "both"}, **settings))
    assert both.out_of_fold.read_bytes() == alone.out_of_fold.read_bytes()


@pytest.mark.slow
def test_nodes_killed_at_random_moments_cost_a_run_at_most_a_checkpoint(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    training = {"epochs": 30, "patience": None, "save_minutes": 0.005}
    settings: dict[str, Any] = {"folds": {"n": 5}, "training": training}
    alone = cross_validate(make_config(run={"name": "alone"}, **settings))
    path = written(make_config(run={"name": "three"}, **settings), tmp_path)
    run = RunFolder(alone.path.parent / "three")
    cluster, draw = cluster_of([0, 1, 1, 1]), random.Random(14)
    nodes = list(cluster.worker_nodes)
    try:
        process = subprocess.Popen(
            [*FOLDWISE, "train", str(path), "--on", f"ray://{cluster.address}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        told: list[str] = []
        assert process.stdout is not None
        reader = threading.Thread(target=told.extend, args=(process.stdout,))
        reader.start()
        saved: list[tuple[str, dict[int, int]]] = []
        for _ in range(KILLS):
            lost = None
            while process.poll() is None and lost is None:
                before = after = _saved(run)
                while process.poll() is None and after == before:
                    time.sleep(0.02)
                    after = _saved(run)
                time.sleep(draw.random())
                further = next((n for n in after if after[n] != before[n]), 1)
                lost = _node_of(run.fold(further).path, nodes)
            assert process.poll() is None, "".join(told)
            saved.append((now(), _saved(run)))
            nodes.remove(lost)
            cluster.remove_node(lost, allow_graceful=False)
            nodes.append(cluster.add_node(num_cpus=1, object_store_memory=100 * 2**20))
        assert process.wait(1200) == 0, "".join(told)
    finally:
        end(cluster)
    reader.join()
    assert run.out_of_fold.read_bytes() == alone.out_of_fold.read_bytes()
    assert sum("lost: " in line for line in told) >= 1
    # Each went on from the newest step that was saved: what was lost is less than an interval.
    resumed = [match.groups() for match in map(GOES_ON.match, told) if match]
    assert resumed
    for when, fold, step in resumed:
        # Times are to the second: what was saved in the same one may have come after.
        assert int(step) >= max(steps[int(fold)] for at, steps in saved if at < when)


def _node_of(fold: Path, nodes: list[Any]) -> Any:
    """The node whose raylet started the worker that started who holds a fold; None if nobody."""
    held = re.match(r"process (\d+) ", holder(fold / ".lock") or "")
    raylet = _parent(_parent(int(held[1]))) if held else None
    pids = [node.all_processes["raylet"][0].process.pid for node in nodes]
    return nodes[pids.index(raylet)] if raylet in pids else None


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _saved(run: RunFolder) -> dict[int, int]:
    return {n: last_step(run.fold(n)) or 0 for n in range(1, 6)}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_a_command_that_is_stopped_or_killed(
    make_config: Callable[..., Config], where: str, tmp_path: Path, number: signal.Signals
) -> None:
    config = make_config(folds={"n": 2}, training={"epochs": 2000, "patience": None})
    run = RunFolder(Path(config.run.dir) / config.run.name)
    command = [*FOLDWISE, "train", str(written(config, tmp_path)), "--on", where]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not all(run.fold(n).history.exists() for n in (1, 2)):
        time.sleep(0.05)
    assert len(_at_work(tmp_path)) == 3
    process.send_signal(number)
    _, told = process.communicate(timeout=120)
    assert process.returncode == (-9 if number == signal.SIGKILL else 128 + number), told
    until = time.monotonic() + 60
    while _at_work(tmp_path) and time.monotonic() < until:
        time.sleep(0.1)
    assert _at_work(tmp_path) == []
    assert [path.name for path in run.path.parent.glob(".shared-*")] == [] or number == 9


@pytest.mark.slow
@pytest.mark.parametrize("own", [False, True])
def test_a_second_ctrl_c_ends_a_command_at_once_and_the_run_goes_on(
    make_config: Callable[..., Config], where: str, tmp_path: Path, own: bool
) -> None:
    training = {"epochs": 100, "patience": None, "save_minutes": 0.005}
    settings: dict[str, Any] = {"folds": {"n": 2}, "training": training}
    config = make_config(run={"name": "twice"}, **settings)
    run = RunFolder(Path(config.run.dir) / "twice")
    command = [*FOLDWISE, "train", str(written(config, tmp_path)), "--on", "ray" if own else where]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while process.poll() is None and not (_saved(run)[1] and _saved(run)[2]):
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGINT)
    second = time.monotonic()
    _, told = process.communicate(timeout=120)
    assert process.returncode in (-signal.SIGINT, 128 + signal.SIGINT), told
    assert time.monotonic() - second < 3
    assert "Traceback" not in told
    until = time.monotonic() + 60
    while _at_work(tmp_path) and time.monotonic() < until:
        time.sleep(0.1)
    assert _at_work(tmp_path) == []
    assert not run.finished
    cross_validate(config)
    assert [event["event"] for event in run.events()].count("started") == 1
    alone = cross_validate(make_config(run={"name": "alone"}, **settings))
    assert run.out_of_fold.read_bytes() == alone.out_of_fold.read_bytes()


@pytest.mark.slow
def test_a_search_on_a_ray_tries_what_processes_here_try_though_a_node_is_killed(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    pytest.importorskip("optuna")
    rates = {"low": 1e-4, "high": 1e-2, "log": True}
    sweep = {"trials": 4, "seed": 3, "random": {"optimizer.lr": rates}}
    settings: dict[str, Any] = {"folds": {"n": 2}, "training": {"epochs": 2}, "sweep": sweep}
    tried = []
    cluster = cluster_of([0, 1, 1])
    try:
        for name, place in (("here", ["--jobs", "2"]), ("there", [])):
            folder = tmp_path / name
            folder.mkdir()
            config = make_config(run={"name": "s", "dir": str(folder / "runs")}, **settings)
            on = place or ["--on", f"ray://{cluster.address}"]
            command = [*FOLDWISE, "tune", str(written(config, folder)), "--json", *on]
            pipe = subprocess.PIPE
            process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)
            if not place:
                while process.poll() is None and not [*folder.glob("runs/*/fold-1/last.json")]:
                    time.sleep(0.05)
                lost = next(iter(cluster.worker_nodes))
                cluster.remove_node(lost, allow_graceful=False)
                cluster.add_node(num_cpus=1, object_store_memory=100 * 2**20)
            result, told = process.communicate(timeout=600)
            assert process.returncode == 0, told
            tried.append(json.loads(result))
    finally:
        end(cluster)
    here, there = tried
    assert [t["state"] for t in here["trials"]].count("complete") >= 2
    for one, other in zip(here["trials"], there["trials"], strict=True):
        assert (one["state"], one["value"]) == (other["state"], other["value"])
        assert Path(one["run"]).name == Path(other["run"]).name
    assert here["best"]["values"] == there["best"]["values"]


def _at_work(folder: Path) -> list[int]:
    """The processes whose command line names a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder).encode() in entry.read_bytes():
                found.append(int(entry.parent.name))
        except OSError:
            continue
    return found
