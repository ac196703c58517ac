from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from foldwise.config.rows import Data
from foldwise.errors import FoldwiseError
from foldwise.table.reading import read_table
from foldwise.table.written import data_written


def read(
    folder: Path, cells: list[str], holds: str = "label", **more: str
) -> tuple[list[str], str]:
    path = folder / "t.jsonl"
    path.write_text(
        "".join(json.dumps({"t": f"text {i}", "y": y}) + "\n" for i, y in enumerate(cells))
    )
    data = Data(path=str(path), text=["t"], target="y", **more)  # type: ignore[arg-type]
    table = read_table(data, holds=holds)  # type: ignore[arg-type]
    return table.frame["y"].to_list(), "\n".join(table.notes)


def test_white_space_around_labels_goes_and_is_told_with_counts(tmp_path: Path) -> None:
    found, said = read(tmp_path, ["card", "card ", "card ", "\tloan"])
    assert found == ["card", "card", "card", "loan"]
    assert said == (
        "column 'y': white space around 3 labels removed: 'card ' (2), '\\tloan' (1) "
        "(data.labels: exact keeps it)"
    )


def test_exact_labels_stay_and_those_alike_are_told(tmp_path: Path) -> None:
    found, said = read(tmp_path, ["card", "card ", "loan"], labels="exact")
    assert found == ["card", "card ", "loan"]
    assert said == (
        "column 'y': labels that differ only by white space, case or spelling are classes of "
        "their own: 'card' (1) and 'card ' (1)"
    )


@pytest.mark.parametrize(
    ("labels", "alike"),
    [
        (["True", "1", "true", "0"], "'1' (1) and 'True' (1) and 'true' (1)"),
        (["1", "1.0", "2"], "'1' (1) and '1.0' (1)"),
        (["a  b", "a b", "c"], "'a  b' (1) and 'a b' (1)"),
        (["Card", "CARD", "loan", "Loan"], "'CARD' (1) and 'Card' (1); 'Loan' (1) and 'loan' (1)"),
        (["yes", "no", "1", "2"], "'1' (1) and 'yes' (1)"),
    ],
)
def test_labels_that_are_alike_are_told(tmp_path: Path, labels: list[str], alike: str) -> None:
    found, said = read(tmp_path, labels)
    assert found == labels
    assert said.endswith(f"classes of their own: {alike}")


@pytest.mark.parametrize("labels", [["1", "0"], ["007", "7"], ["yes", "no"], ["card", "cards"]])
def test_different_labels_are_not_called_alike(tmp_path: Path, labels: list[str]) -> None:
    assert read(tmp_path, labels) == (labels, "")


def test_labels_of_a_cell_are_stripped_or_exact(tmp_path: Path) -> None:
    cells = ["b; a", "a;  ", "A"]
    found, said = read(tmp_path, cells, "labels")
    assert found == ["a;b", "a", "A"]
    assert said.endswith("'A' (1) and 'a' (2)")
    assert read(tmp_path, cells, "labels", labels="exact")[0] == [" a;b", "a", "A"]


def test_numbers_have_no_labels(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    pl.DataFrame({"t": ["a", "b"], "y": [" 1", "1.0"]}).write_csv(path)
    table = read_table(Data(path=str(path), text=["t"], target="y"), holds="number")
    assert (table.frame["y"].to_list(), table.notes) == ([1.0, 1.0], ())


@pytest.mark.parametrize(
    ("delimiter", "encoding", "message"),
    [
        (";;", None, "--delimiter: must be auto, tab or one character (not a quote), got ';;'"),
        ('"', None, "--delimiter: must be auto, tab or one character"),
        (None, "utf-9", "--encoding: no encoding is called 'utf-9'; for example utf-8"),
        (None, "base64", "--encoding: no encoding is called 'base64'"),
    ],
)
def test_a_delimiter_or_encoding_that_there_is_not_is_refused(
    delimiter: str | None, encoding: str | None, message: str
) -> None:
    with pytest.raises(FoldwiseError) as refused:
        data_written(Data(path="t.csv", text=["t"]), delimiter, encoding)
    assert str(refused.value).startswith(message)


@pytest.mark.parametrize(("given", "read_as"), [("tab", "\t"), ("|", "|")])
def test_a_delimiter_that_is_given_goes_before_what_is_found(
    tmp_path: Path, given: str, read_as: str
) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"t{read_as}y,z\na,b{read_as}c,d\n")
    data = data_written(Data(path=str(path), text=["t"], target="y,z"), given, None)
    assert read_table(data).frame.rows() == [(0, "a,b", "c,d")]


def test_an_encoding_that_is_given_is_used_and_doubted_where_the_file_is_utf_8(
    tmp_path: Path,
) -> None:
    path = tmp_path / "t.csv"
    path.write_text("t,y\ncaf\u00e9,a\n", encoding="utf-8")
    data = data_written(Data(path=str(path), text=["t"], target="y"), None, "cp1252")
    table = read_table(data)
    assert table.frame["t"].to_list() == ["caf\u00c3\u00a9"]
    assert table.notes == (
        f"{path}: read with data.encoding cp1252 (Windows-1252, as Latin-1 files are), though the "
        "file is UTF-8",
    )


def test_the_real_tables_are_read_by_what_they_are() -> None:
    small = Path(__file__).parents[3] / "shared" / "data" / "small"
    if not small.exists():
        pytest.skip(f"{small} isn't there")
    reviews = read_table(
        Data(path=str(small / "alexa.tsv"), text=["verified_reviews"], target="rating")
    )
    assert (reviews.source_rows, reviews.notes) == (3150, ())
    # UTF-8, but for the last row, where one column is Latin-1.
    shows = Data(path=str(small / "netflix.csv"), text=["descriptions"], target="type_s")
    assert (read_table(shows).source_rows, read_table(shows).notes) == (8809, ())
    with pytest.raises(FoldwiseError, match="row 8808, column 'casts': byte 0xf8 isn't utf-8"):
        read_table(shows.model_copy(update={"text": ["casts"]}))
