"""`foldwise explain` and `foldwise.explain`: what drives a run's answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from conftest import FILLER
from foldwise import Predictor, cross_validate, explain
from foldwise.cli import app
from foldwise.errors import FoldwiseError
from foldwise.explanation.effort import Effort
from foldwise.explanation.explain import explain_row
from foldwise.explanation.explained import Explained, Explanation
from foldwise.run.folder import RunFolder

# One word says the class; so does the column, of the other half of the rows.
PLANTED = {"card": "fee", "debt": "lawsuit", "loan": "student"}
KIND = {"card": "c0", "debt": "d0", "loan": "l0"}
HOSTILE = "</script><b>\u202e fee \x00 </b>"


def planted(rows: int, seed: int) -> pl.DataFrame:
    """Odd rows say it in the text, even ones in the column."""
    random = np.random.default_rng(seed)
    labels = [list(PLANTED)[i // 2 % 3] for i in range(rows)]
    texts, kinds = [], []
    for i, label in enumerate(labels):
        words = [str(word) for word in random.choice(FILLER, 12)]
        if i % 2:
            words[int(random.integers(12))] = PLANTED[label]
        texts.append(" ".join(words))
        kinds.append("none" if i % 2 else KIND[label])
    return pl.DataFrame({"text": texts, "kind": kinds, "label": labels})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, backbone: Path) -> RunFolder:
    folder = tmp_path_factory.mktemp("explained")
    planted(120, seed=0).write_csv(folder / "table.csv")
    return cross_validate(
        {
            "run": {"name": "test", "dir": str(folder / "runs"), "seed": 7},
            "data": {
                "path": str(folder / "table.csv"),
                "target": "label",
                "text": ["text"],
                "categorical": ["kind"],
            },
            "folds": {"n": 2, "duplicates": "ignore"},
            "selection": {"rows": "last"},
            "text": {"max_length": 20},
            "model": {"backbone": str(backbone)},
            "optimizer": {"lr": 5e-3, "head_lr": 2e-2},
            "training": {"epochs": 3, "batch_size": 8, "device": "cpu", "precision": "float32"},
            "baselines": False,
            "ensemble": ["model", "linear"],
        }
    )


@pytest.fixture(scope="module")
def table(run: RunFolder) -> Path:
    path = run.path.parents[1] / "new.csv"
    planted(24, seed=3).write_csv(path)
    return path


@pytest.fixture(scope="module")
def predictor(run: RunFolder) -> Predictor:
    return Predictor(run.path)


@pytest.fixture(scope="module")
def explanation(predictor: Predictor, table: Path) -> Explanation:
    frame = predictor.read(str(table), labelled=True)
    return explain(predictor, frame, range(12))


def strongest(row: Explained) -> str:
    return row.credit.words[int(row.credit.values.argmax())].text


def test_the_planted_word_is_what_drove_the_rows_that_have_it(explanation: Explanation) -> None:
    said = [row for row in explanation.rows if row.row % 2 and row.prediction == row.target]
    assert len(said) >= 4
    for row in said:
        assert strongest(row) == PLANTED[str(row.target)]
        assert row.removal is not None
        assert PLANTED[str(row.target)] in row.removal.words
        assert row.removal.passed
        assert not row.by_columns


def test_the_column_is_what_drove_the_rows_that_only_it_tells(explanation: Explanation) -> None:
    said = [row for row in explanation.rows if row.row % 2 == 0 and row.prediction == row.target]
    assert len(said) >= 4
    for row in said:
        assert row.columns[0].column == "kind"
        assert row.columns[0].effect > 0.1
        assert row.by_columns


def test_members_parts_sum_to_the_answers_margin(
    predictor: Predictor, explanation: Explanation, table: Path
) -> None:
    assert {share.member for share in explanation.rows[0].members} == {"model", "linear"}
    one = Predictor(predictor.run.path, [1])
    row = explain(one, one.read(str(table), labelled=False), [1], effort=Effort(random=0)).rows[0]
    values = np.array(list(row.probabilities.values()))
    output = list(row.probabilities).index(str(row.of))
    others = np.where(np.arange(3) == output, 0, values)
    margin = np.log(values[output]) - np.log(values) @ (others / others.sum())
    assert sum(share.margin for share in row.members) == pytest.approx(margin, abs=1e-3)


def test_an_answer_of_one_member_is_that_members_alone(run: RunFolder, table: Path) -> None:
    linear = Predictor(run.path, [1], member="linear")
    row = explain(linear, linear.read(str(table), labelled=False), [1]).rows[0]
    assert [(share.member, share.weight) for share in row.members] == [("linear", 1.0)]
    assert row.credit.paths == []
    assert strongest(row) == PLANTED["card"]
    # Without gradients, what words add is by how much the margin falls, to the last digit.
    frame = linear.read(str(table), labelled=False)[[1]]
    without = frame.with_columns(pl.col("text").str.replace("fee", ""))
    made = [list(linear.predict(rows).select("^prob_.*$").row(0)) for rows in (frame, without)]
    output = made[0].index(max(made[0]))
    others = np.array([0 if i == output else p for i, p in enumerate(made[0])])
    others /= others.sum()
    before, after = (np.log(p[output]) - np.log(p) @ others for p in np.array(made))
    assert row.credit.values.max() == pytest.approx(before - after, abs=1e-9)


def test_columns_are_worth_what_the_metric_loses(explanation: Explanation) -> None:
    assert explanation.labelled == 24
    assert {importance.column for importance in explanation.importances} == {"text", "kind"}
    assert all(importance.lost > 0.05 for importance in explanation.importances)


def test_one_row_is_explained_without_a_table(predictor: Predictor) -> None:
    (row,) = explain_row(predictor, {"text": "it was my fee again", "kind": None})
    assert strongest(row) == "fee"
    assert row.removal is None
    assert row.texts["text"] == "it was my fee again"
    assert {effect.column for effect in row.columns} == {"text", "kind"}


def test_a_row_without_words_and_a_very_long_one_are_explained(
    predictor: Predictor,
) -> None:
    frame = [{"text": "", "kind": "c0"}, {"text": "fee the " * 15_000, "kind": HOSTILE}]
    rows = explain(predictor, frame, effort=Effort(steps=8, draws=1, random=2)).rows
    assert rows[0].credit.words == []
    assert rows[0].removal is None
    assert rows[1].credit.read.sum() < 20
    assert len(rows[1].credit.words) == 4_000
    assert strongest(rows[1]) == "fee"
    assert np.isfinite(rows[1].credit.values).all()


def test_the_page_and_the_numbers_are_written(run: RunFolder, table: Path, tmp_path: Path) -> None:
    page, numbers = tmp_path / "why.html", tmp_path / "why.parquet"
    hostile = pl.read_csv(table)[:3].with_columns(
        pl.when(pl.int_range(3) == 1).then(pl.lit(HOSTILE)).otherwise("text").alias("text")
    )
    hostile.write_csv(tmp_path / "hostile.csv")
    asked = ["explain", str(run.path), str(tmp_path / "hostile.csv"), "-o", str(page), "--json"]
    result = CliRunner().invoke(app, [*asked, "--rows", "2,1", "--numbers", str(numbers)])
    assert result.exit_code == 0, result.output
    told: dict[str, Any] = json.loads(result.stdout)
    assert [row["row"] for row in told["rows"]] == [2, 1]
    written = pl.read_parquet(numbers)
    assert written.filter(row=1, kind="member").height == 2
    words = [word["value"] for word in told["rows"][0]["words"]]
    assert written.filter(row=2, kind="word")["value"].to_list() == words
    html = page.read_text(encoding="utf-8")
    assert "<b>" not in html
    assert "\u202e" not in html
    assert "src=" not in html
    assert "[U+202E]" in html
    assert len(html) < 200_000  # no chart library


def test_the_least_sure_rows_come_first(run: RunFolder, table: Path, tmp_path: Path) -> None:
    asked = ["explain", str(run.path), str(table), "-o", str(tmp_path / "why.html"), "--json"]
    result = CliRunner().invoke(app, [*asked, "--most-unsure", "2", "--member", "linear"])
    linear = Predictor(run.path, member="linear")
    made = linear.predict(linear.read(str(table), labelled=False))
    sure = made.select(pl.max_horizontal("^prob_.*$")).to_series()
    found = [row["row"] for row in json.loads(result.stdout)["rows"]]
    assert found == sure.arg_sort()[:2].to_list()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rows", "1,x"], "--rows 1,x: give different row numbers from 0, with commas"),
        (["--rows", "1,1"], "--rows 1,1: give different row numbers from 0, with commas"),
        (["--rows", "99"], "--rows: there is no row 99 to explain; the table has 24 rows, 0 to 23"),
        (["--rows", "1", "--most-unsure", "3"], "--rows and --most-unsure: give one of them"),
        (["-o", "why.txt"], "-o why.txt: the file's name must end in .html"),
        (["--numbers", "why.csv"], "--numbers why.csv: the file's name must end in .parquet"),
    ],
)
def test_wrong_options_are_told_and_nothing_is_written(
    run: RunFolder,
    table: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["explain", str(run.path), str(table), *options])
    assert isinstance(result.exception, FoldwiseError)
    assert str(result.exception).startswith(message)
    assert list(tmp_path.iterdir()) == []
