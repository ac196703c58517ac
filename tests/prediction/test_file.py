"""A table to a file of labels: a line a row, whole or absent, the same bytes after any stop."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from foldwise.config.rows import Data
from foldwise.errors import FoldwiseError, RunInterrupted
from foldwise.prediction.file import Labels, Lines, Predicted, labelled, predict_file
from foldwise.run.lock import lock
from foldwise.table.chunks import Chunk, open_rows
from foldwise.table.reading import read_table

ODD = [
    None,
    "a\r\nb\rc\nd",
    "\0NUL\0",
    "😀👩‍👩‍👧 \u202eright to left\u202c שלום",
    'q"u,o;t\te',
    "x" * 1_000_000,
    "=1+1",
    "plain",
]
ROWS = 21


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("table.formats", "table.chunks"):
        monkeypatch.setattr(f"foldwise.{module}.CHUNK_ROWS", 4)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    texts = (ODD * 3)[:ROWS]
    kinds = ["a", "b", None] * 7
    frame = pl.DataFrame({"text": texts, "kind": kinds, "id": [f"0{i}" for i in range(ROWS)]})
    frame.write_parquet(tmp_path / "new.parquet")
    return tmp_path / "new.parquet"


class Model:
    """What a model would say: by the length of a text, and how often it was asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, rows: pl.DataFrame) -> pl.DataFrame:
        self.asked += rows["row"].to_list()
        length = rows["text"].fill_null("").str.len_chars().cast(pl.Float64).to_numpy()
        first = 1 / (2 + length)
        made = {"confidence": np.maximum(first, 1 - first), "prob_card": first}
        made |= {"prob_loan": 1 - first, "logit_card": first}
        label = ["card" if p > 0.5 else "loan" for p in first]
        return pl.DataFrame({"row": rows["row"], "prediction": label, **made})


Predict = Callable[..., Predicted]


@pytest.fixture
def predict(table: Path) -> Predict:
    def call(
        out: Path,
        model: Callable[[pl.DataFrame], pl.DataFrame] | None = None,
        *,
        path: Path = table,
        carry: tuple[str, ...] = (),
        **keys: Any,
    ) -> Predicted:
        data = Data.model_validate({"path": str(path), "text": ["text"], "categorical": ["kind"]})
        known = {"kind": frozenset({"a"})}
        models = keys.pop("models", {"run": "r"})
        labels = Labels(model or Model(), models, 1, known, keys.pop("more", ()))
        return predict_file(open_rows(data, carry), labels, out, **keys)

    return call


