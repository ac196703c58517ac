"""New rows through the fold models of a finished run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from conftest import PRECISION, ROUNDING, make_table
from foldwise.cli import main
from foldwise.config.schema import Config
from foldwise.decisions.asked import Asked
from foldwise.drift.sides import training_rows
from foldwise.errors import FoldwiseError
from foldwise.predictor import Predictor
from foldwise.run.audit import seal_anew
from foldwise.run.folder import RunFolder
from foldwise.table import texts
from foldwise.tasks.text_classification import TextClassification
from foldwise.workflow import cross_validate


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("predictor")


@pytest.fixture(scope="module")
def new_rows(folder: Path) -> pl.DataFrame:
    """20 rows that no fold has seen, with gaps and a category that training doesn't have."""
    table = make_table(rows=20, seed=5).with_columns(pl.col("amount").cast(pl.Float64))
    rows = pl.int_range(pl.len())
    return table.with_columns(
        kind=pl.when(rows == 0).then(pl.lit("unseen")).when(rows == 1).then(None).otherwise("kind"),
        text=pl.when(rows == 2).then(None).otherwise("text"),
        amount=pl.when(rows == 3).then(None).otherwise("amount"),
    )


@pytest.fixture(scope="module")
def run(folder: Path, backbone: Path, table_path: Path, new_rows: pl.DataFrame) -> RunFolder:
    new_rows.drop_nulls("text").write_csv(folder / "holdout.csv")
    values: dict[str, Any] = {
        "run": {"name": "test", "dir": str(folder / "runs"), "seed": 7},
        "data": {
            "path": str(table_path),
            "target": "label",
            "text": ["text"],
            "categorical": ["kind"],
            "numeric": ["amount"],
        },
        "holdout": {"path": str(folder / "holdout.csv")},
        "folds": {"n": 2, "duplicates": "ignore"},
        "selection": {"rows": "last"},
        "text": {"max_length": 24},
        "model": {"backbone": str(backbone)},
        "optimizer": {"lr": 3e-3, "head_lr": 1e-2},
        "training": {"epochs": 1, "batch_size": 8, "device": "cpu", "precision": PRECISION},
        "trackers": [],
        "baselines": False,
        "ensemble": "model",
        "calibration": "none",
    }
    return cross_validate(Config.model_validate(values))


@pytest.fixture(scope="module")
def predictor(run: RunFolder) -> Predictor:
    return Predictor(run.path, precision=PRECISION)


def save(frame: pl.DataFrame, path: Path) -> str:
    frame.write_csv(path)
    return str(path)


