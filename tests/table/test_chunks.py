"""New rows chunk by chunk: the cells that the whole table has, and rows that keep their place."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foldwise.config.rows import Data
from foldwise.errors import FoldwiseError
from foldwise.table.chunks import NewRows, open_rows
from foldwise.table.reading import read_table

CELLS = st.one_of(
    st.sampled_from(
        ["", " ", "\0", "a\r\nb\rc\n", 'q"u,o;t\te', "😀👩‍👩‍👧", "שלום عالم", "é" * 40, "NaN"]
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
)
NUMBERS = st.one_of(st.sampled_from(["", " ", "1", "-2.5e3", " 7 "]), st.integers().map(str))
ROWS = st.lists(st.tuples(CELLS, CELLS, NUMBERS, CELLS), min_size=1, max_size=23)
NAMES = ("text", "kind", "amount", "note")


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("formats", "chunks"):
        monkeypatch.setattr(f"foldwise.table.{module}.CHUNK_ROWS", 4)
    monkeypatch.setattr("foldwise.table.formats.CHUNK_CHARS", 60)
    monkeypatch.setattr("foldwise.table.typed_files._FIRST", 2)


def data(path: Path | str, **keys: Any) -> Data:
    roles = {"text": ["text"], "categorical": ["kind"], "numeric": ["amount"]}
    return Data.model_validate({"path": str(path), **roles, **keys})


def written(rows: list[tuple[str, ...]], path: Path) -> Path:
    named = [dict(zip(NAMES, row, strict=True)) for row in rows]
    if path.suffix == ".parquet":
        pl.DataFrame(named, schema=dict.fromkeys(NAMES, pl.String)).write_parquet(path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in named), "utf-8")
    else:
        stream = io.StringIO(newline="")
        lines = csv.writer(stream, delimiter="\t" if ".tsv" in path.name else ",")
        lines.writerows([NAMES, *rows])
        content = stream.getvalue().encode()
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def joined(rows: NewRows) -> pl.DataFrame:
    return pl.concat([chunk.rows for chunk in rows.chunks()])


@pytest.mark.parametrize("name", ["t.csv", "t.tsv.gz", "t.jsonl", "t.parquet"])
@settings(
    max_examples=15,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(rows=ROWS)
def test_chunks_hold_the_cells_of_the_whole_table(
    tmp_path: Path, name: str, rows: list[tuple[str, ...]]
) -> None:
    section = data(written(rows, tmp_path / name), encoding="utf-8", delimiter="auto")
    whole = read_table(section, need_target=False)
    found = open_rows(section)
    assert joined(found).equals(whole.frame)
    assert (found.count, found.sha256) == (len(rows), whole.sha256)


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-8-sig"])
def test_encoding_and_delimiter_are_found_and_told(tmp_path: Path, encoding: str) -> None:
    lines = "text;kind;amount\n" + "gérant à côté;é;1\n" * 9
    (tmp_path / "t.csv").write_bytes(lines.encode(encoding))
    whole = read_table(data(tmp_path / "t.csv"), need_target=False)
    found = open_rows(data(tmp_path / "t.csv"))
    assert joined(found).equals(whole.frame)
    assert found.notes == list(whole.notes)


def test_chunks_end_by_characters_too_and_begin_alike_each_time(tmp_path: Path) -> None:
    rows = [("x" * 25 * (i % 3), "k", "1", "") for i in range(11)]
    for name in ("t.csv", "t.parquet"):
        found = open_rows(data(written(rows, tmp_path / name)))
        heights = [chunk.rows.height for chunk in found.chunks()]
        assert sum(heights) == 11
        assert len(heights) > 3
        assert heights == [chunk.rows.height for chunk in found.chunks()]


def test_files_of_a_glob_are_one_table(tmp_path: Path) -> None:
    written([("a", "k", "1", "")] * 5, tmp_path / "1.csv")
    written([("b", "k", "2", "")] * 6, tmp_path / "2.parquet")
    found = open_rows(data(tmp_path / "[12].*"))
    assert joined(found)["row"].to_list() == list(range(11))
    assert joined(found)["amount"].to_list() == [1.0] * 5 + [2.0] * 6


def test_a_cell_that_can_not_be_read_is_its_row_s_problem(tmp_path: Path) -> None:
    head = b"text,kind,amount\n"
    lines = [b"fine,a,1\n"] * 5 + [b"bad,a,ten\n", b"caf\xe9,a,1\n", b"caf\xc3\xa9\xc3\xa9,a,\n"]
    (tmp_path / "t.csv").write_bytes(head + b"".join(lines))
    chunks = list(open_rows(data(tmp_path / "t.csv")).chunks())
    problems = {row: why for chunk in chunks for row, why in chunk.problems.items()}
    assert problems == {
        5: "column 'amount' holds 'ten', which isn't a finite number",
        6: f"{tmp_path / 't.csv'}: row 6, column 'text': byte 0xe9 isn't utf-8, in 'caf\\udce9': "
        "correct the cell, leave the column out of the config, or set data.encoding",
    }
    (tmp_path / "t.jsonl").write_text('{"text": "a"}\n{"text": {"b": 1}}\n{"text": "\\ud800"}\n')
    [chunk] = open_rows(data(tmp_path / "t.jsonl")).chunks()
    assert [chunk.problems[row].split(": ", 1)[1][:40] for row in (1, 2)] == [
        "line 2 (row 1): column 'text' holds a ne",
        "row 2, column 'text' holds half of a cha",
    ]
    assert 0 not in chunk.problems


def test_columns_may_be_absent_but_not_the_text(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text\n" + "fee\n" * 6)
    found = open_rows(data(tmp_path / "t.csv"))
    assert found.absent == {"kind": 6, "amount": 6}
    assert found.notes[0] == f"{tmp_path / 't.csv'}: has no column 'kind': missing in all rows"
    rows = joined(found)
    assert rows.select("kind", "amount").null_count().row(0) == (6, 6)
    assert rows.schema["amount"] == pl.Float64
    (tmp_path / "t.csv").write_text("txt,kind\nfee,a\n")
    with pytest.raises(FoldwiseError, match=r"has no column 'text'; did you mean 'txt'\?"):
        open_rows(data(tmp_path / "t.csv"))
    two = data(tmp_path / "t.csv", text=["title", "txt"])
    assert open_rows(two).absent == {"title": 1, "amount": 1}
    (tmp_path / "t.csv").write_text("size\n1\n")
    with pytest.raises(FoldwiseError, match=r"has no column 'kind'"):
        open_rows(data(tmp_path / "t.csv", text=[]))


def test_carried_columns_are_as_they_are_in_the_input(tmp_path: Path) -> None:
    rows = [(" 01 ", "=k", " 2", "\0n\r")] * 5
    for name in ("t.csv", "t.jsonl", "t.parquet"):
        found = open_rows(data(written(rows, tmp_path / name)), ["all"])
        carried = pl.concat([chunk.carried for chunk in found.chunks()])
        assert carried.columns == list(NAMES)
        assert carried.rows() == rows
    typed = pl.DataFrame({"text": ["a"], "id": [7], "on": ["2024-01-02"]})
    typed.with_columns(pl.col("on").str.to_date()).write_parquet(tmp_path / "d.parquet")
    [chunk] = open_rows(data(tmp_path / "d.parquet"), ["on", "id"]).chunks()
    assert chunk.carried.schema == {"on": pl.Date, "id": pl.Int64}
    with pytest.raises(FoldwiseError, match=r"has no column 'ids'; did you mean 'id'\?"):
        open_rows(data(tmp_path / "d.parquet"), ["ids"])


def test_what_makes_a_file_unreadable_is_told_before_the_first_chunk(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text,kind\n" + "a,b\n" * 30 + "a,b,c\n")
    with pytest.raises(FoldwiseError, match=r"line 32 \(row 30\) has 3 cells"):
        open_rows(data(tmp_path / "t.csv"))
    (tmp_path / "t.csv").write_text("text,kind\n")
    with pytest.raises(FoldwiseError, match="has a header but no rows"):
        open_rows(data(tmp_path / "t.csv"))
