"""Cross-validation and prediction from Python: frames in, frames out, progress where one looks."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from conftest import make_table
from foldwise import Config, Predictor, cross_validate, load_config, validate
from foldwise.errors import FoldwiseError
from foldwise.run.folder import RunFolder
from foldwise.run.readers import read_json

COLUMNS = {"text": ["text"], "categorical": ["kind"], "numeric": ["amount"]}
NEW = [
    {"text": "credit card fee", "kind": "c1", "amount": 0.5},
    {"text": None, "kind": None, "amount": None},
    {"text": "student loan", "kind": "never seen", "amount": "-1"},
]


def small(folder: Path, backbone: Path) -> dict[str, Any]:
    return {
        "run": {"name": "frames", "dir": str(folder / "runs")},
        "data": {"target": "label", **COLUMNS},
        "folds": {"n": 2, "duplicates": "ignore"},
        "selection": {"rows": "last"},
        "text": {"max_length": 24},
        "model": {"backbone": str(backbone)},
        "optimizer": {"lr": 3e-3},
        "training": {"epochs": 1, "batch_size": 8, "device": "cpu", "precision": "float32"},
        "trackers": [],
        "baselines": False,
        "ensemble": "model",
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("python")


@pytest.fixture(scope="module")
def run(folder: Path, backbone: Path) -> RunFolder:
    return cross_validate(small(folder, backbone), data=make_table(rows=40))


@pytest.fixture(scope="module")
def predictor(run: RunFolder) -> Predictor:
    return Predictor(run.path)


@pytest.fixture(scope="module")
def expected(predictor: Predictor, folder: Path) -> pl.DataFrame:
    """What the command writes for the same rows in a file."""
    pl.DataFrame(NEW, schema=dict.fromkeys(NEW[0], pl.String), strict=False).write_csv(
        folder / "new.csv"
    )
    found = predictor.predict(predictor.read(str(folder / "new.csv"), labelled=False))
    return found.select("prediction", pl.col("^prob_.*$"))


def test_a_frame_trains_what_its_file_trains(
    run: RunFolder, folder: Path, backbone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_table(rows=40).write_parquet(folder / "table.parquet")
    overrides = {"run.name": "file", "data.path": folder / "table.parquet"}
    other = cross_validate(small(folder, backbone), overrides=overrides)
    assert run.out_of_fold.read_bytes() == other.out_of_fold.read_bytes()
    scores, others = read_json(run.metrics), read_json(other.metrics)
    assert scores == others
    assert capsys.readouterr().out == ""  # no notebook: nobody asked to be shown anything


def test_the_run_finds_its_table_again(run: RunFolder, folder: Path, backbone: Path) -> None:
    before, log = run.out_of_fold.read_bytes(), run.log.read_bytes()
    again = cross_validate(small(folder, backbone), data=make_table(rows=40).to_dicts())
    assert (again, run.log.read_bytes()) == (run, log)  # finished: nothing was done
    scores = read_json(run.metrics)
    assert validate(run.path)["oof"] == scores["oof"]
    assert run.out_of_fold.read_bytes() == before
    path = Path(str(load_config(run.config).data.path))
    assert path.parent == run.path.parent / ".tables"
    assert pl.read_parquet(path).equals(make_table(rows=40))


def test_other_rows_are_another_runs(run: RunFolder, folder: Path, backbone: Path) -> None:
    with pytest.raises(FoldwiseError, match=r"frames was made with another config.*data\.path"):
        cross_validate(small(folder, backbone), data=make_table(rows=41))
    assert len(list(run.tables.iterdir())) == 1


def test_an_absent_column_is_one_error_and_leaves_nothing(tmp_path: Path, backbone: Path) -> None:
    config = small(tmp_path, backbone)
    with pytest.raises(FoldwiseError, match=r"^data: has no column 'label'; did you mean 'labels'"):
        cross_validate(config, data=make_table(rows=40).rename({"label": "labels"}))
    assert not (tmp_path / "runs").exists()


def test_rows_in_any_form_give_the_same_predictions(
    predictor: Predictor, expected: pl.DataFrame
) -> None:
    frame = pl.DataFrame(NEW, schema={"text": pl.String, "kind": pl.String, "amount": pl.String})
    assert predictor.predict(frame).equals(expected)
    assert predictor.predict(frame.with_columns(pl.col("amount").cast(float))).equals(expected)
    assert predictor.predict(NEW) == expected.to_dicts()
    assert predictor.predict([row | {"more": [1]} for row in NEW]) == expected.to_dicts()
    assert expected.columns == ["prediction", "prob_card", "prob_debt", "prob_loan"]


def test_a_pandas_frame_gives_a_pandas_frame_with_its_index(
    predictor: Predictor, expected: pl.DataFrame
) -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(NEW, index=["b", "a", "b"])
    found = predictor.predict(frame)
    assert isinstance(found, pd.DataFrame)
    assert found.index.tolist() == ["b", "a", "b"]
    assert found.columns.tolist() == expected.columns
    np.testing.assert_array_equal(found["prob_loan"].to_numpy(), expected["prob_loan"].to_numpy())


def test_a_read_table_can_be_predicted_as_before(
    predictor: Predictor, folder: Path, expected: pl.DataFrame
) -> None:
    frame = predictor.read(str(folder / "new.csv"), labelled=False)
    found = predictor.predict(frame[1:])
    assert found["row"].to_list() == [1, 2]
    assert found["prediction"].to_list() == expected["prediction"].to_list()[1:]
    assert "logit_card" in found.columns


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"text": "a", "amount": 1}], r"^rows: has no column 'kind'; did you mean"),
        (pl.DataFrame({"row": [0], "text": ["a"]}), r"^rows: has no column 'kind'; did you mean"),
        (["a text"], "it has the columns 'text', 'kind', 'amount'; give a frame"),
        ([NEW[0] | {"kind": {1: 2}}], r"^rows: column 'kind' holds dict \(row 0\)"),
        ([NEW[0] | {"amount": "much"}], r"^rows: column 'amount' holds 1 cells that aren't finite"),
        ({"text": "a"}, "not builtins.dict"),
    ],
)
def test_rows_that_cannot_be_predicted_are_told(
    predictor: Predictor, rows: Any, message: str
) -> None:
    with pytest.raises(FoldwiseError, match=message):
        predictor.predict(rows)


def test_texts_alone_are_rows(
    folder: Path, backbone: Path, make_config: Callable[..., Config]
) -> None:
    config = small(folder, backbone)
    config["data"] = {"target": "label", "text": ["text"]}
    run = cross_validate(config, [1], overrides={"run.name": "texts"}, data=make_table(rows=40))
    predictor = Predictor(run.path)
    texts = ["credit card fee", "student loan"]
    found = predictor.predict(texts)
    assert found == predictor.predict([{"text": text} for text in texts])
    assert [set(row) for row in found] == [
        {"prediction", "prob_card", "prob_debt", "prob_loan"}
    ] * 2


def test_an_interactive_session_shows_progress_and_scores(
    folder: Path,
    backbone: Path,
    run: RunFolder,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    config = load_config(small(folder, backbone), {"run.name": "shown"}, table="data")
    shown = cross_validate(config, data=make_table(rows=40))
    out = capsys.readouterr().out
    assert "folds of 20, 20 rows" in out
    for number in (1, 2):
        score = read_json(shown.fold(number).validation)["scores"]["f1_macro"]
        assert f"fold {number}" in out
        assert f"{score:.3f}" in out
    assert "\x1b" not in out
    assert shown.out_of_fold.read_bytes() == run.out_of_fold.read_bytes()
    cross_validate(config, console=None, data=make_table(rows=40), overrides={"run.name": "quiet"})
    assert capsys.readouterr().out == ""
