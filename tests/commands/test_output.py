"""--quiet leaves the last line, --json one object; a cron-like run reads as a log."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rich
from typer.testing import CliRunner

from foldwise import cli
from foldwise.commands.output import output
from foldwise.config.load import dump_config
from foldwise.config.schema import Config

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00 "
Give = Callable[..., tuple[str, str]]


@pytest.fixture
def give(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Give:
    """Give a command in this process, without a terminal; return its stdout and stderr."""
    monkeypatch.setattr("signal.signal", lambda *_: None)

    def run(*arguments: str | Path, code: int = 0) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["foldwise", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed, told = capsys.readouterr()
        assert ended.value.code == code, told
        return printed, told

    return run


@pytest.fixture
def config(make_config: Callable[..., Config], tmp_path: Path) -> Path:
    """A config of two folds and one epoch."""
    made = make_config(folds={"n": 2}, training={"epochs": 1})
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(made))
    return path


def test_commands_that_find_a_run_finished_tell_it_in_a_line_or_as_json(
    config: Path, give: Give, table_path: Path, tmp_path: Path
) -> None:
    printed, told = give("train", config, "--folds", "1")
    plain = [re.sub(TIME, "", line) for line in told.splitlines() if re.match(TIME, line)]
    assert plain[0].startswith("fold 1 of 2: starts, ")
    assert "evaluated: f1_macro 0." in plain[1]
    assert re.fullmatch(r"fold 1 of 2: f1_macro [01]\.\d{3}, best epoch 1 of 1, \d+ s", plain[-1])
    run = tmp_path / "runs" / "test"
    assert printed.splitlines()[-1] == f"run folder: {run}"

    printed, told = give("train", config, "--json")
    result = json.loads(printed)
    assert (result["run"], result["finished"], result["folds_done"]) == (str(run), True, [1, 2])
    assert result["scores"] == json.loads((run / "metrics.json").read_text())
    assert f"fold 2 of 2: f1_macro {result['scores']['folds']['2']['f1_macro']:.3f}" in told

    assert give("train", config, "--quiet") == (f"run folder: {run}\n", "")
    assert json.loads(give("status", run, "--json")[0])["runs"][0]["state"] == "done"
    again = json.loads(give("validate", run, "--json")[0])
    assert again["scores"]["oof"] == result["scores"]["oof"]
    assert give("report", run, "-q") == (f"report: {run}/report.html\n", "")
    assert json.loads(give("report", run, "--json")[0])["report"] == f"{run}/report.html"

    labels = tmp_path / "labels.csv"
    predicted = json.loads(give("predict", run, table_path, "-o", labels, "--json")[0])
    assert (predicted["rows"], predicted["folds"]) == (90, [1, 2])
    assert predicted["predictions"] == str(labels)
    scored = json.loads(give("evaluate", run, table_path, "--json")[0])
    value = scored["scores"]["f1_macro"]["value"]
    line = f"f1_macro: {value:.3f} on 90 rows, by the model of fold 1, 2\n"
    assert give("evaluate", run, table_path, "-q") == (line, "")


def test_rows_that_take_long_to_tokenize_and_to_predict_are_told_in_lines(
    config: Path, give: Give, table_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foldwise.progress.shown.QUICK_S", 0.0)
    _, told = give("train", config, "--folds", "1")
    lines = [re.sub(TIME, "", line) for line in told.splitlines() if re.match(TIME, line)]
    assert lines[0] == "tokenizing: row 90 of 90"
    after = lines.index(next(line for line in lines if "evaluated" in line)) + 1
    assert lines[after] == "predicting: row 45 of 45"  # the fold that is validated
    assert not any(line.startswith("predicting") for line in lines[:after])
    _, told = give("predict", tmp_path / "runs" / "test", table_path, "-o", tmp_path / "out.csv")
    assert re.search(f"^{TIME}predicting: row 16 of 90, [0-9,]+ rows/s, ", told, re.M)
    _, told = give("validate", tmp_path / "runs" / "test", "--quiet")
    assert "predicting" not in told


def test_quiet_training_prints_the_last_line_alone(config: Path, give: Give) -> None:
    printed, told = give("train", config, "--folds", "1", "--quiet")
    assert re.fullmatch(r"run folder: .*/runs/test\n", printed)
    assert re.sub(r"Loading weights.*", "", told).strip() == ""


@pytest.mark.parametrize(("quiet", "told"), [(False, ["tokenizing"]), (True, [])])
def test_progress_of_libraries_stays_off_stdout_and_is_silent_where_all_is(
    quiet: bool, told: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    output(quiet, as_json=True)
    rich.get_console().print("tokenizing")
    assert [stream.split() for stream in capsys.readouterr()] == [[], told]


def test_an_error_is_told_whatever_is_asked_for(config: Path, give: Give) -> None:
    for option in ("--quiet", "--json"):
        printed, told = give("train", config, option, "--set", "training.epoch=1", code=2)
        assert printed == ""
        assert told.startswith("error: ")


def test_init_and_eda_as_json_name_what_they_wrote(
    config: Path, give: Give, table_path: Path, tmp_path: Path
) -> None:
    path = tmp_path / "starter.yaml"
    made, notes = give("init", table_path, "--target", "label", "-o", path, "--json")
    assert json.loads(made)["config"] == str(path)
    assert "text" in json.loads(made)["columns"]["text"]
    assert "config: " in notes
    page = tmp_path / "eda.html"
    looked: dict[str, Any] = json.loads(give("eda", config, "-o", page, "--json")[0])
    assert looked["page"] == str(page)
    assert looked["rows"] == {"table": 90, "used": 90}
    assert all({"level", "kind", "says", "changes"} == set(entry) for entry in looked["findings"])
    assert give("eda", config, "-o", page, "--quiet") == (f"page: {page}\n", "")


def test_lr_find_and_a_dry_sweep_as_json(config: Path, give: Give, tmp_path: Path) -> None:
    found = json.loads(give("lr-find", config, "--steps", "20", "--json")[0])
    assert found["folder"] == str(tmp_path / "runs" / "test.lr-find")
    assert found["steepest"] > 0
    listed = json.loads(give("sweep", config, "--dry-run", "--json")[0])
    assert listed == {"runs": [{"run": f"{tmp_path}/runs/test", "state": "would run"}]}


def test_version_is_the_package_s() -> None:
    from importlib.metadata import version

    told = CliRunner().invoke(cli.app, ["--version"])
    assert (told.stdout, told.exit_code) == (f"foldwise {version('foldwise')}\n", 0)


def test_help_ends_with_the_exit_codes() -> None:
    told = " ".join(CliRunner().invoke(cli.app, ["--help"]).stdout.split())
    assert told.endswith(cli.EXIT_CODES)


def test_the_shell_is_offered_the_commands() -> None:
    environment = {"_FOLDWISE_COMPLETE": "complete_bash", "COMP_WORDS": "foldwise st"}
    done = CliRunner().invoke(
        cli.app, [], prog_name="foldwise", env={**environment, "COMP_CWORD": "1"}
    )
    assert done.stdout.split() == ["status"]
