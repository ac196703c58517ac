from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from foldwise.cli import app
from foldwise.config.load import dump_config
from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError
from foldwise.run.audit import seal_anew
from foldwise.workflow import cross_validate


@pytest.fixture
def path(make_config: Callable[..., Config], tmp_path: Path) -> Path:
    config = make_config(folds={"n": 2}, training={"epochs": 1})
    made = tmp_path / "base.yaml"
    text = dump_config(config).replace("sweep: null\n", "")
    # The second run can't be trained: bitsandbytes pages nothing on a CPU.
    made.write_text(f"{text}sweep: {{grid: {{optimizer.name: [adamw, paged_adamw]}}}}\n")
    return made


def test_a_sweep_runs_what_it_can_and_says_what_it_could_not(path: Path, tmp_path: Path) -> None:
    listed = CliRunner().invoke(app, ["sweep", str(path), "--dry-run"]).stdout.splitlines()
    assert listed == [f"would run: {tmp_path}/runs/test-name-{n}" for n in ("adamw", "paged_adamw")]
    assert not (tmp_path / "runs").exists()
    result = CliRunner().invoke(app, ["sweep", str(path)])
    assert result.exit_code == 1
    assert "test-name-adamw: finished f1_macro" in result.stdout
    assert "failed: test-name-paged_adamw: exit code 2: error: optimizer: paged_adamw" in (
        result.stderr
    )
    assert result.stdout.splitlines()[-1] == "1 of 2 runs finished"
    told = json.loads(CliRunner().invoke(app, ["sweep", str(path), "--json"]).stdout)
    assert [run["state"] for run in told["runs"]] == ["skipped", "failed"]
    assert told["ranked"] == ["test-name-adamw"]
    again = CliRunner().invoke(app, ["sweep", str(path), "--dry-run"]).stdout.splitlines()
    assert again[0] == f"finished: {tmp_path}/runs/test-name-adamw"


def test_train_refuses_a_config_of_several_runs(path: Path) -> None:
    result = CliRunner().invoke(app, ["train", str(path)])
    assert isinstance(result.exception, FoldwiseError)
    assert "use foldwise sweep or foldwise tune" in str(result.exception)


def test_a_run_does_not_remember_the_sweep_it_came_from(
    make_config: Callable[..., Config],
) -> None:
    config = make_config(folds={"n": 2}, training={"epochs": 1})
    run = cross_validate(config)
    assert "sweep: null" in run.config.read_text()
    # A run from before there were sweeps has no such key, and is still the same config.
    run.config.write_text(run.config.read_text().replace("sweep: null\n", ""))
    seal_anew(run, ["tensorboard"])
    before = run.metrics.read_bytes()
    assert cross_validate(config).metrics.read_bytes() == before


def test_tune_trains_folds_and_names_the_best(path: Path) -> None:
    space = "sweep.random={optimizer.lr: {low: 1.0e-4, high: 1.0e-2, log: true}}"
    # What is searched by is what picks the epoch, whether `metrics` names it or not.
    shown = ["--set", "metrics=[accuracy]"]
    command = ["tune", str(path), "--set", "sweep.grid=null", "--set", space, *shown]
    result = CliRunner().invoke(app, [*command, "--set", "sweep.trials=2"])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("trial 0: 0.")
    assert lines[-1].startswith("best: f1_macro 0.")
    assert Path(lines[-1].rpartition(": ")[2]).joinpath("metrics.json").exists()
    assert (path.parent / "runs" / "test.tune.db").exists()
    again = CliRunner().invoke(app, [*command, "--set", "sweep.trials=2", "--json"])
    found = json.loads(again.stdout)
    assert lines[-1] == (
        f"best: f1_macro {found['best']['value']:.4f}, the mean over its folds: "
        f"{found['best']['run']}"
    )
    assert [trial["state"] for trial in found["trials"]] == ["complete", "complete"]


@pytest.mark.slow
def test_a_sweep_that_is_told_to_stop_stops_its_run(path: Path, tmp_path: Path) -> None:
    settings = ["--set", "training.epochs=500", "--set", "sweep.grid={optimizer.lr: [0.001]}"]
    command = [sys.executable, "-c", "from foldwise.cli import main; main()", "sweep", str(path)]
    process = subprocess.Popen([*command, *settings], stdout=subprocess.DEVNULL)
    history = tmp_path / "runs" / "test-lr-0.001" / "fold-1" / "metrics.jsonl"
    for _ in range(600):
        if history.exists() and history.stat().st_size:
            break
        time.sleep(0.1)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    pids = [int(pid) for pid in children.read_text().split()] if children.exists() else []
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 128 + signal.SIGTERM
    assert history.exists()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
