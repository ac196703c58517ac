"""Dirty tables: how a file comes, and what is right for it.

Each is a clean table of 24 rows with one thing wrong. `refused` is what the one message says; else
`cells` are what must be read, and every row must be there. The corpus is that of the reliability
notes: encodings, line ends, quotes, headers, labels, numbers, sizes, damaged files.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

ROWS = 24
TEXT = "text"
LABEL = "label"
_WORDS = ("credit card charge", "student loan payment")
_LABELS = ("card", "loan")

Row = dict[str, Any]


@dataclass(frozen=True)
class Dirty:
    """A dirty table and its right result.

    Attributes:
        file: its name.
        make: its bytes.
        refused: part of the message where it can't be used for training; "" where it can.
        predict: the same for new rows, by a run on the clean table; None: as for training.
        evaluate: the same for labelled rows; None: as for new ones.
        init: the same for a first config; None: as for training.
        eda: the same for a look; None: as for training.
        rows: rows read.
        cells: some cells as they must be read, by row and column.
        roles: further keys of data.
        told: part of a note that training must give; "" for none.
    """

    file: str
    make: Callable[[], bytes]
    refused: str = ""
    predict: str | None = None
    evaluate: str | None = None
    init: str | None = None
    eda: str | None = None
    rows: int = ROWS
    cells: Mapping[tuple[int, str], str | float | None] = field(default_factory=dict)
    roles: Mapping[str, Any] = field(default_factory=dict)
    told: str = ""


def clean(rows: int = ROWS) -> list[Row]:
    """Return rows of a text of its own each, a label of two, a category and a number."""
    return [
        {
            TEXT: f"the {_WORDS[i % 2]} was not my statement number{i} of day{7 * i}",
            LABEL: _LABELS[i % 2],
            "kind": "abc"[i % 3],
            "amount": f"{i * 1.5 + 0.25}",
        }
        for i in range(rows)
    ]


def table(
    change: Callable[[list[Row]], object] = lambda rows: None,
    *,
    delimiter: str = ",",
    end: str = "\n",
    encoding: str = "utf-8",
    quoting: int = csv.QUOTE_MINIMAL,
) -> Callable[[], bytes]:
    """Return the bytes of a CSV of the clean rows after a change to them."""

    def make() -> bytes:
        rows = clean()
        change(rows)
        buffer = io.StringIO(newline="")
        names = list(dict.fromkeys(name for row in rows for name in row))
        writer = csv.DictWriter(buffer, names, "", delimiter=delimiter, lineterminator=end)
        writer.writer = csv.writer(  # type: ignore[attr-defined]
            buffer, delimiter=delimiter, lineterminator=end, quoting=quoting
        )
        writer.writeheader()
        writer.writerows(rows)
        return buffer.getvalue().encode(encoding)

    return make


def put(row: int, column: str, value: Any) -> Callable[[list[Row]], None]:
    """Return a change of one cell."""
    return lambda rows: rows[row].__setitem__(column, value)


def every(column: str, value: Callable[[int], Any]) -> Callable[[list[Row]], None]:
    """Return a change of a whole column."""

    def change(rows: list[Row]) -> None:
        for i, row in enumerate(rows):
            row[column] = value(i)

    return change


def lines(*records: str, head: int = ROWS) -> Callable[[], bytes]:
    """Return a JSONL of the clean rows with lines of one's own before them."""

    def make() -> bytes:
        rows = [json.dumps(row) for row in clean(head)]
        return "\n".join([*records, *rows, ""]).encode("utf-8", "surrogatepass")

    return make


def raw(text: str | bytes, *, rest: bool = True) -> Callable[[], bytes]:
    """Return a CSV of header, lines of one's own, and the clean rows."""

    def make() -> bytes:
        head, _, body = table()().partition(b"\n")
        own = text.encode() if isinstance(text, str) else text
        return head + b"\n" + own + (body if rest else b"")

    return make


def renamed(old: str, new: str) -> Callable[[], bytes]:
    """Return a CSV whose header has another name."""
    return lambda: table()().replace(old.encode(), new.encode(), 1)


