"""The objects of a JSONL file: a file in, each object with its place for messages out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from foldwise.errors import FoldwiseError
from foldwise.table.delimiters import Form
from foldwise.table.encodings import open_text


class Repeating(dict[str, Any]):
    """A JSON object that names a key more than once."""

    repeated: frozenset[str]


def read_records(file: str, form: Form, first_row: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Read a file's objects, each with its place; numbers keep their digits as strings.

    Raises:
        FoldwiseError: a line that isn't an object.
    """
    # Numbers keep their digits as written; pandas and Python write a missing number as NaN.
    decoder = json.JSONDecoder(
        object_pairs_hook=_object,
        parse_int=str,
        parse_float=str,
        parse_constant=lambda name: None if name == "NaN" else name,
    )
    row = first_row
    with open_text(file, "\n", form.encoding) as stream:
        for line, text in enumerate(stream, start=1):
            if not text.strip():
                continue
            place = f"{file}: line {line} (row {row})"
            try:
                record = decoder.decode(text)
            except (json.JSONDecodeError, RecursionError) as error:
                raise FoldwiseError(f"{place} isn't JSON, one object a line: {error}") from None
            if not isinstance(record, dict):
                raise FoldwiseError(f"{place} isn't a JSON object: write one {{...}} a line")
            yield place, record
            row += 1


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    names = [name for name, _ in pairs]
    repeating = Repeating(found)
    repeating.repeated = frozenset(name for name in found if names.count(name) > 1)
    return repeating
