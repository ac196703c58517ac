"""A run in a store: killed on one machine, ended on another, with the files of one on this disk."""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from conftest import make_table
from foldwise.cli import app
from foldwise.condense.refit import refit
from foldwise.config.load import dump_config
from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError
from foldwise.run.audit import findings
from foldwise.run.folder import RunFolder
from foldwise.storage import lease, stores
from foldwise.storage.copies import files_there
from foldwise.storage.mirror import local_run, mirrored, refresh
from foldwise.storage.outputs import sent_table
from foldwise.storage.places import folder_of, run_of
from foldwise.workflow import cross_validate, validate
from storage.conftest import Bucket, environment
from storage.s3_server import S3Server


class Killed(BaseException):
    """The machine is gone."""


@dataclass
class World:
    """A run here, and the same one in a store: killed on machine `one`, ended on `two`."""

    here: RunFolder
    bucket: Bucket
    config: Config
    one: Path
    two: Path
    copy: RunFolder
    server: S3Server

    @property
    def url(self) -> str:
        return self.bucket.url("runs/test")


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory, server: S3Server, client: Any, backbone: Path
) -> Iterator[World]:
    """What all tests look at."""
    folder = tmp_path_factory.mktemp("stored")
    make_table(60).write_csv(folder / "table.csv")
    client.create_bucket(Bucket="stored")
    bucket = Bucket(client, "stored")
    table = bucket.put("in/table.csv", (folder / "table.csv").read_bytes())
    one, two = folder / "one", folder / "two"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("foldwise.charts.learning_curves.learning_curves", lambda *_: None)
        for name, value in environment(server, one).items():
            patch.setenv(name, value)
        here = cross_validate(config_of(backbone, folder / "table.csv", str(folder / "runs")))
        config = config_of(backbone, table, bucket.url("runs"))
        with patch.context() as dying:
            dying.setattr(lease, "HOLDS_S", -1)  # nobody waits for a machine that is gone
            dying.setattr(stores, "put", dies_after(45))
            with pytest.raises(Killed):
                cross_validate(config)
        patch.setenv("FOLDWISE_CACHE", str(two))
        copy = cross_validate(config)
        yield World(here, bucket, config, one, two, copy, server)


def config_of(backbone: Path, table: object, runs: str) -> Config:
    return Config.model_validate(
        {
            "run": {"name": "test", "dir": runs, "seed": 7},
            "data": {"path": str(table), "target": "label", "text": ["text"]}
            | {"categorical": ["kind"]},
            "folds": {"n": 2, "duplicates": "identical"},
            "selection": {"rows": "inner"},
            "text": {"max_length": 24},
            "model": {"backbone": str(backbone)},
            "optimizer": {"lr": 3e-3, "head_lr": 1e-2},
            "training": {"epochs": 2, "batch_size": 8, "device": "cpu", "precision": "float32"},
            "ensemble": [{"name": "model"}, {"name": "lookup"}],
        }
        | {"baselines": False, "calibration": "none", "thresholds": "half"}
    )


def dies_after(count: int) -> Any:
    put, done = stores.put, []

    def dying(file: Path, url: str) -> None:
        done.append(url)
        if len(done) > count:
            raise Killed
        put(file, url)

    return dying


def files_of(path: Path) -> dict[str, bytes]:
    found = {p.relative_to(path).as_posix(): p for p in path.rglob("*") if p.is_file()}
    return {
        name: file.read_bytes()
        for name, file in found.items()
        if not any(part.startswith(".") for part in name.split("/"))
    }


def numbers_of(path: Path) -> dict[str, bytes]:
    """Return the files that hold no times and no paths."""
    kinds = (".parquet", ".safetensors", "classes.json", "metrics.jsonl")
    return {name: content for name, content in files_of(path).items() if name.endswith(kinds)}


def call(*arguments: object) -> Any:
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_killed_and_ended_elsewhere_it_has_the_bytes_of_a_run_here(world: World) -> None:
    assert numbers_of(world.copy.path) == numbers_of(world.here.path)
    assert len(numbers_of(world.here.path)) > 10
    told = [event["event"] for event in world.copy.events()]
    assert told.count("started") == 1
    assert "continued" in told
    gone = RunFolder(world.one / "runs" / "s3" / "stored" / "runs" / "test")
    assert gone.fold(1).checkpoints.is_dir()
    assert not gone.finished