def parquet(change: Callable[[pl.DataFrame], pl.DataFrame]) -> Callable[[], bytes]:
    """Return a Parquet file of the clean rows after a change."""

    def make() -> bytes:
        buffer = io.BytesIO()
        change(pl.DataFrame(clean())).write_parquet(buffer)
        return buffer.getvalue()

    return make


def json_row(**cells: Any) -> str:
    """Return a JSONL line: the first clean row with other cells."""
    return json.dumps({**clean(1)[0], **cells})


def _unused(rows: list[Row]) -> None:
    every("junk", lambda i: ["300XX", "1e400", "NaN", "\0", "-"][i % 5])(rows)


def _wide(rows: list[Row]) -> None:
    for row in rows:
        row.update({f"c{n}": str(n) for n in range(5000)})


def _doubled_header() -> bytes:
    return table()().replace(b"kind,amount", b"kind,kind", 1)


def _whole(text: str) -> Callable[[], bytes]:
    return lambda: text.encode()


_LONE = json_row().replace("credit", "cr\\ud83d")
_PLAIN = clean()
_FIRST = str(_PLAIN[0][TEXT])
_TYPO = {"text": ["texte"]}
_ODD = {"text": ["[/te]xt"]}
_NUMBER = {"numeric": ["amount"]}

