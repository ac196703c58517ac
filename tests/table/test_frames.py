"""Rows at hand: their cells are what they would be in a file."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from foldwise.config.rows import Data
from foldwise.errors import FoldwiseError
from foldwise.run.folder import RunFolder
from foldwise.table.frames import content_sha256, kept_table, to_frame
from foldwise.table.reading import read_table, take_rows

TEXTS = ["a b", "", None, " ", "NaN"]


def as_read(rows: Any, tmp_path: Path, **roles: Any) -> pl.DataFrame:
    """What a run reads of rows that it was given."""
    run = RunFolder(tmp_path / "runs" / "test")
    with kept_table(rows, run, []) as path:
        return read_table(Data(path=str(path), **roles)).frame.drop("row")


def test_cells_of_a_polars_frame_are_those_of_its_parquet_file(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "text": TEXTS,
            "kind": pl.Series(["x", "y", None, "x", "y"], dtype=pl.Categorical),
            "amount": [1.5, float("nan"), None, -2, 0],
            "day": [dt.date(2024, 1, 2), None, dt.date(1999, 12, 31)] + [None] * 2,
            "label": [True, False, True, False, True],
        }
    )
    frame.write_parquet(tmp_path / "table.parquet")
    roles = {"text": ["text"], "categorical": ["kind", "day"], "numeric": ["amount"]}
    data = Data(path=str(tmp_path / "table.parquet"), target="label", **roles)
    found = as_read(frame, tmp_path, target="label", **roles)
    assert found.equals(read_table(data).frame.drop("row"))
    assert found["label"].to_list() == ["true", "false", "true", "false", "true"]
    assert found["text"].to_list() == ["a b", None, None, None, "NaN"]
    assert found["amount"].to_list() == [1.5, None, None, -2.0, 0.0]


@pytest.mark.parametrize("dtype", ["object", "str", "string[python]", "string[pyarrow]"])
def test_texts_of_pandas_are_the_same_whatever_holds_them(dtype: str, tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    if "pyarrow" in dtype:
        pytest.importorskip("pyarrow")
    frame = pd.DataFrame({"text": pd.Series(TEXTS, dtype=dtype), "label": list("abcde")})
    found = as_read(frame, tmp_path, text=["text"], target="label")
    assert found["text"].to_list() == ["a b", None, None, None, "NaN"]


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([1, 0, 2], "int64", ["1", "0", "2"]),
        ([1, None, 2], "Int64", ["1", None, "2"]),
        ([1, None, 2], "int64[pyarrow]", ["1", None, "2"]),
        ([1, None, 2], "float64", ["1.0", None, "2.0"]),
        ([True, False, True], "bool", ["true", "false", "true"]),
        ([True, None, False], "boolean", ["true", None, "false"]),
        ([True, None, "no"], "object", ["true", None, "no"]),
        ([1, 2.5, "x"], "object", ["1", "2.5", "x"]),
        (["b", None, "a"], "category", ["b", None, "a"]),
        ([3, None, 1], "category", ["3", None, "1"]),
        (["x", float("nan"), None], "object", ["x", None, None]),
    ],
)
def test_labels_of_pandas_are_what_they_look_like(
    values: list[Any], dtype: str, expected: list[str | None], tmp_path: Path
) -> None:
    pd = pytest.importorskip("pandas")
    if "pyarrow" in dtype:
        pytest.importorskip("pyarrow")
    frame = pd.DataFrame({"label": pd.Series(values, dtype=dtype), "text": list("abc")})
    found = as_read(frame, tmp_path, text=["text"], target="label")
    assert found["label"].to_list() == expected


def test_numbers_of_pandas_keep_their_digits(tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    numbers = [0.1, 1e-300, 12345678901234.5]
    columns = {
        "float": numbers,
        "nullable": pd.Series(numbers, dtype="Float64"),
        "object": pd.Series([1, 2.5, None], dtype=object),
        "narrow": pd.Series([1, 2, 3], dtype="int8"),
    }
    frame = pd.DataFrame(columns | {"label": list("abc")})
    found = as_read(frame, tmp_path, numeric=list(columns), target="label")
    assert found["float"].to_list() == found["nullable"].to_list() == numbers
    assert found["object"].to_list() == [1.0, 2.5, None]
    assert found["narrow"].to_list() == [1.0, 2.0, 3.0]


def test_rows_of_pandas_are_numbered_by_position_not_by_index(tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"text": ["a", "b"], "label": ["x", "y"]}, index=[7, 7])
    frame, _ = to_frame(frame)
    assert frame.columns == ["text", "label"]
    assert frame["text"].to_list() == ["a", "b"]


def test_a_column_that_is_the_index_is_told(tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"text": ["a"], "label": ["x"]}).set_index("text")
    expected = r"^data: 'text' is the frame's index, which is no column: give data.reset_index\(\)$"
    run = RunFolder(tmp_path / "runs" / "test")
    with pytest.raises(FoldwiseError, match=expected), kept_table(frame, run, ["text"]):
        pass
    assert not (tmp_path / "runs").exists()


def test_a_name_that_stands_twice_is_no_column() -> None:
    pd = pytest.importorskip("pandas")
    frame, unread = to_frame(pd.DataFrame([[1, 2, "x"]], columns=["a", "a", "b"]))
    assert frame.columns == ["b"]
    assert unread == {"a": "stands in the frame twice: rename one of them"}


def test_dicts_are_rows_and_lists_are_sets_of_labels(tmp_path: Path) -> None:
    rows = [{"text": "a", "tags": ["x", "y"]}, {"tags": []}, {"text": "c", "tags": None, "n": 1}]
    frame, unread = to_frame(rows)
    assert unread == {}
    assert frame["text"].to_list() == ["a", None, "c"]
    assert frame["tags"].to_list() == [["x", "y"], [], None]
    assert frame["n"].to_list() == [None, None, 1]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "there are no rows: the list is empty"),
        (pl.DataFrame({"text": []}), "there are no rows: the frame is empty"),
        ("text", "rows can be a polars or pandas frame, .* a list of texts, not builtins.str"),
        ([1, 2], "not builtins.list that holds int"),
        ([{"a": {}}], r"no column of the frame can be taken: 'a' holds dict \(row 0\)"),
        (pl.DataFrame({"a": [dt.timedelta(1)]}), "'a' holds Duration.*: convert it to strings"),
        ([{"a": [{}]}], "'a' holds lists of dict: write lists of strings"),
        (pl.LazyFrame({"text": ["a"]}), r"not polars\S*LazyFrame"),
    ],
)
def test_what_is_no_rows_is_told(rows: Any, message: str) -> None:
    with pytest.raises(FoldwiseError, match=message):
        to_frame(rows, ["text"])


def test_a_text_is_a_row_only_where_a_row_is_one_text() -> None:
    assert to_frame(["a", None], ["body"])[0].to_dict(as_series=False) == {"body": ["a", None]}
    with pytest.raises(FoldwiseError, match="it has the columns 'text', 'kind'; give a frame"):
        to_frame(["a"], ["text", "kind"])


def test_a_column_that_cannot_be_taken_is_told_only_where_it_is_needed(tmp_path: Path) -> None:
    rows = [{"text": "a", "odd": object(), "label": "x"}]
    assert to_frame(rows)[0].columns == ["text", "label"]
    run = RunFolder(tmp_path / "runs" / "test")
    expected = r"^data: column 'odd' holds object \(row 0\): convert it to strings$"
    with pytest.raises(FoldwiseError, match=expected), kept_table(rows, run, ["odd"]):
        pass


def test_the_same_rows_are_the_same_table_whatever_holds_them(tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    plain = {"text": ["a", None], "n": [1, 2]}
    frame = pl.DataFrame(plain)
    chunked = pl.concat([frame[:1], frame[1:]], rechunk=False)
    hashes = {
        content_sha256(to_frame(rows)[0])
        for rows in (frame, chunked, pd.DataFrame(plain), frame.to_dicts())
    }
    assert len(hashes) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"text": ["ab", ""], "n": [1, 2]},
        {"text": ["a", "b"], "n": [1, 2]},
        {"text": ["", "ab"], "n": [1, 2]},
        {"text": [None, "ab"], "n": [1, 2]},
        {"text": ["a", "b"], "n": [1.0, 2.0]},
        {"n": [1, 2], "text": ["a", "b"]},
        {"text": ["a", "b"], "m": [1, 2]},
        {"text": [["a"], ["b"]], "n": [1, 2]},
        {"text": ["a"], "n": [1]},
    ],
)
def test_other_rows_are_another_table(other: dict[str, list[Any]]) -> None:
    first = pl.DataFrame({"text": ["a", ""], "n": [1, 2]})
    assert content_sha256(first) != content_sha256(pl.DataFrame(other))


def test_a_table_is_written_once(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "runs" / "test")
    frame = pl.DataFrame({"text": ["a", "b"]})
    with kept_table(frame, run, []) as path:
        written = path.stat().st_mtime_ns
    with kept_table(frame.to_dicts(), run, []) as again:
        assert (again, again.stat().st_mtime_ns) == (path, written)
    assert path.parent == tmp_path / "runs" / ".tables"
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_damaged_table_is_written_anew(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "runs" / "test")
    frame = pl.DataFrame({"text": ["a", "b"], "n": [1, None]})
    with kept_table(frame, run, []) as path:
        written = path.read_bytes()
    for damaged in (written[:-9], b""):
        path.write_bytes(damaged)
        with kept_table(frame, run, []):
            assert path.read_bytes() == written
    pl.DataFrame({"text": ["other"]}).write_parquet(path)
    with kept_table(frame, run, []):
        assert path.read_bytes() == written


def test_tables_are_not_written_through_a_link(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "runs" / "test")
    (tmp_path / "elsewhere").mkdir()
    run.path.parent.mkdir()
    run.tables.symlink_to(tmp_path / "elsewhere")
    with (
        pytest.raises(FoldwiseError, match="is a link; remove it, tables lie beside the runs"),
        kept_table(pl.DataFrame({"text": ["a"]}), run, []),
    ):
        pass
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize(
    "column",
    [
        pl.Series(["x", None], dtype=pl.Categorical),
        pl.Series(["x", None], dtype=pl.Enum(["x", "y"])),
        pl.Series([None, None]),
        pl.Series([{"x": 1}, None]),
        pl.Series([["a", None], []]),
        pl.Series([dt.datetime(2024, 1, 2), None]).dt.replace_time_zone("Europe/Berlin"),
        pl.Series([float("inf"), float("nan")]),
        pl.Series([10**30, None], dtype=pl.Int128),
    ],
    ids=lambda column: str(column.dtype),
)
def test_a_table_on_the_disk_is_known_again(column: pl.Series, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "runs" / "test")
    with kept_table(column.to_frame("a"), run, []) as path:
        written = path.stat().st_mtime_ns
    with kept_table(column.to_frame("a"), run, []):
        assert path.stat().st_mtime_ns == written


def test_refused_rows_leave_nothing_and_are_called_data(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "runs" / "test")
    with (
        pytest.raises(FoldwiseError, match=r"^data: column 'n' holds 1 cells"),
        kept_table(pl.DataFrame({"n": ["1", "x"]}), run, ["n"]) as path,
    ):
        read_table(Data(path=str(path), numeric=["n"]))
    assert not (tmp_path / "runs").exists()


def test_rows_refused_by_one_run_stay_for_another(tmp_path: Path) -> None:
    frame = pl.DataFrame({"n": ["1", "x"]})
    with kept_table(frame, RunFolder(tmp_path / "runs" / "a"), []) as path:
        pass
    with (
        pytest.raises(FoldwiseError),
        kept_table(frame, RunFolder(tmp_path / "runs" / "b"), []) as again,
    ):
        raise FoldwiseError("no")
    assert again == path
    assert path.exists()


def test_rows_to_predict_follow_the_rules_of_a_file() -> None:
    data = Data(text=["text"], categorical=["kind"], numeric=["amount"])
    rows = [
        {"text": " ", "kind": 3, "amount": "1.5", "other": {}},
        {"text": "a", "kind": None, "amount": np.float32(2)},
    ]
    frame = take_rows(to_frame(rows)[0], data)
    assert frame.to_dicts() == [
        {"row": 0, "text": None, "kind": "3", "amount": 1.5},
        {"row": 1, "text": "a", "kind": None, "amount": 2.0},
    ]
    with pytest.raises(FoldwiseError, match=r"^rows: has no column 'kind'; did you mean 'kid'\?"):
        take_rows(to_frame([{"text": "a", "kid": 1, "amount": 1}])[0], data)
    with pytest.raises(FoldwiseError, match=r"^rows: column 'amount' holds .*\(row 0: 'x'\)"):
        take_rows(to_frame([{"text": "a", "kind": 1, "amount": "x"}])[0], data)


def test_pandas_is_taken_without_pyarrow_and_not_imported_for_others() -> None:
    pytest.importorskip("pandas")
    code = """
import sys
sys.modules["pyarrow"] = None
from foldwise.table.frames import to_frame
to_frame([{"text": "a"}])
assert "pandas" not in sys.modules
import pandas as pd
columns = {"t": ["a", None], "i": [1, 2], "c": pd.Categorical(["x", "y"]), "b": [True, False]}
columns["d"] = pd.to_datetime(["2024-01-02", None])
frame, unread = to_frame(pd.DataFrame(columns))
import json
print(json.dumps([frame["t"].to_list(), frame["c"].to_list(), str(frame["d"][0]), unread]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [["a", None], ["x", "y"], "2024-01-02 00:00:00", {}]
