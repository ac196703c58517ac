"""Numbers as they are written: with a decimal point, or with a comma and dots between thousands."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from foldwise.config.rows import Data
from foldwise.errors import FoldwiseError
from foldwise.table.cells import has_decimal_commas, parse_numbers, with_points
from foldwise.table.chunks import open_rows
from foldwise.table.reading import read_table

NUMBERS = {
    "1,5": 1.5,
    " -0,25 ": -0.25,
    "1.234,5": 1234.5,
    "1.234.567": 1234567.0,
    "12": 12.0,
    ",5": 0.5,
    "1,5e3": 1500.0,
    "": None,
}
NONE = ("1.5", "1.23,4", "1234.567,8", "1,2,3", "1,234.5", "x", "nan")


def test_a_decimal_comma_is_read_and_dots_between_thousands_too() -> None:
    values, bad = parse_numbers(pl.Series("n", list(NUMBERS)), ",")
    assert values.to_list() == list(NUMBERS.values())
    assert not bad.any()


@pytest.mark.parametrize("cell", NONE)
def test_beside_decimal_commas_a_point_elsewhere_makes_no_number(cell: str) -> None:
    assert parse_numbers(pl.Series("n", [cell, "1,5"]), ",")[1].to_list() == [True, False]


def test_numbers_of_a_typed_column_have_no_decimal_sign() -> None:
    assert parse_numbers(pl.Series("n", [1.125, 2.0]), ",")[0].to_list() == [1.125, 2.0]


@pytest.mark.parametrize(
    ("cells", "sure"),
    [
        (["1,5", "2,25", None], True),
        (["1.234,50", "7"], True),
        (["1,234", "5,678"], False),  # thousands, by the look of it
        (["1,2,3", "1,5"], False),  # labels
        (["1,5", "x"], False),
        (["1.5", "2"], False),
        ([None, None], False),
    ],
)
def test_commas_are_taken_for_decimal_ones_only_where_that_is_sure(
    cells: list[str | None], sure: bool
) -> None:
    assert has_decimal_commas(pl.Series("n", cells, dtype=pl.String)) == sure


def test_columns_with_commas_get_points_unless_another_has_points_of_its_own() -> None:
    frame = pl.DataFrame({"a": ["1,5", None], "b": ["1.000", "2.000"], "c": ["007", "x, y"]})
    pointed, commas = with_points(frame)
    assert pointed.to_dict(as_series=False) == {
        "a": ["1.5", None],
        "b": ["1000", "2000"],
        "c": ["007", "x, y"],
    }
    assert commas == ["a"]
    mixed = frame.with_columns(d=pl.Series(["0.5", "1.5"]))
    assert with_points(mixed)[1] == []
    assert with_points(mixed)[0].equals(mixed)
    assert with_points(frame.select([]))[1] == []


def table(folder: Path, name: str = "a.csv") -> Data:
    (folder / name).write_text("t;n;y\nhi;1.234,5;2,5\nyo;;3,5\n")
    (folder / "a.jsonl").write_text('{"t": "hi", "n": 1.125, "y": 2.5}\n')
    return Data(path=str(folder / name), text=["t"], numeric=["n"], target="y", decimal=",")


def test_a_table_is_read_by_its_decimal_sign_a_numeric_target_too(tmp_path: Path) -> None:
    frame = read_table(table(tmp_path), holds="number").frame
    assert frame["n"].to_list() == [1234.5, None]
    assert frame["y"].to_list() == [2.5, 3.5]


def test_json_has_points_whatever_the_config_says_of_csv(tmp_path: Path) -> None:
    data = table(tmp_path).model_copy(update={"path": str(tmp_path / "a.jsonl")})
    assert read_table(data, holds="number").frame["n"].to_list() == [1.125]


def test_new_rows_are_read_by_the_same_decimal_sign(tmp_path: Path) -> None:
    [chunk] = open_rows(table(tmp_path)).chunks()
    assert chunk.rows["n"].to_list() == [1234.5, None]
    assert chunk.problems == {}


def test_a_decimal_comma_that_is_not_named_is_told_with_the_key(tmp_path: Path) -> None:
    data = table(tmp_path).model_copy(update={"decimal": "."})
    with pytest.raises(FoldwiseError) as told:
        read_table(data)
    assert str(told.value) == (
        f"{data.path}: column 'n' holds numbers with a decimal comma (row 0: '1.234,5'): "
        'in a CSV say so by data.decimal: ","; elsewhere write them with a point'
    )
