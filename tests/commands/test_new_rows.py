"""`foldwise evaluate` and `foldwise drift` on new rows: pages, JSON, exit codes, hostile tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner, Result

from browser import Browser
from conftest import make_table
from foldwise import Predictor
from foldwise.cli import app
from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError
from foldwise.run.folder import RunFolder
from foldwise.run.readers import read_json
from foldwise.workflow import cross_validate

MARKUP = "<script>alert(1)</script>"
KIND = f"kind {MARKUP}"


def table(rows: int, seed: int) -> pl.DataFrame:
    """Rows whose texts differ, with markup in a column's name, a class and the texts."""
    frame = make_table(rows, seed)
    text = pl.col("text") + pl.lit(f" {MARKUP} r{seed}x") + pl.int_range(pl.len()).cast(pl.String)
    label = pl.col("label").str.replace("card", f"card {MARKUP}")
    return frame.with_columns(text, label).rename({"kind": KIND})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, backbone: Path) -> RunFolder:
    """A finished run of two folds whose answer may be a blend."""
    folder = tmp_path_factory.mktemp("new-rows")
    table(120, 0).write_csv(folder / "table.csv")
    config = Config.model_validate(
        {
            "run": {"name": "test", "dir": str(folder / "runs")},
            "data": {
                "path": str(folder / "table.csv"),
                "target": "label",
                "text": ["text"],
                "categorical": [KIND],
                "numeric": ["amount"],
            },
            "folds": {"n": 2, "duplicates": "identical"},
            "selection": {"rows": "inner"},
            "text": {"max_length": 24},
            "model": {"backbone": str(backbone)},
            "metrics": ["f1_macro", "accuracy"],
            "optimizer": {"lr": 3e-3, "head_lr": 1e-2},
            "training": {"epochs": 1, "batch_size": 8, "device": "cpu", "precision": "float32"},
            "baselines": False,
            "ensemble": ["model", "linear"],
        }
    )
    return cross_validate(config)


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def asked(*arguments: object) -> dict[str, Any]:
    result = call(*arguments, "--json", "--quiet")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_a_fold_answers_new_rows_as_its_own_were_answered(run: RunFolder) -> None:
    oof = pl.read_parquet(run.out_of_fold)
    for number in (1, 2):
        predictor = Predictor(run.path, [number], as_scored=True)
        frame = predictor.read(str(run.path.parents[1] / "table.csv"), labelled=False)
        own = oof.filter(pl.col("fold") == number)
        again = predictor.predict(frame).filter(pl.col("row").is_in(own["row"].to_list()))
        names = [name for name in own.columns if name.startswith("prob_")]
        assert again.select(names).to_numpy() == pytest.approx(
            own.select(names).to_numpy(), abs=1e-5
        )


def test_evaluate_writes_the_report_of_new_rows(
    run: RunFolder, tmp_path: Path, browser: Browser
) -> None:
    table(80, 5).write_csv(tmp_path / "later.csv")
    found = asked("evaluate", run.path, tmp_path / "later.csv", "-o", tmp_path / "page.html")
    promised = found["promised"]
    assert promised["metric"] == "f1_macro"
    assert promised["out_of_fold"] == pytest.approx(
        read_json(run.metrics)["oof"]["f1_macro"]["value"]
    )
    assert promised["inside"] == (promised["low"] <= promised["value"] <= promised["high"])
    assert found["scores"]["f1_macro"]["value"] == promised["value"]
    for width, dark in ((1200, False), (390, True)):
        browser.open(tmp_path / "page.html", width=width, dark=dark)
        assert browser.errors() == []
        assert browser.charts_without_marks() == 0
        assert browser.overflow() <= 0
    titles = [title.text for title in browser.find_all("h2")]
    expected = ["Summary", "Classes", "Confusion matrix", "Confidence", "Most confident mistakes"]
    assert [title for title in titles if title in expected] == expected
    assert "By column" in titles
    cells = browser.find_all(".matrix td button")
    assert sum(int(cell.get_attribute("data-rows")) for cell in cells) == 80


def test_labels_that_the_run_does_not_know_are_counted_and_told(
    run: RunFolder, tmp_path: Path
) -> None:
    later = table(60, 6)
    label = pl.when(pl.int_range(pl.len()) < 9).then(pl.lit("odd\n<i>")).otherwise(pl.col("label"))
    later.with_columns(label=label).write_csv(tmp_path / "later.csv")
    result = call("evaluate", run.path, tmp_path / "later.csv")
    assert result.exit_code == 0, result.output
    assert "9 rows count as wrong: the run doesn't know 'odd\\n<i>' (9)" in result.stderr
    assert asked("evaluate", run.path, tmp_path / "later.csv")["unknown_labels"] == {"odd\n<i>": 9}