def test_each_row_has_its_line_in_the_table_s_order(predict: Predict, tmp_path: Path) -> None:
    model = Model()
    done = predict(tmp_path / "out.parquet", model)
    lines = pl.read_parquet(tmp_path / "out.parquet")
    columns = ["row", "prediction", "confidence", "prob_card", "prob_loan", "problem"]
    assert lines.columns == columns
    assert lines["row"].to_list() == model.asked == list(range(ROWS))
    highest = lines.select("prob_card", "prob_loan").to_numpy().max(axis=1)
    np.testing.assert_array_equal(lines["confidence"], highest)
    assert (done.rows, done.problems, done.unseen, done.resumed) == (ROWS, 0, {"kind": 7}, 0)
    assert done.notes() == [
        "column 'kind': 7 of 21 rows (33.3%) hold a value that training didn't have, or too rarely "
        "to learn from"
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.parquet", "out.parquet"]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_odd_texts_come_through_as_they_are(predict: Predict, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"out.{suffix}"
    predict(out, carry=("text", "id"), raw=True)
    data = Data.model_validate({"path": str(out), "text": ["text"], "categorical": ["id", "row"]})
    data = data.model_copy(update={"categorical": ["id"]})
    again = read_table(data, need_target=False).frame
    assert again["text"].to_list() == (ODD * 3)[:ROWS]
    assert again["id"].to_list() == [f"0{i}" for i in range(ROWS)]


def test_formulas_are_text_in_a_csv_unless_raw(predict: Predict, tmp_path: Path) -> None:
    predict(tmp_path / "safe.csv", carry=("text",))
    predict(tmp_path / "raw.csv", carry=("text",), raw=True)
    assert ",'=1+1\n" in (tmp_path / "safe.csv").read_text("utf-8")
    assert ",=1+1\n" in (tmp_path / "raw.csv").read_text("utf-8")


def test_columns_can_be_added_to_labelled_rows(predict: Predict, tmp_path: Path) -> None:
    def abstain(labelled: pl.DataFrame) -> pl.DataFrame:
        assert {"row", "confidence", "logit_card"} <= set(labelled.columns)
        return labelled.with_columns(abstains=pl.col("confidence") < 0.6)

    predict(tmp_path / "out.parquet", more=[abstain])
    lines = pl.read_parquet(tmp_path / "out.parquet")
    assert lines.columns[-2:] == ["abstains", "problem"]
    assert lines["abstains"].to_list() == (lines["confidence"] < 0.6).to_list()


def test_a_row_that_can_not_be_scored_keeps_its_place(predict: Predict, tmp_path: Path) -> None:
    def overflows(rows: pl.DataFrame) -> pl.DataFrame:
        broken = rows["row"] % 4 == 3
        return Model()(rows).with_columns(
            prob_card=pl.when(broken).then(float("nan")).otherwise("prob_card")
        )

    bad = tmp_path / "bad.jsonl"
    lines = [{"text": [1] if i in (0, 1, 2, 3, 5) else "fee", "kind": "a"} for i in range(9)]
    bad.write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = predict(tmp_path / "out.csv", overflows, path=bad)
    made = pl.read_csv(tmp_path / "out.csv")
    assert made["row"].to_list() == list(range(9))
    odd = made.filter(pl.col("problem").is_not_null())
    assert odd["row"].to_list() == [0, 1, 2, 3, 5, 7]
    assert odd.select("prediction", "confidence", "^prob_.*$").null_count().row(0) == (6,) * 4
    assert odd["problem"][5] == "the model's numbers for this row aren't finite"
    assert "holds a nested value" in odd["problem"][0]
    assert done.notes()[-1] == ("6 of 9 rows couldn't be scored; the column `problem` says why")


class Stopped(BaseException):
    """The end of a process, as far as the disk can tell."""


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_stopped_at_any_moment_and_given_again_the_bytes_are_the_same(
    predict: Predict, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, replace = f"out.{suffix}", os.replace
    (tmp_path / "whole").mkdir()
    predict(tmp_path / "whole" / name, carry=("id",))
    expected = (tmp_path / "whole" / name).read_bytes()
    moves = 2 * 6 + 2  # a state, two a chunk, the output
    for at in range(0, moves, 1 if suffix == "csv" else 4):
        folder = tmp_path / str(at)
        folder.mkdir()
        left = [at]

        def stop(source: Any, target: Any, left: list[int] = left) -> None:
            if left[0] == 0:
                raise Stopped
            left[0] -= 1
            replace(source, target)

        with monkeypatch.context() as killed:
            killed.setattr(os, "replace", stop)
            killed.setattr(Path, "unlink", lambda *_, **__: None)  # nobody tidies up after a kill
            killed.setattr(shutil, "rmtree", lambda *_, **__: None)
            with pytest.raises(Stopped):
                predict(folder / name, carry=("id",))
        assert not (folder / name).exists()
        model = Model()
        done = predict(folder / name, model, carry=("id",))
        assert (folder / name).read_bytes() == expected
        assert done.resumed == ROWS - len(model.asked) == min(ROWS, max(0, (at - 1) // 2) * 4)
        assert (done.rows, done.unseen) == (ROWS, {"kind": 7})
        assert [path.name for path in folder.iterdir()] == [name]


@pytest.fixture
def stopped(predict: Predict, tmp_path: Path) -> Path:
    """The folder of parts of an output whose third chunk failed."""

    def fails(rows: pl.DataFrame) -> pl.DataFrame:
        if 9 in rows["row"]:
            raise RunInterrupted("stopped")
        return Model()(rows)

    with pytest.raises(RunInterrupted):
        predict(tmp_path / "out.csv", fails)
    return tmp_path / ".out.csv.parts"


@pytest.mark.parametrize(
    ("keys", "differs"),
    [({"models": {"run": "s"}}, "models"), ({"raw": True}, "raw"), ({"carry": ("id",)}, "carry")],
)
def test_parts_of_another_prediction_are_refused_and_kept(
    predict: Predict, tmp_path: Path, stopped: Path, keys: dict[str, Any], differs: str
) -> None:
    before = sorted(stopped.iterdir())
    with pytest.raises(FoldwiseError) as refused:
        predict(tmp_path / "out.csv", **keys)
    assert str(refused.value) == (
        f"{stopped}: holds parts of an interrupted prediction that isn't this one ({differs}): "
        f"give that one's command again, choose another -o, or begin anew without them: rm -r "
        f"{stopped}"
    )
    assert sorted(stopped.iterdir()) == before
    assert predict(tmp_path / "out.csv").resumed == 8


def test_parts_of_a_table_that_changed_are_refused(
    predict: Predict, tmp_path: Path, stopped: Path, table: Path
) -> None:
    pl.read_parquet(table).with_columns(text=pl.lit("other")).write_parquet(table)
    with pytest.raises(FoldwiseError, match=r"isn't this one \(data\)"):
        predict(tmp_path / "out.csv")


def test_a_damaged_part_is_made_again(predict: Predict, tmp_path: Path, stopped: Path) -> None:
    part = stopped / "00000001.csv"
    part.write_bytes(part.read_bytes().replace(b"card", b"loan"))
    predict(tmp_path / "out.csv")
    predict(tmp_path / "other.csv")
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "other.csv").read_bytes()


def test_two_processes_never_write_one_output(
    predict: Predict, tmp_path: Path, stopped: Path
) -> None:
    with (
        lock(stopped / "lock", "out.csv"),
        pytest.raises(FoldwiseError, match=r"out\.csv is in use by process \d+"),
    ):
        predict(tmp_path / "out.csv")
    assert (stopped / "00000001.csv").exists()
    assert predict(tmp_path / "out.csv").resumed == 8


def test_a_call_that_fails_before_any_chunk_is_done_leaves_nothing(
    predict: Predict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: pl.DataFrame) -> pl.DataFrame:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        predict(tmp_path / "out.csv", full)
    assert [path.name for path in tmp_path.iterdir()] == ["new.parquet"]


def test_a_carried_column_of_a_written_one_s_name_is_refused(
    predict: Predict, tmp_path: Path, table: Path
) -> None:
    named = pl.read_parquet(table).with_columns(prediction=pl.lit("x"), row=pl.lit("y"))
    named.write_parquet(table)
    with pytest.raises(FoldwiseError) as refused:
        predict(tmp_path / "out.csv", carry=("all",))
    assert str(refused.value) == (
        "--carry: the table's column 'prediction' has the name of a column that is written: rename "
        "it in the table, or name the columns without it, as in --carry text,kind,id"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["new.parquet"]
    predict(tmp_path / "out.csv", carry=("id",))


class Elsewhere:
    """Labels chunks with two taken ahead, and may be interrupted after some."""

    def __init__(self, until: int = 1000) -> None:
        self.until, self.identity = until, {"run": "r"}
        self.labels = Labels(Model(), {}, 1, {"kind": frozenset({"a"})})

    def __call__(self, chunks: Iterator[Chunk]) -> Iterator[Lines]:
        ahead: list[Chunk] = []
        for chunk in chunks:
            ahead.append(chunk)
            if len(ahead) > 2:
                if not self.until:
                    raise KeyboardInterrupt
                self.until -= 1
                yield labelled(ahead.pop(0), self.labels)
        for chunk in ahead:
            yield labelled(chunk, self.labels)


def test_chunks_labelled_elsewhere_make_the_same_file_and_go_on_here(
    predict: Predict, tmp_path: Path
) -> None:
    whole = predict(tmp_path / "whole.csv", carry=("id",))
    expected = (tmp_path / "whole.csv").read_bytes()
    here = Model()
    assert predict(tmp_path / "a.csv", here, carry=("id",), spread=Elsewhere()) == whole
    assert (tmp_path / "a.csv").read_bytes() == expected
    assert here.asked == []
    with pytest.raises(KeyboardInterrupt):
        predict(tmp_path / "b.csv", carry=("id",), spread=Elsewhere(until=2))
    done = predict(tmp_path / "b.csv", here, carry=("id",))
    assert (tmp_path / "b.csv").read_bytes() == expected
    assert (done.resumed, here.asked) == (8, list(range(8, ROWS)))
