"""`foldwise prepare`: a run finds what was done ahead, and is the same run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from foldwise.cli import app
from foldwise.config.load import dump_config
from foldwise.config.schema import Config
from foldwise.run.folder import RunFolder
from foldwise.workflow import cross_validate

Make = Callable[..., Config]
EMBEDDING = [{"name": "linear"}, {"name": "embedding"}]


@pytest.fixture
def write(make_config: Make, tmp_path: Path) -> Callable[..., Path]:
    def written(name: str = "config.yaml", **sections: Any) -> Path:
        path = tmp_path / name
        path.write_text(dump_config(make_config(**sections)))
        return path

    return written


def prepared(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, ["prepare", *map(str, arguments)])


def contents(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_run_searches_and_tokenizes_nothing_that_was_done_ahead(
    write: Any, make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sections: dict[str, Any] = {
        "data": {"categorical": ["kind"]},
        "holdout": {"fraction": 0.2},
        "folds": {"n": 2},
        "training": {"epochs": 1},
        "ensemble": EMBEDDING,
    }
    monkeypatch.setattr("foldwise.charts.learning_curves.learning_curves", lambda *_: None)
    config = make_config(run={"dir": str(tmp_path / "other")}, **sections)
    plain = cross_validate(config)
    result = prepared(write(**sections))
    assert result.exit_code == 0, result.output
    assert "rows: 90 read, 90 used\n" in result.stdout
    stores = tmp_path / "runs" / ".tokens"
    assert result.stdout.endswith(
        f"ready in {stores}; now: foldwise train {tmp_path / 'config.yaml'}\n"
    )
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [".tokens"]
    assert contents(stores) == contents(plain.token_stores)
    ahead = {path: path.stat().st_mtime_ns for path in stores.rglob("*")}

    def never(*_: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr("foldwise.table.groups.find_duplicates", never)
    monkeypatch.setattr("foldwise.encoding.text._tokenize", never)
    run = cross_validate(make_config(**sections))
    assert {path: path.stat().st_mtime_ns for path in stores.rglob("*")} == ahead
    for name in ("folds", "out_of_fold", "holdout"):
        assert getattr(run, name).read_bytes() == getattr(plain, name).read_bytes()


def test_a_device_that_isnt_here_and_what_only_it_can_are_no_matter(write: Any) -> None:
    gpu = {"training": {"device": "cuda", "precision": "fp16"}, "model": {"attention": "flash"}}
    path = write(**gpu)
    result = prepared(path, "--set", "run.name=other")
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith(f"now: foldwise train {path} --set run.name=other\n")


def test_every_variant_of_a_sweep_is_prepared_and_a_finished_run_left_alone(
    write: Any, make_config: Make, tmp_path: Path
) -> None:
    path = write(sweep={"grid": {"text.max_length": [8, 16]}}, run={"name": "s"})
    done = RunFolder(tmp_path / "runs" / "s-max_length-8")
    done.path.mkdir(parents=True)
    done.metrics.write_text("{}")
    result = prepared(path, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert [(Path(run["run"]).name, run["state"], run["rows"]) for run in told["runs"]] == [
        ("s-max_length-8", "finished", None),
        ("s-max_length-16", "prepared", 90),
    ]
    assert contents(done.path) == {"metrics.json": b"{}"}
    assert prepared(path).stdout.endswith(f"now: foldwise sweep {path}\n")


def test_bad_input_leaves_nothing(write: Any, tmp_path: Path) -> None:
    result = prepared(write(data={"target": "no such column"}))
    assert result.exit_code != 0
    assert "has no column 'no such column'" in str(result.exception)
    assert not (tmp_path / "runs").exists()


def test_a_place_where_no_run_can_lie_is_told_before_any_work(write: Any, tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    result = prepared(write())
    assert "runs is a file; choose another run.dir or run.name" in str(result.exception)
    assert (tmp_path / "runs").read_text() == "a file"
