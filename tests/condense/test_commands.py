"""refit, distill and --model as they are typed; the models are made already."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from foldwise.cli import main
from foldwise.commands.export import tell_findings
from foldwise.commands.output import PLAIN
from foldwise.export.bundle import Checked
from foldwise.run.folder import RunFolder


def give(*words: object) -> None:
    sys.argv = ["foldwise", *map(str, words)]
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0


@pytest.fixture(autouse=True)
def _argv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [])


@pytest.mark.parametrize(("command", "name"), [("refit", "refit"), ("distill", "distilled")])
def test_a_command_ends_with_what_it_comes_to_and_how_it_is_used(
    run: RunFolder, command: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    give(command, run.path, "--quiet")
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{name}: f1_macro ")
    assert line.endswith(f"; to use it: foldwise predict {run.path} DATA -o OUT --model {name}")
    give(command, run.path)
    printed = capsys.readouterr().out
    assert "all 2 folds" in printed
    assert "ms/row" in printed
    give(command, run.path, "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["measured"] == json.loads(run.one(name).measured.read_text())


def test_predict_and_evaluate_say_which_model_labels(
    run: RunFolder, plain: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = plain.path.parents[1] / "more.csv"
    give("predict", run.path, table, "-o", tmp_path / "a.csv", "--model", "distilled")
    assert "12 rows labelled by the model, distilled: " in capsys.readouterr().out
    give("evaluate", run.path, table, "--model", "refit", "--json")
    found = json.loads(capsys.readouterr().out)
    assert (found["model"], found["folds"], found["rows"]) == ("refit", [], 12)


def test_bad_requests_end_in_one_message(
    run: RunFolder, plain: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(plain.path, tmp_path / "moved")
    for words, told in (
        (("refit", tmp_path), "not a run folder (it has no config.yaml)"),
        (("distill", run.path, "--label-share", "0.3"), "was made with label_share 0.5, not 0.3"),
        (("distill", tmp_path / "moved", "--unlabelled", "no.csv"), "no.csv"),
        (
            ("predict", run.path, "x.csv", "-o", "y.csv", "--model", "fold-9"),
            "fold 9 isn't trained",
        ),
    ):
        sys.argv = ["foldwise", *map(str, words)]
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == 2
        error = capsys.readouterr().err
        assert told in error
        assert "Traceback" not in error
    assert not (tmp_path / "moved" / "distilled").exists()


def test_an_export_of_one_model_says_what_it_came_to_beside_the_folds(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = Checked("18 rows", 0.0, 0, {}, {})
    task = SimpleNamespace(holds="label")
    source: Any = SimpleNamespace(run=run, name="distilled", metrics={}, task=task)
    tell_findings(source, rows, None, PLAIN)
    difference = json.loads(run.one("distilled").measured.read_text())["difference"]["f1_macro"]
    printed = " ".join("".join(capsys.readouterr()).split())
    assert f"distilled, on the holdout's 18 rows: f1_macro {difference['value']:+.3f}" in printed
    assert "than the folds' answer" in printed or "from the folds' answer" in printed
