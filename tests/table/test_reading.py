"""The table: cell for cell what the file says, or one error that names file and place."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foldwise.config.rows import Data, PerClass
from foldwise.errors import FoldwiseError
from foldwise.table.reading import apply_missing, draw_sample, read_table


def written(folder: Path, name: str, content: str | bytes) -> Path:
    raw = content.encode() if isinstance(content, str) else content
    path = folder / name
    path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    return path


def config(path: Path | str, **roles: Any) -> Data:
    roles = roles or {"text": ["t"], "target": "y"}
    return Data(path=str(path), **roles)


def cells(path: Path | str, **roles: Any) -> list[tuple[str | None, ...]]:
    return read_table(config(path, **roles)).frame.drop("row").rows()


# --- files that are read: name, content, the rows of (t, y)
READ: dict[str, tuple[str, str | bytes, list[tuple[str | None, str | None]]]] = {
    "plain": ("a.csv", "t,y\nhi,a\nyo,b\n", [("hi", "a"), ("yo", "b")]),
    "no last line end": ("a.csv", "t,y\nhi,a", [("hi", "a")]),
    "byte order mark": ("a.csv", b"\xef\xbb\xbft,y\nhi,a\n", [("hi", "a")]),
    "byte order mark before a quote": ("a.csv", b'\xef\xbb\xbf"t",y\nhi,a\n', [("hi", "a")]),
    "CRLF": ("a.csv", "t,y\r\nhi,a\r\n", [("hi", "a")]),
    "CR only": ("a.csv", "t,y\rhi,a\ryo,b\r", [("hi", "a"), ("yo", "b")]),
    "quoted comma": ("a.csv", 't,y\n"hi, you",a\n', [("hi, you", "a")]),
    "quoted line ends": ("a.csv", 't,y\n"l1\nl2\r\nl3\rl4",a\n', [("l1\nl2\r\nl3\rl4", "a")]),
    "doubled quotes": ("a.csv", 't,y\n"say ""hi""",a\n', [('say "hi"', "a")]),
    "stray quote inside": ("a.csv", 't,y\n5" disk,a\n', [('5" disk', "a")]),
    "text after a closing quote": ("a.csv", 't,y\n"hi" you,a\n', [("hi you", "a")]),
    "unclosed quote at the end": ("a.csv", 'y,t\na,"hi\nyo', [("hi\nyo", "a")]),
    "NUL": ("a.csv", "t,y\nh\0i,a\n", [("h\0i", "a")]),
    "blank lines": ("a.csv", "\n\nt,y\n\nhi,a\n\n\nyo,b\n\n", [("hi", "a"), ("yo", "b")]),
    "unwanted columns": ("a.csv", "z,t,row,y\n1,hi,2,a\n", [("hi", "a")]),
    "empty and blank cells": (
        "a.csv",
        "t,y\n,a\n \t ,b\nx,\n",
        [(None, "a"), (None, "b"), ("x", None)],
    ),
    "words for missing": ("a.csv", "t,y\nNA,null\nNone,nan\n", [("NA", "null"), ("None", "nan")]),
    "leading zeros": ("a.csv", "t,y\n01234,1.0\n328XX,1e3\n", [("01234", "1.0"), ("328XX", "1e3")]),
    "spaces around": ("a.csv", "t,y\n hi ,a \n", [(" hi ", "a")]),
    "emoji and NEL": ("a.csv", "t,y\n👍\x85\u2028x,ä\n", [("👍\x85\u2028x", "ä")]),
    "upper-case suffix": ("A.CSV", "t,y\nhi,a\n", [("hi", "a")]),
    "gzip": ("a.csv.gz", "t,y\nhi,a\n", [("hi", "a")]),
    "gzip with byte order mark": ("a.csv.gz", b"\xef\xbb\xbft,y\nhi,a\n", [("hi", "a")]),
    "TSV": ("a.tsv", 't\ty\n"a\tb"\ta,b\n', [("a\tb", "a,b")]),
    "TSV gzip": ("a.tsv.gz", "t\ty\nhi\ta\n", [("hi", "a")]),
    "glob characters in the name": ("a[1].csv", "t,y\nhi,a\n", [("hi", "a")]),
    "semicolons": ("a.csv", "t;y\n1,5;a\n2,5;b\n", [("1,5", "a"), ("2,5", "b")]),
    "tabs in .csv": ("a.csv", "t\ty\nhi, you\ta\n", [("hi, you", "a")]),
    "bars": ("a.csv", "t|y\nhi|a\n", [("hi", "a")]),
    "commas in .tsv": ("a.tsv", "t,y\nhi,a\n", [("hi", "a")]),
    "semicolons in every text": (
        "a.csv",
        "t,y;z,y\na;b,1;2,c\nd;e,3;4,f\n",
        [("a;b", "c"), ("d;e", "f")],
    ),
    "UTF-16 with mark": ("a.csv", "t,y\nhé,a\n".encode("utf-16"), [("hé", "a")]),
    "UTF-16, high byte first": (
        "a.csv",
        b"\xfe\xff" + "t,y\nhi,a\n".encode("utf-16-be"),
        [("hi", "a")],
    ),
    "UTF-16 without mark": ("a.csv", "t,y\nhi,a\n".encode("utf-16-le"), [("hi", "a")]),
    "Latin-1": ("a.csv", "t,y\nhi,a\ncafé,b\n".encode("latin-1"), [("hi", "a"), ("café", "b")]),
    "Latin-1, CR only": ("a.csv", "t,y\rcafé,b\r".encode("latin-1"), [("café", "b")]),
    "Latin-1 in gzip": ("a.csv.gz", b"t,y\n\xe9t\xe9,a\n", [("été", "a")]),
    "Latin-1 JSONL": ("a.jsonl", b'{"t": "\xe9t\xe9", "y": "a"}\n', [("été", "a")]),
    "Windows-1252": (
        "a.csv",
        "t,y\nit\u2019s 5 \u20ac,b\n".encode("cp1252"),
        [("it\u2019s 5 \u20ac", "b")],
    ),
    "damage in another column": (
        "a.csv",
        "t,y,z\ncafé,a,x\n".encode() + b"hi,b,caf\xc3\n",
        [("café", "a"), ("hi", "b")],
    ),
    "other columns of one name": ("a.csv", "t,z,y,z\nhi,1,a,2\n", [("hi", "a")]),
    "other keys of one name": (
        "a.jsonl",
        '{"t": "hi", "z": 1, "y": "a", "z": {"z": 2}}',
        [("hi", "a")],
    ),
    "nested values elsewhere": ("a.jsonl", '{"t": "hi", "y": "a", "z": [{"a": 1}]}', [("hi", "a")]),
    "half a character elsewhere": ("a.jsonl", '{"t":"hi","y":"a","z":"\\ud83d"}', [("hi", "a")]),
    "white space around labels": ("a.csv", "t,y\nhi,a \nyo,\ta\n", [("hi", "a"), ("yo", "a")]),
    "JSONL": (
        "a.jsonl",
        '{"t": "hi", "y": "a"}\n\n{"y": "b", "t": "é"}\n',
        [("hi", "a"), ("é", "b")],
    ),
    "JSONL missing key and null": (
        "a.jsonl",
        '{"t":"x","y":"a"}\n{"t":null,"y":"b"}\n{"y":"c"}',
        [("x", "a"), (None, "b"), (None, "c")],
    ),
    "JSONL numbers as written": (
        "a.jsonl",
        '{"t": 5, "y": true}\n{"t": 5.0, "y": false}\n{"t": 1e400, "y": 0}',
        [("5", "true"), ("5.0", "false"), ("1e400", "0")],
    ),
    "JSONL NaN": (
        "a.jsonl",
        '{"t": NaN, "y": "a"}\n{"t": "x", "y": "b"}',
        [(None, "a"), ("x", "b")],
    ),
    "JSONL escapes": (
        "a.jsonl",
        '{"t": "\\ud83d\\udc4d\\u0000\\n", "y": "\u2028a"}',
        [("👍\0\n", "a")],
    ),
    "JSONL byte order mark": ("a.ndjson", b'\xef\xbb\xbf{"t": "hi", "y": "a"}\r\n', [("hi", "a")]),
    "JSONL gzip": ("a.ndjson.gz", '{"t": "hi", "y": "a"}', [("hi", "a")]),
}