def test_evaluate_and_drift_have_the_text_of_big_tables_mapped(
    run: RunFolder, predictor: Predictor, table_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not Path("/proc/self/maps").exists():
        pytest.skip("only Linux lists what a process has mapped")

    def read() -> list[pl.DataFrame | None]:
        trained = training_rows(predictor.config, predictor.code, run, predictor.task).frame
        return [trained, predictor.read(str(table_path), labelled=True)]

    held = read()
    monkeypatch.setattr(texts, "FULL", 100)
    put_down = read()
    mapped = Path("/proc/self/maps").read_text("utf-8").count("/.tokens/.texts-")
    assert mapped >= 2
    for one, other in zip(held, put_down, strict=True):
        assert one is not None
        assert other is not None
        assert one.equals(other)


def probabilities(frame: pl.DataFrame) -> np.ndarray:
    return frame.select("^prob_.*$").to_numpy()


def test_prediction_is_the_holdouts_mean_of_the_fold_models(
    run: RunFolder, predictor: Predictor, folder: Path
) -> None:
    found = predictor.predict(predictor.read(str(folder / "holdout.csv"), labelled=True))
    held = pl.read_parquet(run.holdout)
    assert found["row"].to_list() == held["row"].to_list()
    assert found["prediction"].to_list() == held["prediction"].to_list()
    np.testing.assert_allclose(probabilities(found), probabilities(held), atol=1e-6)
    folds = [pl.read_parquet(run.fold(n).holdout) for n in (1, 2)]
    mean = (probabilities(folds[0]) + probabilities(folds[1])) / 2
    np.testing.assert_allclose(probabilities(held), mean, atol=1e-12)
    names = np.array([c.removeprefix("prob_") for c in held.columns if c.startswith("prob_")])
    assert held["prediction"].to_list() == names[mean.argmax(axis=1)].tolist()


def test_each_row_gets_one_line_in_the_tables_order(
    predictor: Predictor, new_rows: pl.DataFrame, tmp_path: Path
) -> None:
    # Row 2 has no text, row 1 no category, row 3 no number: none is dropped.
    frame = predictor.read(save(new_rows, tmp_path / "a.csv"), labelled=False)
    found = predictor.predict(frame)
    assert found["row"].to_list() == list(range(20))
    assert set(found["prediction"]) <= {"card", "loan", "debt"}
    np.testing.assert_allclose(probabilities(found).sum(axis=1), 1, atol=1e-9)
    backwards = predictor.read(save(new_rows[::-1], tmp_path / "b.csv"), labelled=False)
    other = predictor.predict(backwards)
    np.testing.assert_allclose(probabilities(other)[::-1], probabilities(found), atol=ROUNDING)


def test_missing_cells_read_as_the_word_missing(
    predictor: Predictor, new_rows: pl.DataFrame, tmp_path: Path
) -> None:
    filled = new_rows.with_columns(pl.col("text", "kind").fill_null("missing"))
    a = predictor.predict(predictor.read(save(new_rows, tmp_path / "a.csv"), labelled=False))
    b = predictor.predict(predictor.read(save(filled, tmp_path / "b.csv"), labelled=False))
    np.testing.assert_allclose(probabilities(a), probabilities(b), atol=1e-6)


def test_extra_columns_other_order_and_no_target_change_nothing(
    predictor: Predictor, new_rows: pl.DataFrame, tmp_path: Path
) -> None:
    expected = predictor.predict(predictor.read(save(new_rows, tmp_path / "a.csv"), labelled=False))
    other = new_rows.select(pl.lit("x").alias("note"), "amount", "text", "kind")
    found = predictor.predict(predictor.read(save(other, tmp_path / "b.csv"), labelled=False))
    assert "target" not in found.columns
    np.testing.assert_array_equal(probabilities(found), probabilities(expected))


@pytest.mark.parametrize("size", [1, 3])
def test_rows_batched_with_a_row_do_not_change_it(
    predictor: Predictor, new_rows: pl.DataFrame, tmp_path: Path, size: int
) -> None:
    frame = predictor.read(save(new_rows, tmp_path / "a.csv"), labelled=False)
    together = probabilities(predictor.predict(frame))
    parts = [predictor.predict(frame[i : i + size]) for i in range(0, frame.height, size)]
    apart = np.concatenate([probabilities(part) for part in parts])
    np.testing.assert_allclose(apart, together, atol=ROUNDING)


def test_one_folds_model_can_be_asked_alone(run: RunFolder, folder: Path) -> None:
    alone = Predictor(run.path, [2], precision=PRECISION)
    found = alone.predict(alone.read(str(folder / "holdout.csv"), labelled=False))
    expected = pl.read_parquet(run.fold(2).holdout)
    np.testing.assert_allclose(probabilities(found), probabilities(expected), atol=1e-6)


def test_only_the_run_folder_is_read(
    run: RunFolder, predictor: Predictor, new_rows: pl.DataFrame, tmp_path: Path, folder: Path
) -> None:
    import shutil

    table = save(new_rows, tmp_path / "a.csv")
    expected = predictor.predict(predictor.read(table, labelled=False))
    moved = tmp_path / "elsewhere" / "renamed"
    shutil.copytree(run.path, moved)
    config = (moved / "config.yaml").read_text()
    gone = config.replace("table.csv", "gone.csv").replace("/bert", "/gone")
    assert gone != config
    (moved / "config.yaml").write_text(gone)
    seal_anew(RunFolder(moved), [])
    away = Predictor(moved, precision=PRECISION)
    found = away.predict(away.read(table, labelled=False))
    np.testing.assert_array_equal(probabilities(found), probabilities(expected))
    assert not (moved.parent / ".tokens").exists()


def test_fold_that_is_not_there_is_refused(run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(FoldwiseError, match=r"fold 9 isn't trained; trained are: \[1, 2\]$"):
        Predictor(run.path, [1, 9])
    with pytest.raises(FoldwiseError, match=r"not a run folder"):
        Predictor(tmp_path)


def test_missing_column_is_refused_naming_it(
    predictor: Predictor, new_rows: pl.DataFrame, tmp_path: Path
) -> None:
    with pytest.raises(FoldwiseError, match="'kind'"):
        predictor.read(save(new_rows.drop("kind"), tmp_path / "a.csv"), labelled=False)


def test_a_file_of_labels_says_what_predict_says(
    predictor: Predictor, new_rows: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foldwise.table.formats.CHUNK_ROWS", 8)
    tokenized: list[int] = []

    def counted(task: TextClassification, frame: pl.DataFrame) -> Any:
        tokenized.append(frame.height)
        return dataset(task, frame)

    dataset = TextClassification.dataset
    monkeypatch.setattr(TextClassification, "dataset", counted)
    table = save(new_rows, tmp_path / "a.csv")
    done = predictor.predict_file(table, tmp_path / "out.parquet")
    assert tokenized == [8, 8, 4]  # once for both folds
    assert (done.rows, done.problems, done.absent) == (20, 0, {})
    found = pl.read_parquet(tmp_path / "out.parquet")
    expected = predictor.predict(predictor.read(table, labelled=False))
    assert found["prediction"].to_list() == expected["prediction"].to_list()
    np.testing.assert_allclose(probabilities(found), probabilities(expected), atol=ROUNDING)


def test_the_command_tells_what_is_absent_unseen_and_carried(
    run: RunFolder,
    new_rows: pl.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = new_rows.drop("amount").with_columns(id=pl.int_range(pl.len()).cast(pl.String))
    rows.with_columns(kind=pl.lit("new kind")).write_ndjson("new.jsonl")
    known = {"kind": ["c0", "l1", "d2"]}
    monkeypatch.setattr(TextClassification, "categories_known", lambda _: known)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    words = ["predict", str(run.path), "new.jsonl", "-o", "out.jsonl", "--carry", "id,kind"]
    monkeypatch.setattr("sys.argv", ["foldwise", *words, "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    printed, told = capsys.readouterr()
    assert ended.value.code == 0, told
    result = json.loads(printed)
    assert result["absent"] == {"amount": {"rows": 20, "share": 1.0}}
    assert result["unseen"] == {"kind": {"rows": 20, "share": 1.0}}
    assert (result["rows"], result["problems"], result["resumed"]) == (20, 0, 0)
    assert "note: new.jsonl: has no column 'amount': missing in all rows\n" in told
    assert "note: column 'kind': 20 of 20 rows (100.0%) hold a value that training didn't" in told
    lines = pl.read_ndjson("out.jsonl")
    assert lines.columns[-3:] == ["problem", "id", "kind"]
    assert lines["id"].to_list() == rows["id"].to_list()


def test_sets_of_new_rows_compare_each_fold_with_its_own_rows(
    run: RunFolder, new_rows: pl.DataFrame
) -> None:
    both = Predictor(run.path, precision=PRECISION)
    both.decide(Asked(sets=0.6))
    found = both.predict(new_rows.drop("label"))
    known = pl.read_parquet(run.out_of_fold)
    classes = [name for name in found.columns if name.startswith("prob_")]
    stranger = np.zeros((new_rows.height, 3))
    for number in (1, 2):
        alone = Predictor(run.path, folds=[number], precision=PRECISION)
        new = probabilities(alone.predict(new_rows.drop("label")))
        rows = known.filter(pl.col("fold") == number)
        own = [row[f"prob_{row['target']}"] for row in rows.iter_rows(named=True)]
        stranger += (np.array(own)[:, None, None] <= new + 1e-12).sum(axis=0)
    kept = (1 + stranger) / (1 + known.height) > 0.4
    names = [name.removeprefix("prob_") for name in classes]
    wanted = [";".join(np.array(names)[row]) for row in kept]
    assert found["set"].to_list() == wanted
    assert found["set_size"].to_list() == kept.sum(axis=1).tolist()
    assert found["confidence"].to_list() == probabilities(found).max(axis=1).tolist()


def test_a_run_that_isnt_finished_promises_nothing(run: RunFolder, tmp_path: Path) -> None:
    shutil.copytree(run.path, tmp_path / "half")
    (tmp_path / "half" / "metrics.json").unlink()
    predictor = Predictor(tmp_path / "half", precision=PRECISION)
    with pytest.raises(FoldwiseError, match="isn't finished, and --abstain, --costs and --sets"):
        predictor.decide(Asked(abstain=0.5))


def test_a_class_with_a_line_break_in_its_name_has_a_probability_too(
    predictor: Predictor, new_rows: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["card\nor cash", "debt", "loan"]
    for fold in predictor._folds:
        monkeypatch.setattr(fold.task.half, "classes", names)
    found = predictor.predict(new_rows)
    assert found.columns == ["prediction", *(f"prob_{name}" for name in names)]
