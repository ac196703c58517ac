"""The body of a request: bytes in, a frame of rows out, or the field that is at fault.

JSON is read more strictly than Python reads it: UTF-8 without a mark, no key twice, no NaN or
Infinity, no half characters. A cell is what its column's role says: text or null, a number or null.
Nothing is converted, so a request that is answered was understood.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

import polars as pl

from foldwise.serving.limits import MOST_TOLD, Fault, Limits, Refused

Role = Literal["text", "categorical", "numeric"]


@dataclass(frozen=True)
class Column:
    """A column that the model reads.

    Attributes:
        name: in a row.
        role: text, categorical or numeric.
    """

    name: str
    role: Role

    @property
    def dtype(self) -> Any:
        """What its cells are in a frame."""
        return pl.Float64 if self.role == "numeric" else pl.String

    def cells(self, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Return its cells of rows that have been checked."""
        cells = [row[self.name] for row in rows]
        if self.role == "numeric":
            return [None if cell is None else float(cell) for cell in cells]
        return cells


def parse_rows(body: bytes, columns: Sequence[Column], limits: Limits, most: int) -> pl.DataFrame:
    """Return the rows of a request: `{"rows": [{column: cell, ...}, ...]}`.

    Every column has to be named in every row; null says that a cell is empty. Other keys of a row
    don't matter, as other columns of a table don't.

    Args:
        body: of the request.
        columns: that are needed.
        limits: of texts.
        most: rows.

    Raises:
        Refused: 400 for what isn't JSON, 422 for what isn't rows.
    """
    content = _parse(body)
    if not isinstance(content, dict) or set(content) != {"rows"}:
        raise Refused(422, 'the body must be an object with one key: {"rows": [{...}, ...]}')
    rows = content["rows"]
    if not isinstance(rows, list) or not rows:
        raise Refused(422, "rows must be a list of at least one object")
    if len(rows) > most:
        raise Refused(422, f"rows holds {len(rows)} objects; at most {most} are answered at once")
    faults: list[Fault] = []
    for number, row in enumerate(rows):
        faults += _faults(row, number, columns, limits)
        if len(faults) >= MOST_TOLD:
            break
    if faults:
        raise Refused(422, "the request has fields that can't be taken", faults)
    return pl.DataFrame(
        {
            column.name: pl.Series(column.cells(rows), dtype=column.dtype, strict=True)
            for column in columns
        }
    )


def _faults(row: Any, number: int, columns: Sequence[Column], limits: Limits) -> Iterator[Fault]:
    if not isinstance(row, dict):
        yield Fault(number, None, "must be an object: column names and cells")
        return
    for column in columns:
        if column.name not in row:
            told = "is absent; null says that it is empty"
        else:
            told = _fault(row[column.name], column, limits)
        if told:
            yield Fault(number, column.name, told)


def _fault(cell: Any, column: Column, limits: Limits) -> str:
    """Say what is wrong with a cell; nothing where it can be taken."""
    if cell is None:
        return ""
    if column.role == "numeric":
        if isinstance(cell, bool) or not isinstance(cell, int | float):
            return "must be a number or null"
        return "" if _finite(cell) else "is too large for a number"
    if not isinstance(cell, str):
        return "must be a string or null"
    if len(cell) > limits.characters:
        return f"has {len(cell)} characters; at most {limits.characters} are read"
    try:
        cell.encode()
    except UnicodeEncodeError as error:
        return f"holds half of a character ({error.object[error.start]!a}); write the whole one"
    return ""


def _finite(number: int | float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # an int beyond the floats
        return False


def _parse(body: bytes) -> Any:
    if body.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise Refused(400, "the body begins with a byte order mark; send UTF-8 without one")
    try:
        return json.loads(
            body.decode(), object_pairs_hook=_once, parse_constant=_no_number, parse_int=_whole
        )
    except UnicodeDecodeError as error:
        raise Refused(400, f"the body isn't UTF-8 (byte {error.start}); encode it so") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, character {error.colno}"
        raise Refused(400, f"the body isn't JSON: {error.msg} ({where})") from None
    except RecursionError:
        raise Refused(400, "the body is nested too deeply; rows are flat objects") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise Refused(400, f"an object has the key {twice[:50]!a} twice; leave one out")
    return found


def _no_number(word: str) -> NoReturn:
    raise Refused(400, f"{word} is no JSON; null says that a cell is empty")


def _whole(digits: str) -> int | float:
    # Python refuses to read very many digits; beyond 308 of them none is a float anyway.
    return int(digits) if len(digits) <= 400 else math.inf