@pytest.mark.parametrize("case", READ)
def test_reads_each_cell_as_it_stands(tmp_path: Path, case: str) -> None:
    name, content, rows = READ[case]
    assert cells(written(tmp_path, name, content)) == rows


# --- files that are refused: name, content, what the message says after the file's name
REFUSED: dict[str, tuple[str, str | bytes, str]] = {
    "empty": ("a.csv", "", "the file is empty"),
    "blank lines only": ("a.csv", "\n\n", "the file is empty"),
    "byte order mark only": ("a.csv", b"\xef\xbb\xbf", "the file is empty"),
    "header only": ("a.csv", "t,y\n", "header but no rows"),
    "short row": ("a.csv", "t,y\nhi,a\nyo\n", "line 3 (row 1) has 1 cells, the header has 2"),
    "long row": ("a.csv", "t,y\nhi,a,b\n", "line 2 (row 0) has 3 cells"),
    "short row after line breaks": ("a.csv", 't,y\n"1\n2\r\n3",a\n"x\ny"\n', "line 5 (row 1)"),
    "unclosed quote": ("a.csv", 't,y\nhi,a\n"yo,b\nx,c\n', "line 3 (row 1) has 1 cells"),
    "line of spaces": ("a.csv", "t,y\nhi,a\n  \n", "line 3 (row 1) has 1 cells"),
    "column named twice": ("a.csv", "t,y,t\n1,2,3\n", "names column 't' twice"),
    "key named twice": ("a.jsonl", '{"t": "x", "y": "a", "t": "z"}', "names column 't' twice"),
    "semicolons, another name": ("a.csv", "x;y\nhi;a\n", "has no column 't'; did you mean 'y'?"),
    "other case": ("a.csv", "T,y\nhi,a\n", "has no column 't'; did you mean"),
    "cut UTF-16": ("a.csv", "t,y\nhi,a\n".encode("utf-16")[:-1], "isn't utf-16 throughout"),
    "Cyrillic code page": (
        "a.csv",
        b"t,y\n\xef\xf0\xe8\xe2\xe5\xf2,a\n",
        "its encoding isn't certain: save it as UTF-8, or name it under data.encoding "
        "(cp1252 reads 'ïðèâåò', cp1250 reads 'ďđčâĺň', cp1251 reads '",
    ),
    "a byte of UTF-8 lost": (
        "a.csv",
        "t,y\nhi,a\ncafé,b\n".encode() + "naïv\u00e9".encode()[:-1] + b",b\n",
        "row 2, column 't': byte 0xc3 isn't utf-8, in 'na\\xefv\\udcc3': correct the cell",
    ),
    "cut inside a character": ("a.csv", "t,y\nhi,é".encode()[:-1], "row 0, column 'y': byte 0xc3"),
    "gzip named .csv": ("a.csv", gzip.compress(b"t,y\nhi,a\n"), "it looks like gzip"),
    "zip named .csv": ("a.csv", b"PK\x03\x04\xff\xfe", "it looks like Excel or zip"),
    "text named .parquet": ("a.parquet", "t,y\nhi,a\n", "can't be read as Parquet"),
    "empty .parquet": ("a.parquet", "", "can't be read as Parquet"),
    "pickle": ("a.pkl", b"\x80\x04.", "allowed: .csv, .tsv, .jsonl, .ndjson"),
    "Excel": ("a.xlsx", b"PK", "allowed: .csv"),
    "no suffix": ("a", "t,y\nhi,a\n", "allowed: .csv"),
    "gzipped Parquet": ("a.parquet.gz", b"", "allowed: .csv"),
    "target of nulls": (
        "a.csv",
        "t,y\nhi,\nyo, \n",
        "column 'y' has no value in any of its 2 rows",
    ),
    "texts of nulls": ("a.csv", "t,y\n,a\n,b\n", "column 't' has no value"),
    "broken JSON": ("a.jsonl", '{"t": "hi", "y": "a"}\n{"t": \n', "line 2 (row 1) isn't JSON"),
    "JSON list": ("a.jsonl", '[{"t": "hi", "y": "a"}]', "line 1 (row 0) isn't a JSON object"),
    "JSON object over lines": ("a.jsonl", '{\n"t": "hi"}', "line 1 (row 0) isn't JSON"),
    "deep JSON": ("a.jsonl", "\n" + "[" * 100_000, "line 2 (row 0) isn't JSON"),
    "nested JSON value": (
        "a.jsonl",
        '{"t":"x","y":"a"}\n{"t":["x"],"y":"a"}',
        "line 2 (row 1): column 't' holds a nested value",
    ),
    "JSON key never there": (
        "a.jsonl",
        '{"t": "hi", "why": "a"}',
        "has no column 'y'; did you mean 'why'?",
    ),
    "JSON without keys": ("a.jsonl", "{}\n", "the file is empty"),
    "half a character": (
        "a.jsonl",
        '{"t":"x","y":"a"}\n{"t":"x\\ud83d","y":"a"}',
        "row 1, column 't' holds half of a character ('\\ud83d')",
    ),
    "empty JSONL": ("a.jsonl", "\n", "the file is empty"),
}


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.csv")
    with pytest.raises(FoldwiseError, match=r"a\.csv: is a pipe or device"):
        read_table(config(tmp_path / "a.csv"))