def test_drift_of_the_same_source_is_none_and_of_another_fails_where_asked(
    run: RunFolder, tmp_path: Path, browser: Browser
) -> None:
    table(90, 7).drop("label").write_csv(tmp_path / "same.csv")
    same = asked("drift", run.path, tmp_path / "same.csv")
    assert same["drift"] is False
    assert {check["kind"] for check in same["checks"]} >= {"classes", "confidence", "classifier"}
    assert call("drift", run.path, tmp_path / "same.csv", "--fail-above", 0).exit_code == 0
    other = table(90, 8).with_columns(
        pl.col("text") + " covid", pl.lit(MARKUP).alias(KIND), amount=pl.lit("9")
    )
    other.write_csv(tmp_path / "other.csv")
    page = tmp_path / "drift.html"
    result = call("drift", run.path, tmp_path / "other.csv", "--fail-above", "0.2", "-o", page)
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1].startswith("Drift: ")
    for width, dark in ((1200, False), (390, True)):
        browser.open(page, width=width, dark=dark)
        assert browser.errors() == []
        assert browser.charts_without_marks() == 0
        assert browser.overflow() <= 0
    titles = [title.text for title in browser.find_all("h2")]
    assert f"Column {KIND}" in titles
    assert browser.run("return document.querySelectorAll('main script:not([type])').length") == 0


def test_without_its_table_a_run_still_compares_what_it_answers(
    run: RunFolder, tmp_path: Path
) -> None:
    table(90, 7).write_csv(tmp_path / "same.csv")
    original = run.path.parents[1] / "table.csv"
    content = original.read_bytes()
    try:
        original.write_bytes(content + b"x,y,1,z\n")
        changed = asked("drift", run.path, tmp_path / "same.csv")
        original.unlink()
        gone = asked("drift", run.path, tmp_path / "same.csv")
    finally:
        original.write_bytes(content)
    assert "has changed since the run was made from it" in changed["remarks"][0]
    assert "table.csv" in gone["remarks"][0]
    for found in (changed, gone):
        checks = {check["kind"]: check for check in found["checks"]}
        assert {"classes", "confidence", "unseen", "numbers", "words"} == checks.keys()
        assert checks["unseen"]["verdict"] == "not tested"
        assert checks["words"]["parts"][0]["new"] > 0.05  # each row has a word of its own
        assert checks["numbers"]["parts"][0]["training"] == pytest.approx(0, abs=0.3)
        assert found["classifier"] is None


def test_odd_tables_end_in_a_page_or_one_message(run: RunFolder, tmp_path: Path) -> None:
    one = table(1, 9)
    empty = table(5, 9).with_columns(pl.lit(None, pl.String).alias(c) for c in ("text", KIND))
    for frame in (one, empty):
        frame.write_parquet(tmp_path / "odd.parquet")
        page = tmp_path / "page.html"
        result = call("drift", run.path, tmp_path / "odd.parquet", "-o", page)
        assert result.exit_code == 0, result.output
        assert page.read_text().startswith("<!doctype html>")
    one.write_parquet(tmp_path / "odd.parquet")
    page = tmp_path / "scores.html"
    assert asked("evaluate", run.path, tmp_path / "odd.parquet", "-o", page)["rows"] == 1
    one.drop("text").write_parquet(tmp_path / "odd.parquet")
    result = call("drift", run.path, tmp_path / "odd.parquet")
    assert isinstance(result.exception, FoldwiseError)
    assert "'text'" in str(result.exception)
    (tmp_path / "mine.html").write_text("mine")
    result = call("drift", run.path, tmp_path / "odd.parquet", "-o", tmp_path / "mine.html")
    assert isinstance(result.exception, FoldwiseError)
    assert (tmp_path / "mine.html").read_text() == "mine"


def test_rows_that_could_not_be_scored_are_not_called_labelled(
    run: RunFolder, tmp_path: Path
) -> None:
    new = table(5, 9).with_columns(pl.Series("amount", ["1.5", "2,5", "x", "4", "5"]))
    new.write_csv(tmp_path / "new.csv")
    result = call("predict", run.path, tmp_path / "new.csv", "-o", tmp_path / "out.csv", "--quiet")
    assert result.stdout.startswith("3 of 5 rows labelled by ")


def test_control_characters_reach_no_terminal(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    later = table(90, 7).with_columns(pl.lit("red\x1b[31m\u202e [/b]").alias(KIND))
    later.write_parquet(tmp_path / "later.parquet")
    result = call("drift", run.path, tmp_path / "later.parquet")
    assert result.exit_code == 0, result.output
    assert "\x1b" not in result.output
    assert "\u202e" not in result.output
    assert "[/b]" in result.output  # no markup of the terminal's library either
    assert np.isfinite(asked("drift", run.path, tmp_path / "later.parquet")["size"])
