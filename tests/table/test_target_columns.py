"""Target columns that hold sets of labels or numbers, read from any format."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from foldwise.config.rows import Data, PerClass
from foldwise.errors import FoldwiseError
from foldwise.table.reading import apply_missing, draw_sample, read_table

SETS = ["a;b", "a", "", None, "b"]


def data(path: Path, **more: object) -> Data:
    return Data.model_validate({"path": str(path), "target": "y", "text": ["x"], **more})


def write(path: Path, cells: object) -> Path:
    frame = pl.DataFrame({"x": [f"text {i}" for i in range(5)], "y": cells})
    if path.suffix == ".csv":
        frame.write_csv(path)
    elif path.suffix == ".jsonl":
        frame.write_ndjson(path)
    else:
        frame.write_parquet(path)
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_lists_become_sorted_text(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"t{suffix}", [["b", "a", "b"], ["a"], [], None, [" b "]])
    frame = read_table(data(path), holds="labels").frame
    assert frame["y"].to_list() == SETS


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_separated_text_is_sorted_and_a_lone_separator_means_none(
    tmp_path: Path, suffix: str
) -> None:
    path = write(tmp_path / f"t{suffix}", ["b; a;b", " a ", ";", None, ";b;"])
    assert read_table(data(path), holds="labels").frame["y"].to_list() == SETS


def test_another_separator_is_one_of_text_and_lists(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", [["b;c", "a"], ["a"], [], None, ["b"]])
    found = read_table(data(path, separator="|"), holds="labels").frame["y"].to_list()
    assert found == ["a|b;c", "a", "", None, "b"]
    with pytest.raises(FoldwiseError, match=r"t\.parquet: column 'y' holds a list with 'b;c', in "):
        read_table(data(path), holds="labels")


def test_lists_of_numbers_are_labels(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", [[2, 1], [1], [], None, [10]])
    assert read_table(data(path), holds="labels").frame["y"].to_list() == [
        "1;2",
        "1",
        "",
        None,
        "10",
    ]


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_list_that_holds_null_is_refused(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"t{suffix}", [["a", None], ["a"], ["a"], ["a"], ["a"]])
    with pytest.raises(FoldwiseError, match="column 'y' holds a list with null in it"):
        read_table(data(path), holds="labels")


def test_lists_are_refused_where_one_label_is_meant(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", [["a"]] * 5)
    with pytest.raises(FoldwiseError, match="column 'y' holds List"):
        read_table(data(path))


def test_row_without_labels_is_not_a_row_without_target(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", [["a"], [], ["b"], ["a", "b"], None])
    table = data(path, missing={"target": "drop"})
    frame, counts = apply_missing(read_table(table, holds="labels").frame, table)
    assert frame["row"].to_list() == [0, 1, 2, 3]
    assert counts == {"dropped:target": 1}


def test_numbers_are_numbers_and_anything_else_names_its_row(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", ["1", "2.5", "-3e2", None, " 4 "])
    frame = read_table(data(path), holds="number").frame
    assert frame["y"].to_list() == [1.0, 2.5, -300.0, None, 4.0]
    write(path, ["1", "2,5", "3", "4", "5"])
    with pytest.raises(FoldwiseError, match="column 'y' holds numbers with a decimal comma"):
        read_table(data(path), holds="number")


def test_sample_of_numbers_keeps_their_distribution() -> None:
    frame = pl.DataFrame({"row": range(200), "y": [float(i % 100) ** 2 for i in range(200)]})
    drawn = draw_sample(frame, 40, "y", seed=3)
    edges = frame["y"].quantile(0.5), frame["y"].quantile(0.9)
    assert drawn.height == 40
    assert abs((drawn["y"] > edges[0]).sum() - 20) <= 1
    assert abs((drawn["y"] > edges[1]).sum() - 4) <= 1
    assert draw_sample(frame, PerClass(per_class=1), "y", seed=3).height == 10


def rated(path: Path, words: list[str]) -> Path:
    cells = [*(f"{i / 4}" for i in range(60 - len(words))), *words]
    pl.DataFrame({"x": [f"text {i}" for i in range(60)], "y": cells}).write_csv(path)
    return path


def test_the_few_words_of_a_number_target_are_dropped_where_rows_without_target_are(
    tmp_path: Path,
) -> None:
    path = rated(tmp_path / "t.csv", ["Unrated", "inf", ""])
    dropping = data(path, missing={"target": "drop"})
    table = read_table(dropping, holds="number")
    assert table.frame["y"].to_list() == [*(i / 4 for i in range(57)), None, None, None]
    assert table.notes == (
        "column 'y': 2 cells aren't numbers (row 57: 'Unrated', row 58: 'inf'); their rows have "
        "no target",
    )
    assert apply_missing(table.frame, dropping)[1] == {"dropped:target": 3}


def test_many_words_or_an_error_for_rows_without_target_refuse_the_column(tmp_path: Path) -> None:
    many = rated(tmp_path / "many.csv", ["1,5", "2,5", "3,5", "4,5"])
    one = rated(tmp_path / "one.csv", ["Unrated"])
    with pytest.raises(FoldwiseError, match=r"column 'y' holds 4 cells .* \(row 56: '1,5', "):
        read_table(data(many, missing={"target": "drop"}), holds="number")
    with pytest.raises(FoldwiseError, match="column 'y' holds 1 cells that aren't finite numbers"):
        read_table(data(one), holds="number")