@pytest.mark.parametrize("case", REFUSED)
def test_refuses_with_file_and_place(tmp_path: Path, case: str) -> None:
    name, content, message = REFUSED[case]
    path = written(tmp_path, name, content)
    with pytest.raises(FoldwiseError) as caught:
        read_table(config(path))
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


@pytest.mark.parametrize("kept", [5, 30, -6])
def test_refuses_a_cut_gzip_file(tmp_path: Path, kept: int) -> None:
    whole = gzip.compress(b"t,y\n" + "".join(f"hi {n},a\n" for n in range(999)).encode())
    path = tmp_path / "a.csv.gz"
    path.write_bytes(whole[:kept])
    with pytest.raises(FoldwiseError, match=r"a\.csv\.gz: damaged or cut-off gzip file"):
        read_table(config(path))


def test_refuses_text_named_gz(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_text("t,y\nhi,a\n")
    with pytest.raises(FoldwiseError, match="damaged or cut-off gzip file"):
        read_table(config(path))


def test_refuses_a_damaged_parquet_file(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pl.DataFrame({"t": ["hi"] * 99, "y": ["a"] * 99}).write_parquet(path)
    path.write_bytes(path.read_bytes()[:-20] + b"\xff" * 20)
    with pytest.raises(FoldwiseError, match=r"a\.parquet: can't be read as Parquet"):
        read_table(config(path))


def test_names_the_nearest_column_and_lists_them(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", "Complaint,Product,ZIP code\nx,y,z\n")
    with pytest.raises(FoldwiseError) as caught:
        read_table(config(path, text=["Complaint"], target="Produkt"))
    assert str(caught.value) == (
        f"{path}: has no column 'Produkt'; did you mean 'Product'? "
        "Its columns: 'Complaint', 'Product', 'ZIP code'"
    )


def test_refuses_a_role_for_a_column_called_row(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", "row,y\n1,a\n")
    with pytest.raises(FoldwiseError, match="a column called 'row' can't be used"):
        read_table(config(path, text=["row"], target="y"))


def test_refuses_a_path_that_matches_nothing(tmp_path: Path) -> None:
    with pytest.raises(FoldwiseError, match=r"no file matches .*part-\*\.csv"):
        read_table(config(tmp_path / "part-*.csv"))


def test_refuses_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.csv").mkdir()
    with pytest.raises(FoldwiseError, match=r"a\.csv: can't be read as a table"):
        read_table(config(tmp_path / "a.csv"))


text = st.text(
    st.characters(exclude_categories=["Cs"]) | st.sampled_from('",\r\n\0 \t'), max_size=8
)


@settings(max_examples=150, deadline=None)
@given(
    rows=st.integers(1, 4).flatmap(
        lambda width: st.lists(
            st.lists(text, min_size=width, max_size=width), min_size=1, max_size=6
        )
    ),
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_csv_equals_the_csv_module_cell_for_cell(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[list[str]],
    line_end: str,
    quoting: int,
) -> None:
    names = [f"c{at}" for at in range(len(rows[0]))]
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator=line_end, quoting=quoting)
    writer.writerows([names, *rows])
    path = written(tmp_path_factory.mktemp("csv"), "a.csv", buffer.getvalue())
    with path.open(encoding="utf-8", newline="") as stream:
        expected = [cells for cells in csv.reader(stream) if cells][1:]
    if any(len(cells) != len(names) for cells in expected):
        # before Python 3.13, csv.writer leaves a lone \r or \n unquoted beside another line end
        with pytest.raises(FoldwiseError, match=r"line \d+ \(row \d+\) has \d cells"):
            read_table(config(path, text=names), need_target=False)
        return
    # need_target=False, because a column of blanks is refused otherwise
    frame = read_table(config(path, text=names), need_target=False).frame
    blank_to_null = [
        tuple(cell if pl.Series([cell]).str.strip_chars()[0] else None for cell in cells)
        for cells in expected
    ]
    assert frame.drop("row").rows() == blank_to_null
    assert frame["row"].to_list() == list(range(len(expected)))


def test_a_cell_beyond_the_csv_module_s_limit_passes(tmp_path: Path) -> None:
    long = "x" * 3_000_000
    assert cells(written(tmp_path, "a.csv", f"t,y\n{long},a\n")) == [(long, "a")]


def test_rows_beyond_a_chunk_keep_order_and_place(tmp_path: Path) -> None:
    body = "".join(f"text {row},{row % 7}\n" for row in range(5000))
    path = written(tmp_path, "a.csv", "t,y\n" + body)
    frame = read_table(config(path)).frame
    assert frame.rows() == [(row, f"text {row}", str(row % 7)) for row in range(5000)]
    path.write_text("t,y\n" + body + "short\n")
    with pytest.raises(FoldwiseError, match=r"line 5002 \(row 5000\)"):
        read_table(config(path))


def test_a_glob_is_read_in_sorted_order_with_rows_counted_through(tmp_path: Path) -> None:
    written(tmp_path, "p2.jsonl", '{"y": "c", "t": "three"}')
    written(tmp_path, "p1.csv", "t,y\none,a\ntwo,b\n")
    table = read_table(config(tmp_path / "p*"))
    assert table.frame.rows() == [(0, "one", "a"), (1, "two", "b"), (2, "three", "c")]
    both = (tmp_path / "p1.csv").read_bytes() + (tmp_path / "p2.jsonl").read_bytes()
    assert table.sha256 == hashlib.sha256(both).hexdigest()
    assert table.source_rows == 3


def test_a_row_in_the_second_file_is_named_by_its_place_in_the_table(tmp_path: Path) -> None:
    written(tmp_path, "p1.csv", "t,y\none,a\ntwo,b\n")
    second = written(tmp_path, "p2.csv", "t,y\nthree,c\nfour\n")
    with pytest.raises(FoldwiseError) as caught:
        read_table(config(tmp_path / "p*.csv"))
    assert str(caught.value).startswith(f"{second}: line 3 (row 3) has 1 cells")


def test_relative_paths_start_at_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, "a.csv", "t,y\nhi,a\n")
    monkeypatch.chdir(tmp_path)
    assert cells("a.csv") == [("hi", "a")]


def test_sha256_is_that_of_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv.gz", "t,y\nhi,a\n")
    assert read_table(config(path)).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_columns_come_in_the_order_of_the_config_with_types_by_role(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", "g,n,y,c,t,unused\n7,1.5,0,01,hi,z\n8,,1,02,yo,z\n")
    frame = read_table(
        config(path, text=["t"], categorical=["c"], numeric=["n"], target="y"), ["g", "c"]
    ).frame
    assert frame.schema == {
        "row": pl.Int64, "t": pl.String, "c": pl.String, "n": pl.Float64, "y": pl.String,
        "g": pl.String,
    }  # fmt: skip
    assert frame.rows() == [(0, "hi", "01", 1.5, "0", "7"), (1, "yo", "02", None, "1", "8")]


def test_new_rows_need_no_target_and_may_leave_a_column_empty(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", "t,c\nhi,\n")
    data = config(path, text=["t"], categorical=["c"], target="y")
    assert read_table(data, need_target=False).frame.rows() == [(0, "hi", None)]


def test_numbers_are_read_with_signs_exponents_and_spaces(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", "n,y\n 5 ,a\n-1e3,a\n+.5,a\n\t,a\n007,a\n")
    values = read_table(config(path, numeric=["n"], target="y")).frame["n"].to_list()
    assert values == [5.0, -1000.0, 0.5, None, 7.0]


@pytest.mark.parametrize(
    "bad", ["abc", "inf", "-Infinity", "nan", "NaN", "1e999", "1_000", "0x1F", "5%"]
)
def test_a_cell_that_is_no_finite_number_is_refused(tmp_path: Path, bad: str) -> None:
    path = written(tmp_path, "a.csv", f"n,y\n1,a\n,a\n{bad},a\n")
    with pytest.raises(FoldwiseError) as caught:
        read_table(config(path, numeric=["n"], target="y"))
    assert f"{path}: column 'n' holds 1 cells that aren't finite numbers (row 2: {bad!r})" in str(
        caught.value
    )


def test_many_bad_numbers_are_one_error_naming_the_first(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", "n,y\n" + "".join(f"v{row},a\n" for row in range(9)))
    with pytest.raises(FoldwiseError) as caught:
        read_table(config(path, numeric=["n"], target="y"))
    assert "holds 9 cells" in str(caught.value)
    assert "row 0: 'v0', row 1: 'v1', row 2: 'v2', row 3: 'v3', row 4: 'v4')" in str(caught.value)


def test_parquet_columns_become_strings_and_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a[1].parquet"
    pl.DataFrame(
        {
            "t": ["hi", " "],
            "i": [5, None],
            "f": [5.0, float("nan")],
            "b": [True, False],
            "e": pl.Series(["x", None], dtype=pl.Categorical),
            "n": pl.Series([3, None], dtype=pl.Int16),
            "m": [0.1, float("nan")],
            "unused": [[1], [2]],
        }
    ).write_parquet(path)
    data = config(path, text=["t"], categorical=["i", "f", "b", "e"], numeric=["n", "m"])
    assert read_table(data).frame.rows() == [
        (0, "hi", "5", "5.0", "true", "x", 3.0, 0.1),
        (1, None, None, None, "false", None, None, None),
    ]


@pytest.mark.parametrize("value", [[1], {"a": 1}, b"\xff"])
def test_nested_and_binary_parquet_columns_are_refused(tmp_path: Path, value: object) -> None:
    path = tmp_path / "a.parquet"
    pl.DataFrame({"t": [value], "y": ["a"]}).write_parquet(path)
    with pytest.raises(FoldwiseError, match=r"a\.parquet: column 't' holds .* convert it"):
        read_table(config(path))


def test_infinity_in_a_parquet_number_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pl.DataFrame({"n": [1.0, float("inf")], "y": ["a", "b"]}).write_parquet(path)
    with pytest.raises(FoldwiseError, match=r"column 'n' holds 1 cells .*row 1: 'inf'"):
        read_table(config(path, numeric=["n"], target="y"))


def test_synthetic_rows_come_from_the_embedded_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    from foldwise.synthetic import complaints as synthetic

    def complaints(rows: int = 2000, seed: int = 42) -> pl.DataFrame:
        return pl.DataFrame({"t": [f"letter {row}" for row in range(rows)], "y": ["a"] * rows})

    monkeypatch.setattr(synthetic, "complaints", complaints)
    table = read_table(config("synthetic:3"))
    assert table.frame.rows() == [(row, f"letter {row}", "a") for row in range(3)]
    assert table.sha256 == hashlib.sha256(b"synthetic:3").hexdigest()
    assert read_table(config("synthetic")).source_rows == 2000


@pytest.mark.parametrize("path", ["synthetic:", "synthetic:0", "synthetic:-1", "synthetic:ten"])
def test_a_wrong_number_of_synthetic_rows_is_refused(path: str) -> None:
    with pytest.raises(FoldwiseError, match=f"'{path}' isn't synthetic:ROWS"):
        read_table(config(path))


def test_the_module_imports_neither_torch_nor_scikit_learn() -> None:
    code = "import foldwise.table.reading, sys; print({'torch', 'sklearn'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert out.stdout == "set()\n"


ROLES: dict[str, Any] = {
    "text": ["t", "u"],
    "categorical": ["c", "d"],
    "numeric": ["n"],
    "target": "y",
}


@pytest.fixture
def gaps() -> pl.DataFrame:
    return pl.DataFrame(
        [
            (0, "t", "u", "c", "d", 1.0, "a"),
            (1, None, "u", "c", None, 1.0, "a"),
            (2, None, None, None, "d", 1.0, "a"),
            (3, None, None, "c", "d", None, None),
            (4, "t", None, None, None, None, "b"),
            (5, "t", None, "c", "d", None, "b"),
        ],
        schema=["row", "t", "u", "c", "d", "n", "y"],
        orient="row",
    )


def with_missing(**policy: str) -> Data:
    return Data.model_validate({"path": "a.csv", **ROLES, "missing": policy})


def test_default_policies_drop_textless_rows_and_fill_categories(gaps: pl.DataFrame) -> None:
    frame, counts = apply_missing(gaps, with_missing(target="drop"))
    assert frame["row"].to_list() == [0, 1, 4, 5]
    assert frame["t"].to_list() == ["t", None, "t", "t"]
    assert frame["c"].to_list() == ["c", "c", "missing", "c"]
    assert frame["d"].to_list() == ["d", "missing", "missing", "d"]
    assert frame["n"].to_list() == [1.0, 1.0, None, None]
    assert counts == {"dropped:target": 1, "dropped:text": 1, "filled:c": 1, "filled:d": 2}


def test_each_dropped_row_counts_under_the_first_reason(gaps: pl.DataFrame) -> None:
    policy = with_missing(target="drop", categorical="drop", numeric="drop")
    frame, counts = apply_missing(gaps, policy)
    assert frame["row"].to_list() == [0]
    assert counts == {
        "dropped:target": 1, "dropped:text": 1, "dropped:categorical": 2, "dropped:numeric": 1,
    }  # fmt: skip
    assert frame.height + sum(counts.values()) == gaps.height


def test_text_fill_keeps_rows_without_text(gaps: pl.DataFrame) -> None:
    frame, counts = apply_missing(gaps, with_missing(text="fill", target="drop"))
    assert frame["row"].to_list() == [0, 1, 2, 4, 5]
    assert "dropped:text" not in counts


def test_a_missing_target_is_an_error_that_names_rows_and_advice(gaps: pl.DataFrame) -> None:
    with pytest.raises(FoldwiseError) as caught:
        apply_missing(gaps, with_missing())
    assert str(caught.value) == (
        "1 rows have no 'y': row 3; fill them in or take those rows out; "
        "a config drops them by data.missing.target: drop"
    )


def test_a_missing_target_does_not_matter_for_new_rows(gaps: pl.DataFrame) -> None:
    frame, _ = apply_missing(gaps.drop("y"), with_missing(), need_target=False)
    assert frame["row"].to_list() == [0, 1, 4, 5]


def test_dropping_every_row_is_an_error(gaps: pl.DataFrame) -> None:
    with pytest.raises(FoldwiseError, match=r"no row is left of 2: .*\(dropped:text 2\)"):
        apply_missing(gaps[[2, 3]].with_columns(y=pl.lit("a")), with_missing())


def labelled(*counts: int) -> pl.DataFrame:
    labels = [f"class {at}" for at, count in enumerate(counts) for _ in range(count)]
    order = np.random.default_rng(7).permutation(len(labels))
    return pl.DataFrame({"row": np.arange(len(labels)) * 3, "y": [labels[at] for at in order]})


def per_class(frame: pl.DataFrame) -> list[int]:
    return [count for _, count in sorted(frame["y"].value_counts().rows())]


@pytest.mark.parametrize(
    ("counts", "sample", "expected"),
    [
        ([50, 30, 20], 10, [5, 3, 2]),
        ([50, 30, 20], 0.1, [5, 3, 2]),
        ([1, 1, 1], 2, [1, 1]),
        ([98, 1, 1], 10, [8, 1, 1]),
        ([500, 4, 3, 2], 6, [3, 1, 1, 1]),
        ([5, 5, 5], 7, [3, 2, 2]),
        ([50, 30, 20], 1, [1]),
        ([3, 2], 99, [3, 2]),
        ([90, 8, 2], PerClass(per_class=5), [5, 5, 2]),
        ([3, 2], 0.01, [1]),
    ],
)
def test_a_sample_keeps_the_shares_of_the_classes(
    counts: list[int], sample: Any, expected: list[int]
) -> None:
    assert per_class(draw_sample(labelled(*counts), sample, "y", 0)) == expected


@settings(max_examples=100, deadline=None)
@given(counts=st.lists(st.integers(1, 60), min_size=1, max_size=9), size=st.integers(1, 300))
def test_a_sample_has_exactly_the_rows_asked_for_and_every_class(
    counts: list[int], size: int
) -> None:
    frame = labelled(*counts)
    drawn = draw_sample(frame, size, "y", 3)
    assert drawn.height == min(size, frame.height)
    assert drawn["row"].is_sorted()
    assert drawn["row"].is_unique().all()
    assert drawn.join(frame, on=["row", "y"], how="anti").height == 0
    if size >= len(counts):
        assert len(per_class(drawn)) == len(counts)
        shares = np.array(counts) * drawn.height / sum(counts)
        # a class never gets more than its share rounded up, or the one row that every class gets
        assert (per_class(drawn) <= np.maximum(1, np.ceil(shares))).all()


def test_a_sample_does_not_depend_on_the_order_of_rows() -> None:
    frame = labelled(40, 30, 5)
    shuffled = frame.sample(fraction=1.0, shuffle=True, seed=1)
    assert draw_sample(frame, 20, "y", 5).equals(draw_sample(shuffled, 20, "y", 5))


def test_a_sample_follows_its_seed_and_draws_every_row_alike() -> None:
    frame = labelled(20, 20)
    drawn = [draw_sample(frame, 10, "y", seed)["row"].to_list() for seed in range(400)]
    assert drawn[0] == draw_sample(frame, 10, "y", 0)["row"].to_list()
    times = np.bincount(np.concatenate(drawn) // 3)
    assert times.sum() == 4000
    # each row is drawn with probability 1/4: 100 times, standard deviation 8.7
    assert times.min() > 60
    assert times.max() < 140


def test_a_sample_without_target_is_drawn_from_all_rows() -> None:
    assert draw_sample(labelled(20, 20), 10, None, 0).height == 10


def test_no_sample_keeps_all_rows_in_row_order() -> None:
    frame = labelled(3, 2)
    assert draw_sample(frame.reverse(), None, "y", 0).equals(frame)


def test_per_class_without_target_is_refused() -> None:
    with pytest.raises(FoldwiseError, match=r"per_class needs data\.target"):
        draw_sample(labelled(3, 2), PerClass(per_class=1), None, 0)