DIRTY: dict[str, Dirty] = {
    # encodings
    "clean": Dirty("t.csv", table(), cells={(0, TEXT): _FIRST}),
    "byte order mark": Dirty(
        "t.csv", lambda: b"\xef\xbb\xbf" + table()(), cells={(0, TEXT): _FIRST}
    ),
    "Latin-1": Dirty(
        "t.csv",
        table(every(TEXT, lambda i: f"le café número {i} était là"), encoding="latin-1"),
        cells={(1, TEXT): "le café número 1 était là"},
        told="data.encoding cp1252",
    ),
    "Windows-1252": Dirty(
        "t.csv",
        table(put(0, TEXT, "it\u2019s \u201cfine\u201d \u2013 5 \u20ac"), encoding="cp1252"),
        cells={(0, TEXT): "it\u2019s \u201cfine\u201d \u2013 5 \u20ac"},
        told="data.encoding cp1252",
    ),
    "UTF-16 with mark": Dirty(
        "t.csv", table(encoding="utf-16"), cells={(0, TEXT): _FIRST}, told="data.encoding utf-16"
    ),
    "UTF-16 without mark": Dirty(
        "t.csv", table(encoding="utf-16-le"), told="data.encoding utf-16-le"
    ),
    "Cyrillic code page": Dirty(
        "t.csv",
        table(every(TEXT, lambda i: f"\u0436\u0438\u043b \u0434\u0430 {i}"), encoding="cp1251"),
        refused="its encoding isn't certain",
    ),
    "Cyrillic code page, named": Dirty(
        "t.csv",
        table(put(0, TEXT, "\u0436\u0438\u043b \u0434\u0430"), encoding="cp1251"),
        roles={"encoding": "cp1251"},
        cells={(0, TEXT): "\u0436\u0438\u043b \u0434\u0430"},
        init="its encoding isn't certain",
        predict="its encoding isn't certain",
    ),
    "bad bytes in a text": Dirty(
        "t.csv",
        lambda: table(every(TEXT, lambda i: f"caf\u00e9 number {i}"))().replace(
            b"caf\xc3\xa9 number 7,", b"caf\xc3 number 7,"
        ),
        refused="row 7, column 'text': byte 0xc3 isn't utf-8",
        init="",
    ),
    "bad bytes in an unused column": Dirty(
        "t.csv",
        lambda: table(every("z", lambda i: f"caf\u00e9{i}"))().replace(
            b"caf\xc3\xa97", b"caf\xc37"
        ),
    ),
    "binary": Dirty("t.csv", lambda: bytes(range(256)) * 20, refused="t.csv"),
    "Excel": Dirty("t.csv", lambda: b"PK\x03\x04" + bytes(99), refused="looks like Excel or zip"),
    "lone surrogate": Dirty(
        "t.jsonl",
        lines(_LONE),
        refused="row 0, column 'text' holds half of a character",
        init="",
    ),
    "lone surrogate in an unused column": Dirty(
        "t.jsonl", lines(json_row()[:-1] + ', "z": "\\ud83d"}'), rows=ROWS + 1
    ),
    "lone surrogate in a name": Dirty(
        "t.jsonl", lines(json_row()[:-1] + ', "\\ud83d": "z"}'), rows=ROWS + 1
    ),
    "right to left and emoji": Dirty(
        "t.csv",
        table(put(0, TEXT, "\u202e\u0634\u0645\u0633 \U0001f468\u200d\U0001f469 \u0301")),
        cells={(0, TEXT): "\u202e\u0634\u0645\u0633 \U0001f468\u200d\U0001f469 \u0301"},
    ),
    "NUL": Dirty("t.csv", table(put(0, TEXT, "a\0b c d e")), cells={(0, TEXT): "a\0b c d e"}),
    # delimiters, line ends, quotes
    "semicolons": Dirty(
        "t.csv",
        table(every("amount", lambda i: f"{i},5"), delimiter=";"),
        cells={(3, TEXT): _PLAIN[3][TEXT]},
        told="data.delimiter ';' (semicolon)",
    ),
    "tabs": Dirty("t.csv", table(delimiter="\t"), cells={(0, TEXT): _FIRST}, told="(tab)"),
    "bars": Dirty("t.csv", table(delimiter="|"), cells={(0, TEXT): _FIRST}, told="(bar)"),
    "semicolons in all texts": Dirty(
        "t.csv",
        table(every(TEXT, lambda i: f"one; two; three{i}")),
        cells={(4, TEXT): "one; two; three4"},
    ),
    "commas in .tsv": Dirty("t.tsv", table(), cells={(0, TEXT): _FIRST}, told="(comma)"),
    "CR only": Dirty("t.csv", table(end="\r"), cells={(0, TEXT): _FIRST}),
    "CRLF": Dirty("t.csv", table(end="\r\n"), cells={(0, TEXT): _FIRST}),
    "blank lines": Dirty(
        "t.csv", lambda: table()().replace(b"\n", b"\n\n"), cells={(0, TEXT): _FIRST}
    ),
    "quoted line ends": Dirty(
        "t.csv", table(put(0, TEXT, "a\nb\r\nc d e")), cells={(0, TEXT): "a\nb\r\nc d e"}
    ),
    "stray quote": Dirty("t.csv", raw('a 5" disk broke,card,a,1\n'), rows=ROWS + 1),
    "open quote": Dirty("t.csv", raw('"a b c,card,a,1\n'), refused="line 2"),
    "short row": Dirty("t.csv", raw("a b c,card\n"), refused="line 2 (row 0) has 2 cells"),
    "long row": Dirty("t.csv", raw("a,b,c,d,e\n"), refused="line 2 (row 0) has 5 cells"),
    # headers
    "empty file": Dirty("t.csv", _whole(""), refused="the file is empty"),
    "header only": Dirty("t.csv", raw("", rest=False), refused="header but no rows"),
    "no such column": Dirty(
        "t.csv", table(), roles=_TYPO, refused="did you mean 'text'?", init="", predict=""
    ),
    "renamed target": Dirty(
        "t.csv",
        renamed("label", "Label"),
        refused="did you mean 'Label'?",
        predict="",
        init="did you mean 'Label'?",
        evaluate="did you mean 'Label'?",
    ),
    "renamed text": Dirty(
        "t.csv", renamed("text", "Text"), refused="has no column 'text'", init=""
    ),
    "target twice": Dirty(
        "t.csv",
        renamed("kind", "label"),
        refused="names column 'label' twice",
        predict="",
        evaluate="names column 'label' twice",
    ),
    "text twice": Dirty(
        "t.csv",
        renamed("kind", "text"),
        refused="names column 'text' twice",
        init="",
    ),
    "unused column twice": Dirty("t.csv", _doubled_header, cells={(0, TEXT): _FIRST}),
    "markup as name": Dirty(
        "t.csv", renamed("text", "[/te]xt"), roles=_ODD, predict="has no column 'text'"
    ),
    "markup as unused name": Dirty("t.csv", renamed("kind", "[/te]xt [b]:smile:")),
    "HTML as name, label and text": Dirty(
        "t.csv",
        lambda: table(
            lambda rows: (
                every(LABEL, lambda i: f"<script>alert({i % 2})</script>")(rows),
                every(TEXT, lambda i: f"<script>alert('x{i}')</script> and so on{i}")(rows),
            )
        )().replace(b"kind", b"<script>alert(9)</script>", 1),
        roles={"categorical": ["<script>alert(9)</script>"]},
    ),
    "escapes in a name": Dirty("t.csv", renamed("kind", "\x1b[31mred\x07")),
    "column called row": Dirty("t.csv", renamed("kind", "row")),
    "5,000 columns": Dirty("t.csv", table(_wide), cells={(0, TEXT): _FIRST}),
    # labels
    "white space around labels": Dirty(
        "t.csv",
        table(every(LABEL, lambda i: _LABELS[i % 2] + " " * (i % 3 == 0))),
        cells={(0, LABEL): "card", (3, LABEL): "loan"},
        told="white space around 8 labels removed: 'card ' (4), 'loan ' (4)",
    ),
    "white space around labels, exact": Dirty(
        "t.csv",
        table(every(LABEL, lambda i: _LABELS[i % 2] + " " * (i % 4 < 2))),
        roles={"labels": "exact"},
        cells={(0, LABEL): "card ", (2, LABEL): "card"},
        told="'card' (6) and 'card ' (6); 'loan' (6) and 'loan ' (6)",
    ),
    "True, true and 1": Dirty(
        "t.csv",
        table(every(LABEL, lambda i: ["True", "1", "true", "0"][i % 4])),
        cells={(0, LABEL): "True", (1, LABEL): "1", (2, LABEL): "true"},
        told="'1' (6) and 'True' (6) and 'true' (6)",
    ),
    "labels of bool and number": Dirty(
        "t.jsonl",
        lines(
            *(
                json_row(label=value, text=f"one two three {n}")
                for n in range(6)
                for value in (True, 1, "True")
            ),
            head=6,
        ),
        rows=24,
        cells={(0, LABEL): "true", (1, LABEL): "1", (2, LABEL): "True"},
        told="'1' (6) and 'True' (6) and 'true' (6)",
    ),
    "case of labels": Dirty(
        "t.csv",
        table(every(LABEL, lambda i: ["card", "Card"][i % 2])),
        told="'Card' (12) and 'card' (12)",
    ),
    "null label": Dirty(
        "t.csv",
        table(put(5, LABEL, "")),
        refused="1 rows have no 'label': row 5",
        predict="",
        init="",
        eda="",
        evaluate="1 rows have no 'label': row 5",
    ),
    "blank label": Dirty(
        "t.csv",
        table(put(5, LABEL, " \t")),
        refused="1 rows have no 'label': row 5",
        predict="",
        init="",
        eda="",
        evaluate="1 rows have no 'label': row 5",
    ),
    "no label at all": Dirty(
        "t.csv",
        table(every(LABEL, lambda i: "")),
        refused="column 'label' has no value",
        predict="",
        evaluate="column 'label' has no value",
    ),
    "words for missing": Dirty(
        "t.csv",
        table(every(LABEL, lambda i: ["NA", "null"][i % 2])),
        cells={(0, LABEL): "NA", (1, LABEL): "null"},
    ),
    "one class": Dirty(
        "t.csv",
        table(every(LABEL, lambda i: "card")),
        refused="holds a single class",
        predict="",
        eda="",
        init="1 different values",
    ),
    "rare class": Dirty(
        "t.csv", table(put(0, LABEL, "odd")), refused="rare_classes", predict="", init="", eda=""
    ),
    "markup as label": Dirty(
        "t.csv", table(every(LABEL, lambda i: ["[/b]", "[red]"][i % 2])), cells={(0, LABEL): "[/b]"}
    ),
    "formula as label": Dirty(
        "t.csv",
        table(every(LABEL, lambda i: ["=cmd|' /C calc'!A0", "@x"][i % 2])),
        cells={(1, LABEL): "@x"},
    ),
    # values
    "empty column": Dirty("t.csv", table(every("kind", lambda i: ""))),
    "empty text column": Dirty(
        "t.csv",
        table(every(TEXT, lambda i: "")),
        refused="column 'text' has no value",
        predict="",
        evaluate="column 'text' has no value",
        init="",
    ),
    "leading zeros": Dirty(
        "t.csv",
        table(every("kind", lambda i: f"0050{i % 5}")),
        roles={"categorical": ["kind"]},
        cells={(1, "kind"): "00501"},
    ),
    "infinity in a number": Dirty(
        "t.csv",
        table(put(3, "amount", "inf")),
        roles=_NUMBER,
        init="",
        refused="column 'amount' holds 1 cells that aren't finite numbers (row 3: 'inf')",
        predict="",
    ),
    "1e400 in a number": Dirty(
        "t.csv",
        table(put(3, "amount", "1e400")),
        roles=_NUMBER,
        init="",
        predict="",
        refused="column 'amount' holds 1 cells that aren't finite numbers (row 3: '1e400')",
    ),
    "300XX far down": Dirty(
        "t.csv",
        table(put(23, "amount", "300XX")),
        roles=_NUMBER,
        init="",
        predict="",
        refused="(row 23: '300XX')",
    ),
    "anything in an unused column": Dirty("t.csv", table(_unused), cells={(0, TEXT): _FIRST}),
    "mixed dates": Dirty(
        "t.csv",
        table(every("kind", lambda i: ["2024-01-02", "1/2/24", "Jan 2"][i % 3])),
        roles={"categorical": ["kind"]},
        cells={(1, "kind"): "1/2/24"},
    ),
    "one row": Dirty(
        "t.csv",
        raw("a b c,card,a,1\n", rest=False),
        rows=1,
        refused="folds",
        predict="",
        eda="",
        init="1 different values",
    ),
    "20 MB cell": Dirty("t.csv", table(put(0, TEXT, "the bank lost my card. " * 900_000))),
    # JSON
    "5,000 digits": Dirty(
        "t.jsonl", lines(json_row()[:-1] + f', "z": {"9" * 5000}}}'), rows=ROWS + 1
    ),
    "5,000 digits as text": Dirty(
        "t.jsonl",
        lines(json_row(text=0).replace(f'"{TEXT}": 0', f'"{TEXT}": {"9" * 5000}')),
        rows=ROWS + 1,
        cells={(0, TEXT): "9" * 5000},
    ),
    "nested values in an unused column": Dirty(
        "t.jsonl", lines(json_row(z=[{"a": [1]}])), rows=ROWS + 1
    ),
    "nested text": Dirty(
        "t.jsonl",
        lines(json_row(text={"a": 1})),
        refused="column 'text' holds a nested value",
        init="",
    ),
    "NaN and Infinity": Dirty(
        "t.jsonl", lines(json_row(kind=float("nan"), amount=float("inf"))), rows=ROWS + 1
    ),
    "broken JSON": Dirty("t.jsonl", lines('{"text": '), refused="line 1 (row 0) isn't JSON"),
    "deep JSON": Dirty("t.jsonl", lines("[" * 100_000), refused="line 1 (row 0) isn't JSON"),
    "a list": Dirty("t.jsonl", lines("[1]"), refused="line 1 (row 0) isn't a JSON object"),
    "key twice": Dirty(
        "t.jsonl",
        lines(json_row()[:-1] + ', "text": "z"}'),
        refused="names column 'text' twice",
        init="",
    ),
    # damaged and binary files
    "cut gzip": Dirty("t.csv.gz", lambda: gzip.compress(table()())[:-9], refused="cut-off gzip"),
    "text named .gz": Dirty("t.csv.gz", table(), refused="damaged or cut-off gzip"),
    "cut Parquet": Dirty(
        "t.parquet", lambda: parquet(lambda t: t)()[:-30], refused="can't be read as Parquet"
    ),
    "text named .parquet": Dirty("t.parquet", table(), refused="can't be read as Parquet"),
    "nested and binary Parquet columns": Dirty(
        "t.parquet",
        parquet(lambda t: t.with_columns(pl.struct("kind").alias("s"), pl.lit(b"\xff").alias("b"))),
        cells={(0, TEXT): _FIRST},
    ),
    "Parquet with typed columns": Dirty(
        "t.parquet",
        parquet(lambda t: t.with_columns(pl.lit(None).alias("n"), pl.lit(True).alias("yes"))),
    ),
    "another format": Dirty("t.xlsx", lambda: b"PK", refused="allowed: .csv"),
}
