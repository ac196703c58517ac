"""How a text table is written: its file and the config's wishes in, encoding and delimiter out.

The column names decide: the delimiter under which the header has the columns that are wanted is the
one, so that semicolons in the texts of a comma CSV can never win. Without such names a delimiter
has to part the header and every row of a sample into equally many cells, two or more, and a
file's usual one goes first. Python's csv.Sniffer was right on the tables tried, but it can't be
told the wanted names, gives up on a table of one column, and promises nothing.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection
from dataclasses import dataclass, replace

from foldwise.table.cells import Decimal
from foldwise.table.encodings import find_encoding, is_utf8_beyond_ascii, open_text

SAMPLE_CHARS = 1 << 18
DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}


@dataclass(frozen=True)
class Form:
    """How a text file is written, as asked for (`auto`) or as found.

    Attributes:
        encoding: a codec's name.
        delimiter: one character; of no matter to JSONL.
        decimal: what stands before the fractions of a CSV's numbers; a point in JSONL.
        doubtful: whether another encoding was asked for, but the file is UTF-8.
    """

    encoding: str = "auto"
    delimiter: str = "auto"
    decimal: Decimal = "."
    doubtful: bool = False


def usual_delimiter(file: str) -> str:
    """Return what a file's name promises: tabs in .tsv, commas else."""
    return "\t" if file.lower().removesuffix(".gz").endswith(".tsv") else ","


def decimal_of(form: Form | None) -> Decimal:
    """Return what stands before a file's fractions; None is the form of what isn't text."""
    return "." if form is None else form.decimal


def find_form(file: str, asked: Form, wanted: Collection[str], *, delimited: bool) -> Form:
    """Replace what is `auto` by what a file shows.

    Args:
        file: a CSV, TSV or JSONL file.
        asked: data.encoding, data.delimiter and data.decimal.
        wanted: columns that its header must have; may be empty.
        delimited: whether it has a delimiter: JSONL has none.

    Raises:
        FoldwiseError: it can't be read, or its encoding isn't certain.
    """
    encoding = find_encoding(file) if asked.encoding == "auto" else asked.encoding
    # A file beyond ASCII that is UTF-8 is so by no chance; read as another it is spoilt unseen.
    named = asked.encoding != "auto" and not _is_utf8(encoding)
    doubtful = named and is_utf8_beyond_ascii(file)
    found = replace(asked, encoding=encoding, doubtful=doubtful)
    if not delimited:
        return replace(found, decimal=".")
    if asked.delimiter != "auto":
        return found
    with open_text(file, "", encoding) as stream:
        sample = stream.read(SAMPLE_CHARS)
    return replace(found, delimiter=_delimiter(sample, usual_delimiter(file), set(wanted)))


def told(file: str, form: Form) -> str | None:
    """Say how a file was read, where that isn't what its name promises."""
    words = []
    if not _is_utf8(form.encoding):
        latin = " (Windows-1252, as Latin-1 files are)" if form.encoding == "cp1252" else ""
        doubt = ", though the file is UTF-8" if form.doubtful else ""
        words.append(f"data.encoding {form.encoding}{latin}{doubt}")
    if form.delimiter not in ("auto", usual_delimiter(file)):
        name = DELIMITERS.get(form.delimiter)
        words.append(f"data.delimiter {form.delimiter!r}" + (f" ({name})" if name else ""))
    return f"{file}: read with {' and '.join(words)}" if words else None


def _is_utf8(encoding: str) -> bool:
    return encoding.lower().replace("_", "-") in ("utf-8", "utf8", "utf-8-sig")


def _delimiter(sample: str, usual: str, wanted: set[str]) -> str:
    candidates = [usual, *(sign for sign in DELIMITERS if sign != usual)]
    cut = len(sample) == SAMPLE_CHARS
    tables = {sign: _records(sample, sign, cut=cut) for sign in candidates}
    if wanted:
        for sign, records in tables.items():
            if records and wanted <= set(records[0]):
                return sign
    even = [
        sign
        for sign, records in tables.items()
        if records and len(records[0]) > 1 and len({len(cells) for cells in records}) == 1
    ]
    return even[0] if even else usual


def _records(sample: str, delimiter: str, *, cut: bool) -> list[list[str]]:
    csv.field_size_limit(2**31 - 1)
    records = [cells for cells in csv.reader(io.StringIO(sample, ""), delimiter=delimiter) if cells]
    return records[:-1] if cut and len(records) > 1 else records
