from __future__ import annotations

import polars as pl
import pytest

from foldwise.table.formulas import without_formulas


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t", "\r"])
def test_a_cell_that_a_spreadsheet_would_run_becomes_text(sign: str) -> None:
    frame = pl.DataFrame({"row": [0, 1, 2], "label": [f"{sign}1+1", f"a{sign}b", None]})
    assert without_formulas(frame)["label"].to_list() == [f"'{sign}1+1", f"a{sign}b", None]


def test_numbers_stay_numbers_and_names_are_marked_too() -> None:
    frame = pl.DataFrame({"=x": [-1.5], "ok": ["plain"]})
    assert without_formulas(frame).to_dicts() == [{"'=x": -1.5, "ok": "plain"}]


@pytest.mark.parametrize("number", ["-1", "+1.5", "-1,5", "-2e-05", "-.5"])
def test_a_cell_that_is_a_number_with_a_sign_stays_one(number: str) -> None:
    frame = pl.DataFrame({"label": [number, f"{number}+A1", f"{number}\n=1"]})
    assert without_formulas(frame)["label"].to_list() == [
        number,
        f"'{number}+A1",
        f"'{number}\n=1",
    ]
