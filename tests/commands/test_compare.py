from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from browser import Browser
from foldwise.cli import app
from foldwise.config.schema import Config
from made_runs import make_run, noisy

N = 200
TARGET = np.random.default_rng(0).integers(3, size=N)
FOLD = np.arange(N) % 5 + 1


@pytest.fixture
def runs(make_config: Callable[..., Config]) -> list[Path]:
    """Two finished runs, the second clearly better, with holdout rows."""
    held = TARGET[:50]
    made = []
    for seed, (name, right) in enumerate([("weak <b>", 0.5), ("strong", 0.9)]):
        config = make_config(
            run={"name": name.partition(" ")[0]},
            folds={"n": 5},
            optimizer={"lr": 0.001 * (seed + 1)},
        )
        made.append(
            make_run(
                config,
                TARGET,
                noisy(TARGET, right, seed),
                FOLD,
                held=(held, noisy(held, right, seed)),
            ).path
        )
    return made


def test_the_verdict_is_the_last_line_in_one_piece(
    runs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    result = CliRunner().invoke(app, ["compare", *map(str, runs)])
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == "verdict: strong better than weak"
    assert "optimizer.lr: 0.002 -> 0.001" in result.stdout.replace("\n", " ").replace("  ", " ")


def test_json_has_the_ranking_the_tests_and_the_verdict(runs: list[Path]) -> None:
    told = json.loads(CliRunner().invoke(app, ["compare", *map(str, runs), "--json"]).stdout)
    assert told["verdict"] == "verdict: strong better than weak"
    words = CliRunner().invoke(app, ["compare", *map(str, runs)]).stdout.partition("\n\n")[0]
    assert told["told"].split() == words.split()
    assert [run["name"] for run in told["runs"]] == ["strong", "weak"]
    best, other = (run["oof"]["value"] for run in told["runs"])
    (pair,) = told["pairs"]
    assert (pair["best"], pair["other"], pair["clear"]) == ("strong", "weak", True)
    assert pair["rows"]["value"] == pytest.approx(best - other)
    assert told["runs"][0]["cost"]["training_s"] == 300
    quiet = CliRunner().invoke(app, ["compare", *map(str, runs), "--quiet"])
    assert quiet.stdout == "verdict: strong better than weak\n"


def test_the_table_shows_scores_and_cost(runs: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    printed = CliRunner().invoke(app, ["compare", *map(str, runs)]).stdout
    scores, line = (line for line in printed.splitlines() if line.startswith("strong  "))
    assert scores.count("[") == 2
    assert "5 min" in line
    assert "22.6M" in line
    assert "1.0 GiB" in line
    assert "2.0 MiB" in line


def test_the_first_lines_say_the_verdict_in_words_and_nothing_is_wider_than_80_columns(
    runs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = CliRunner().invoke(app, ["compare", *map(str, runs)]).stdout.splitlines()
    told = " ".join(line.strip() for line in lines[: lines.index("")])
    assert told.startswith("strong is better than weak: ahead on macro-F1 by +0.")
    assert told.endswith("Next: take strong, and look at its holdout once.")
    assert max(map(len, lines)) <= 80
    assert not any("…" in line for line in lines)
    # A score and its interval stay on one line.
    assert sum(line.startswith("weak  ") and line.count("[") == 2 for line in lines) == 2


def test_a_foreign_file_is_not_overwritten(runs: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "mine.html"
    out.write_text("mine")
    result = CliRunner().invoke(app, ["compare", *map(str, runs), "-o", str(out)])
    assert str(result.exception) == (
        f"-o {out}: is there already and isn't a page that foldwise made; choose another name"
    )
    assert out.read_text() == "mine"


def test_the_page_opens_in_a_browser(runs: list[Path], tmp_path: Path, browser: Browser) -> None:
    out = tmp_path / "compare.html"
    for _ in range(2):  # the second replaces the first
        result = CliRunner().invoke(app, ["compare", *map(str, runs), "-o", str(out)])
        assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == "verdict: strong better than weak"
    for width, dark in ((1200, False), (390, True)):
        browser.open(out, width=width, dark=dark)
        assert browser.errors() == []
        assert browser.charts_without_marks() == 0
        assert browser.overflow() <= 0
    assert len(browser.find_all("figure.chart")) == 2
    assert "strong better than weak" in browser.find("#verdict").text
