from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from foldwise.cli import app
from foldwise.config.load import dump_config, load_config
from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError
from foldwise.run.readers import read_json
from foldwise.workflow import cross_validate


@pytest.fixture
def config_path(make_config: Callable[..., Config], tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(make_config()))
    return path


def test_it_draws_and_suggests_and_leaves_no_run(config_path: Path, tmp_path: Path) -> None:
    command = ["lr-find", str(config_path), "--steps", "25", "--from", "1e-5", "--to", "10"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    folder = tmp_path / "runs" / "test.lr-find"
    assert sorted(p.name for p in folder.iterdir()) == ["lr_find.json", "lr_find.png"]
    assert sorted(p.name for p in folder.parent.iterdir()) == [".tokens", "test.lr-find"]
    found = json.loads((folder / "lr_find.json").read_text())
    assert found["fold"] == 1
    assert len(found["rates"]) == len(found["losses"]) <= 25
    assert 1e-5 <= found["valley"] <= 10
    assert f"{found['steepest']:.1e}" in result.stdout
    first = (folder / "lr_find.json").read_bytes()
    assert CliRunner().invoke(app, command).exit_code == 0
    assert (folder / "lr_find.json").read_bytes() == first  # seeded: it says the same again


def test_without_rates_it_looks_around_the_backbone_s_usual_one(
    config_path: Path, tmp_path: Path
) -> None:
    assert CliRunner().invoke(app, ["lr-find", str(config_path)]).exit_code == 0
    found = json.loads((tmp_path / "runs" / "test.lr-find" / "lr_find.json").read_text())
    assert found["rates"][0] == pytest.approx(3e-4 / 4)  # of a hidden size of up to 512
    assert found["rates"][1] == pytest.approx(3e-4 / 4 * 160 ** (1 / 21))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--from", "1", "--to", "0.1"], "--from 1 --to 0.1: rates must be above 0 and rise"),
        (["--from", "2"], "--from 2 --to 0.012: rates must be above 0 and rise"),
        (["--steps", "5"], "--steps 5: give 20 or more"),
        (["--fold", "9"], "--fold 9: there are 3 folds"),
    ],
)
def test_bad_options_write_nothing(
    config_path: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    result = CliRunner().invoke(app, ["lr-find", str(config_path), *options])
    assert isinstance(result.exception, FoldwiseError)
    assert str(result.exception) == message
    assert not (tmp_path / "runs").exists()


def test_a_range_tests_rate_is_found_once_and_stands_in_the_run(
    make_config: Callable[..., Config],
) -> None:
    config = make_config(optimizer={"lr": "range_test", "head_lr": 3e-3}, training={"epochs": 1})
    run = cross_validate(config, only=[1])
    stored = load_config(run.config).optimizer
    assert isinstance(stored.lr, float)
    assert stored.head_lr == pytest.approx(stored.lr * 10)
    events = [event for event in run.events() if event["event"] == "learning rate found"]
    assert [event["lr"] for event in events] == [stored.lr]
    assert len(events[0]["rates"]) == len(events[0]["losses"])

    cross_validate(config)  # goes on with the rate it has
    assert len([e for e in run.events() if e["event"] == "learning rate found"]) == 1
    assert run.finished
    before = run.metrics.read_bytes()
    cross_validate(config)
    assert run.metrics.read_bytes() == before

    again = load_config(run.config, [f"run.dir={run.path.parent}", "run.name=again"])
    other = cross_validate(again)
    assert other.out_of_fold.read_bytes() == run.out_of_fold.read_bytes()
    assert read_json(other.metrics)["oof"] == read_json(run.metrics)["oof"]


def test_another_rate_than_the_found_one_is_another_config(
    make_config: Callable[..., Config],
) -> None:
    auto = {"optimizer": {"lr": "range_test"}, "training": {"epochs": 1}}
    run = cross_validate(make_config(**auto), only=[1])
    rate = load_config(run.config).optimizer.rate
    with pytest.raises(FoldwiseError, match="was made with another config"):
        cross_validate(make_config(optimizer={"lr": rate * 2}, training={"epochs": 1}))
