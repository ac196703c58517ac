"""What a body must be: bytes in; rows, or the field that is at fault."""

from __future__ import annotations

import json
from typing import Any

import pytest

from foldwise.serving.limits import Limits, Refused
from foldwise.serving.rows import parse_rows

from .conftest import COLUMNS, ROW

LIMITS = Limits(characters=20)


def body(*rows: Any) -> bytes:
    return json.dumps({"rows": rows}).encode()


def refused(content: bytes, most: int = 3) -> Refused:
    with pytest.raises(Refused) as caught:
        parse_rows(content, COLUMNS, LIMITS, most)
    return caught.value


def test_rows_become_a_frame_of_the_columns_that_are_needed() -> None:
    found = parse_rows(
        body({**ROW, "note": {"x": [1]}}, {"amount": 3, "kind": None, "text": ""}),
        COLUMNS,
        LIMITS,
        3,
    )
    assert found.to_dicts() == [ROW, {"text": "", "kind": None, "amount": 3.0}]


@pytest.mark.parametrize(
    ("content", "status", "told"),
    [
        (b"", 400, "isn't JSON: Expecting value (line 1, character 1)"),
        (b'{"rows": [{]}', 400, "isn't JSON"),
        (b'{"rows": [{"text": "\x00"}]}', 400, "isn't JSON: Invalid control character"),
        (b'{"rows": [{"text": "\xff"}]}', 400, "isn't UTF-8 (byte 20)"),
        (b"\xef\xbb\xbf{}", 400, "byte order mark"),
        ('{"rows": []}'.encode("utf-16"), 400, "byte order mark"),
        ('{"rows": []}'.encode("utf-16-le"), 400, "isn't JSON"),
        (b'{"rows": [{"amount": NaN}]}', 400, "NaN is no JSON"),
        (b'{"rows": [{"amount": -Infinity}]}', 400, "-Infinity is no JSON"),
        (b'{"rows": [], "rows": [{}]}', 400, "has the key 'rows' twice"),
        (b'{"rows": [{"a\\ud800": 1, "a\\ud800": 2}]}', 400, "has the key 'a\\ud800' twice"),
        (b"[" * 200_000, 400, "nested too deeply"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, 400, "nested too deeply"),
        (b"[]", 422, "an object with one key"),
        (b'{"row": []}', 422, "an object with one key"),
        (b'{"rows": [], "more": 1}', 422, "an object with one key"),
        (b'{"rows": {}}', 422, "rows must be a list"),
        (b'{"rows": []}', 422, "a list of at least one"),
        (body({}, {}, {}, {}), 422, "rows holds 4 objects; at most 3"),
    ],
)
def test_a_body_that_is_not_rows_is_refused(content: bytes, status: int, told: str) -> None:
    error = refused(content)
    assert error.status == status
    assert told in error.message


@pytest.mark.parametrize(
    ("column", "cell", "told"),
    [
        ("text", 3, "must be a string or null"),
        ("kind", ["a"], "must be a string or null"),
        ("kind", True, "must be a string or null"),
        ("amount", "3", "must be a number or null"),
        ("amount", False, "must be a number or null"),
        ("amount", 10**308 * 10, "is too large for a number"),
        ("text", "x" * 21, "has 21 characters; at most 20 are read"),
        ("text", "a\ud800", r"holds half of a character ('\ud800'); write the whole one"),
    ],
)
def test_a_cell_that_cannot_be_taken_is_named_by_row_and_column(
    column: str, cell: Any, told: str
) -> None:
    error = refused(body(ROW, {**ROW, column: cell}))
    assert error.status == 422
    assert error.as_json()["fields"] == [{"row": 1, "column": column, "message": told}]


@pytest.mark.parametrize("digits", ["1e999", "9" * 400, "9" * 50_000])
def test_a_number_of_any_length_is_at_most_too_large(digits: str) -> None:
    error = refused(f'{{"rows": [{{"text": "", "kind": "", "amount": {digits}}}]}}'.encode())
    assert error.faults[0].message == "is too large for a number"


def test_a_key_that_stands_twice_among_very_many_is_found_at_once() -> None:
    pairs = ",".join(f'"k{number}": 1' for number in range(100_000))
    assert "has the key 'k7' twice" in refused(f'{{{pairs}, "k7": 2}}'.encode()).message


def test_absent_columns_and_what_is_no_row_are_named_up_to_ten() -> None:
    fields = refused(body({"text": "a"}, 5)).as_json()["fields"]
    assert [(field["row"], field["column"]) for field in fields] == [
        (0, "kind"),
        (0, "amount"),
        (1, None),
    ]
    assert fields[0]["message"] == "is absent; null says that it is empty"
    assert len(refused(body(*[{}] * 50), most=50).as_json()["fields"]) == 10
