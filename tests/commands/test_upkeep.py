"""`foldwise status` and `clean`, as a person and as a script give them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from foldwise.cli import app
from foldwise.config.schema import Config
from foldwise.run.files import write_json
from foldwise.run.folder import FAILED, RunFolder
from foldwise.run.lock import lock
from made_runs import make_run, noisy


@pytest.fixture
def runs(make_config: Callable[..., Config]) -> list[RunFolder]:
    """Three runs: done, stopped after two folds, failed."""
    made = []
    target = np.arange(30) % 3
    for name in ("done", "stopped", "failed"):
        config = make_config(run={"name": name})
        run = make_run(config, target, noisy(target, 0.8, 0), np.arange(30) % 3 + 1)
        for number in (1, 2, 3):
            write_json(run.fold(number).validation, {"scores": {"f1_macro": 0.5}})
        run.report.write_text("page")
        run.log.write_text("")
        if name != "done":
            run.metrics.unlink()
            run.fold(3).validation.unlink()
            run.fold(3).trained.unlink()
        made.append(run)
    made[2].append_log(FAILED, error="RuntimeError: boom")
    return made


def give(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def states(result: Result) -> dict[str, str]:
    return {Path(run["path"]).name: run["state"] for run in json.loads(result.stdout)["runs"]}


def test_status_tells_each_of_the_four_states(runs: list[RunFolder]) -> None:
    paths = [run.path for run in runs]
    assert states(give("status", *paths, "--json")) == {
        "done": "done",
        "stopped": "stopped",
        "failed": "failed",
    }
    with lock(runs[1].fold(3).path / ".lock", "it"):
        assert states(give("status", *paths, "--json"))["stopped"] == "running"
        result = give("status", *paths)
    assert result.stdout.splitlines()[-1] == "3 runs: 1 done, 1 running, 1 failed"
    assert f"{paths[2]}: RuntimeError: boom" in result.stdout.replace("\n", "")


def test_status_of_one_run_is_a_line_a_fold_and_one_of_the_run(runs: list[RunFolder]) -> None:
    lines = give("status", runs[1].path).stdout.splitlines()
    assert [line.split()[:2] for line in lines[1:4]] == [
        ["1", "done"],
        ["2", "done"],
        ["3", "waiting"],
    ]
    assert "f1_macro 0.500" in lines[1]
    assert lines[-1].startswith(f"{runs[1].path}: stopped, 67% done, written to at ")
    quiet = give("status", runs[1].path, "-q").stdout.splitlines()
    assert quiet == lines[-1:]


def test_status_as_json_has_fold_share_and_time_left(runs: list[RunFolder]) -> None:
    (run,) = json.loads(give("status", runs[1].path, "--json").stdout)["runs"]
    assert (run["state"], run["fold"], run["message"]) == ("stopped", 3, None)
    assert run["share"] == pytest.approx(2 / 3)
    assert [fold["state"] for fold in run["folds"]] == ["done", "done", "waiting"]
    assert {"left_s", "updated", "holders"} <= set(run)


def test_status_imports_nothing_heavy() -> None:

    modules = "foldwise.commands.status, foldwise.upkeep.standing, foldwise.report.upkeep_terminal"
    program = f"import sys, {modules}\nprint([n for n in ('torch', 'polars') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "[]\n"


@pytest.fixture
def wasteful(runs: list[RunFolder]) -> Path:
    path = runs[0].fold(1).checkpoints / "damaged-1-step-000005"
    path.mkdir(parents=True)
    (path / "model.safetensors").write_bytes(bytes(2_500_000))
    return path


def test_clean_without_a_terminal_lists_and_removes_only_with_yes(
    runs: list[RunFolder], wasteful: Path
) -> None:
    listed = give("clean", runs[0].path)
    assert listed.exit_code == 0
    named = f"2.4 MiB: {wasteful} (damaged checkpoint of a fold that is done)"
    assert listed.stdout.splitlines()[0] == named
    assert listed.stdout.splitlines()[1] == (
        f"{runs[0].path}: nothing removed, 2.4 MiB can go; --yes removes it"
    )
    assert wasteful.exists()
    removed = give("clean", runs[0].path, "--yes", "--quiet")
    assert removed.stdout == f"{runs[0].path}: 2.4 MiB freed\n"
    assert not wasteful.exists()
    assert give("clean", runs[0].path).stdout == f"{runs[0].path}: nothing can go\n"


@pytest.mark.parametrize(("answer", "gone"), [("n", False), ("y", True)])
def test_clean_asks_first(
    runs: list[RunFolder],
    wasteful: Path,
    answer: str,
    gone: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def confirm(question: str) -> bool:
        asked.append(question)
        return answer == "y"

    monkeypatch.setattr("foldwise.commands.clean.sys.stdin", Terminal())
    monkeypatch.setattr("typer.confirm", confirm)
    from foldwise.commands.clean import clean

    clean(runs[0].path, yes=False)
    assert asked == ["Remove it? That frees 2.4 MiB."]
    assert wasteful.exists() is not gone


class Terminal:
    """A standard input at which somebody sits."""

    def isatty(self) -> bool:
        return True


def test_clean_as_json_names_what_went(runs: list[RunFolder], wasteful: Path) -> None:
    listed: dict[str, Any] = json.loads(give("clean", runs[0].path, "--json").stdout)
    assert (listed["bytes"], listed["removed"], listed["freed_bytes"]) == (2_500_000, [], 0)
    went = json.loads(give("clean", runs[0].path, "--json", "--yes").stdout)
    assert went["removed"] == [str(wasteful)]
    assert went["freed_bytes"] == 2_500_000