def test_the_store_has_the_files_of_the_working_copy(world: World) -> None:
    keys = world.bucket.keys("runs/test/")
    sent = {key.removeprefix("runs/test/"): world.bucket.get(key) for key in keys}
    assert json.loads(sent.pop(".lease.json"))["until"] == 0
    assert sent == files_of(world.copy.path)


def test_a_finished_run_is_left_alone(world: World) -> None:
    before = files_of(world.copy.path)
    world.server.faults.asked.clear()
    assert cross_validate(world.config).path == world.copy.path
    assert files_of(world.copy.path) == before
    written = [asked for asked in world.server.faults.asked if asked.startswith("PUT")]
    assert all(asked.endswith(".lease.json") for asked in written)


def test_the_first_machine_takes_what_another_has_done(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    shutil.copytree(world.one, tmp_path / "one")
    monkeypatch.setenv("FOLDWISE_CACHE", str(tmp_path / "one"))
    again = cross_validate(world.config)
    assert files_of(again.path) == files_of(world.copy.path)
    assert again.path.with_name("test.aside-1").is_dir()  # what it had not sent
    assert "another machine has gone on with the run" in capfd.readouterr().err


def test_predict_reads_run_and_rows_from_the_store_and_writes_there(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOLDWISE_CACHE", str(tmp_path))
    out = world.bucket.url("out/labels.csv")
    result = call("predict", world.url, world.bucket.url("in/table.csv"), "-o", out)
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith(f": {out}\n")
    here = tmp_path / "labels.csv"
    table = world.here.path.parents[1] / "table.csv"
    assert call("predict", world.here.path, table, "-o", here).exit_code == 0
    assert world.bucket.get("out/labels.csv") == here.read_bytes()
    assert [p for p in (tmp_path / "outputs").rglob("*") if p.is_file()] == []
    second = call("predict", world.url, world.bucket.url("in/table.csv"), "-o", out)
    assert isinstance(second.exception, FoldwiseError)
    assert "is there already" in str(second.exception)


def test_an_output_that_cannot_be_sent_is_sent_by_the_same_command(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("predict", world.url, world.bucket.url("in/table.csv"), "--json", "-o")
    out = world.bucket.url("out/later.parquet")
    with monkeypatch.context() as down:
        down.setattr(stores, "put", dies_after(0))
        with pytest.raises(Killed):
            call(*arguments, out)
    assert "out/later.parquet" not in world.bucket.keys("out/")
    result = call(*arguments, out)
    assert json.loads(result.stdout)["resumed"] == 60
    assert "out/later.parquet" in world.bucket.keys("out/")


def test_commands_call_a_run_by_its_url(world: World) -> None:
    sound = call("verify", world.url)
    assert sound.stdout == f"{world.url}: every file is as it was sealed (finished)\n"
    assert json.loads(call("verify", world.url, "--json").stdout)["run"] == world.url


def test_status_fetches_small_files_alone_and_says_the_same(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOLDWISE_CACHE", str(tmp_path / "empty"))
    world.server.faults.asked.clear()
    there = json.loads(call("status", world.url, "--json").stdout)["runs"][0]
    read = {asked.rpartition("/")[2] for asked in world.server.faults.asked if "GET" in asked}
    assert "training.json" in read
    assert not {name for name in read if name.endswith((".safetensors", ".parquet", ".html"))}
    assert not (tmp_path / "empty" / "runs").exists()
    here = json.loads(call("status", world.copy.path, "--json").stdout)["runs"][0]
    age = abs(datetime.fromisoformat(there["updated"]).timestamp() - time.time())
    assert age < 600
    assert there == {**here, "path": world.url, "updated": there["updated"]}
    assert there["state"] == "done"
    assert call("status", world.url + "/").stdout.endswith(f"{world.url}: done\n")


def test_status_tells_who_works_on_a_run_elsewhere(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mirrored(world.copy):
        monkeypatch.setenv("FOLDWISE_CACHE", str(tmp_path))
        stood = json.loads(call("status", world.url, "--json").stdout)["runs"][0]
        monkeypatch.setenv("FOLDWISE_CACHE", str(world.two))
    assert stood["state"] == "running"
    assert stood["holders"] == [f"process {os.getpid()} on {socket.gethostname()}"]


def test_a_name_that_is_no_runs_has_nothing_below_it_fetched(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOLDWISE_CACHE", str(tmp_path))
    above = world.bucket.url("runs")
    for command in ("status", "verify"):
        world.server.faults.asked.clear()
        assert f"{above}: no run lies there" in str(call(command, above).exception)
        assert len(world.server.faults.asked) < 5


def test_what_is_pruned_while_a_run_is_fetched_is_left_out(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOLDWISE_CACHE", str(tmp_path))
    pruned, fetch = "runs/test/tensorboard/fold-1/old", stores.fetch
    world.bucket.put(pruned, b"x")

    def fetching(found: Any, to: Path) -> Any:
        world.bucket.remove(pruned)
        return fetch(found, to)

    monkeypatch.setattr(stores, "fetch", fetching)
    assert files_of(local_run(world.url)) == files_of(world.copy.path)


def test_a_path_that_has_to_be_on_a_disk_is_told(world: World) -> None:
    out = world.bucket.url("out/onnx")
    told = f"{out}: this has to lie on a disk: give a local path, and copy to or from the store"
    assert str(call("export", world.copy.path, "-o", out).exception) == told
    assert str(call("train", out).exception) == told


def test_refit_and_validate_go_on_elsewhere_with_the_bytes_of_here(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, content in files_of(world.copy.path).items():
        world.bucket.put(f"again/test/{name}", content)
    url = world.bucket.url("again/test")
    here = RunFolder(shutil.copytree(world.here.path, tmp_path / "runs" / "test"))
    refit(here.path, every=False)
    for command, killed_after in ((refit, 8), (validate, 0)):
        asked = {"every": False} if command is refit else {}
        with monkeypatch.context() as dying:
            dying.setenv("FOLDWISE_CACHE", str(tmp_path / f"lost-{killed_after}"))
            dying.setattr(lease, "HOLDS_S", -1)
            dying.setattr(stores, "put", dies_after(killed_after))
            with pytest.raises(Killed):
                command(url, online=True, **asked)
        monkeypatch.setenv("FOLDWISE_CACHE", str(tmp_path / "two"))
        command(url, online=True, **asked)
    sent = {k.removeprefix("again/test/") for k in world.bucket.keys("again/")}
    assert sent - {".lease.json"} == set(files_of(local_run(url)))
    assert "refit/checkpoints" in "".join(sent)
    for name, content in numbers_of(here.path).items():
        assert world.bucket.get(f"again/test/{name}") == content
    assert not list(findings(RunFolder(local_run(url)), ["tensorboard"]))


def test_what_is_gone_from_a_readers_copy_is_fetched_again(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOLDWISE_CACHE", str(tmp_path))
    copy = RunFolder(local_run(world.url))
    copy.out_of_fold.unlink()
    local_run(world.url)
    assert files_of(copy.path) == files_of(world.copy.path)


def test_a_sweep_knows_what_another_machine_has_finished(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOLDWISE_CACHE", str(tmp_path / "empty"))
    (tmp_path / "test.yaml").write_text(dump_config(world.config))
    listed = call("sweep", tmp_path / "test.yaml", "--dry-run", "--json")
    assert json.loads(listed.stdout)["runs"] == [{"run": world.url, "state": "finished"}]


def test_a_frame_is_a_table_that_other_machines_find(world: World) -> None:
    table = folder_of(world.bucket.url("runs")) / ".tables" / "x.parquet"
    table.parent.mkdir(exist_ok=True)
    table.write_bytes(b"rows")
    assert sent_table(table) == world.bucket.url("runs/.tables/x.parquet")
    assert world.bucket.get("runs/.tables/x.parquet") == b"rows"
    assert sent_table(Path("runs/.tables/x.parquet")) == "runs/.tables/x.parquet"


def test_a_report_that_is_drawn_again_is_sent(world: World) -> None:
    world.bucket.put("runs/test/report.html", b"old")
    result = call("report", world.url)
    assert result.exit_code == 0, result.output
    assert world.bucket.get("runs/test/report.html") == world.copy.report.read_bytes()


def test_what_is_cleaned_goes_from_the_store_too(world: World) -> None:
    damaged = world.copy.fold(1).checkpoints / "damaged-1-step-000005"
    with mirrored(world.copy, [world.copy.fold(1)]):
        damaged.mkdir()
        (damaged / "state.json").write_bytes(b"x")
    key = "runs/test/fold-1/checkpoints/damaged-1-step-000005/state.json"
    assert key in world.bucket.keys("runs/")
    assert str(damaged) in json.loads(call("clean", world.url, "--yes", "--json").stdout)["removed"]
    assert key not in world.bucket.keys("runs/")


def test_a_run_is_worked_on_by_one_machine(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mirrored(world.copy):
        monkeypatch.setenv("FOLDWISE_CACHE", str(tmp_path))
        with pytest.raises(FoldwiseError, match=r"is in use by 'process .* until .* remove s3://"):
            cross_validate(world.config)
        assert local_run(world.url).is_dir()  # it can be read
        monkeypatch.setenv("FOLDWISE_CACHE", str(world.two))


def test_who_stood_still_too_long_sends_nothing(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = world.bucket.get("runs/test/report.html")
    monkeypatch.setattr(lease, "HOLDS_S", -1)

    def overtaken() -> None:
        with mirrored(world.copy):
            monkeypatch.setenv("FOLDWISE_CACHE", str(tmp_path))
            with mirrored(run_of(world.bucket.url("runs"), "test")):
                pass
            monkeypatch.setenv("FOLDWISE_CACHE", str(world.two))
            world.copy.report.write_bytes(b"late")

    with pytest.raises(FoldwiseError, match="another machine has taken the run over"):
        overtaken()
    assert world.bucket.get("runs/test/report.html") == before
    world.copy.report.write_bytes(before)


def test_a_runs_own_config_has_no_store_asked(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local_run(world.url)
    moved = shutil.copytree(world.copy.path, tmp_path / "runs" / "test")
    monkeypatch.setenv("FOLDWISE_CACHE", str(tmp_path / "empty"))
    world.server.faults.asked.clear()
    refused = call("validate", moved)
    assert "isn't on this machine; --online has it fetched" in str(refused.exception)
    assert world.server.faults.asked == []
    allowed = call("validate", moved, "--online")
    assert allowed.exit_code == 0, allowed.output


def test_a_run_that_is_gone_from_the_store_is_not_put_back(world: World) -> None:
    url = world.bucket.url("gone")
    run = run_of(url, "test")
    shutil.copytree(world.copy.path, run.path)
    with mirrored(run):
        pass
    for key in world.bucket.keys("gone/"):
        world.bucket.remove(key)
    with (
        pytest.raises(FoldwiseError, match=r"is gone from the store; .* still has a copy"),
        mirrored(run),
    ):
        pass
    assert world.bucket.keys("gone/") == []


@pytest.mark.parametrize("name", ["../out", "a/../../out", "/etc/x", "a//b", "a\\b"])
def test_a_name_in_a_bucket_leads_nowhere_else(bucket: Bucket, tmp_path: Path, name: str) -> None:
    bucket.put("runs/x/config.yaml", b"run: {name: x}\n")
    bucket.put(f"runs/x/{name}", b"hostile")
    with pytest.raises(FoldwiseError, match="which no run's file is"):
        local_run(bucket.url("runs/x"))
    assert [p for p in tmp_path.rglob("*") if p.is_file() and p.read_bytes() == b"hostile"] == []


def test_hidden_and_doubled_names_in_a_bucket_are_not_taken(bucket: Bucket) -> None:
    for name in ("config.yaml", ".lock", "fold-1/.hidden/x", "empty/"):
        bucket.put(f"runs/x/{name}", b"" if name == "empty/" else b"x")
    assert set(files_there(bucket.url("runs/x"))) == {"config.yaml"}
    bucket.put("runs/x/config.yaml/below", b"x")
    with pytest.raises(FoldwiseError, match="is an object and a folder"):
        files_there(bucket.url("runs/x"))


def test_a_link_in_the_working_copy_is_not_written_through(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put("runs/x/config.yaml", b"new")
    bucket.put("runs/x/code/parts.py", b"new")
    (tmp_path / "elsewhere").mkdir()
    run = run_of(bucket.url("runs"), "x")
    run.path.mkdir(parents=True)
    run.code.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FoldwiseError, match="is a link"):
        refresh(run)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_folder_beside_the_cache_is_no_working_copy(tmp_path: Path, store: S3Server) -> None:
    run = RunFolder(tmp_path / "runs" / "s3" / "b" / "runs" / "x")
    with mirrored(run):
        pass
    assert store.faults.asked == []
    assert folder_of("runs") == Path("runs")
    assert folder_of(f"file://{tmp_path}") == tmp_path
