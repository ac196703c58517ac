"""Read YAML into entries: plain values that remember where each was written.

In: a file or a text. Out: a tree of `Entry`; what is wrong with a single key is added to a list of
findings, and only a text of which nothing can be used raises.

PyYAML's parser is used for its events only. Its constructor would read `no` as false, `1e-5` as
text and `00501` as 321, let a repeated key win silently, and forget lines. Size, depth and number
of values are limited, so that a table given by mistake is refused at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any, NamedTuple

import yaml

from foldwise.config.grammar import Path, Problem

MAX_BYTES = 1_000_000
MAX_DEPTH = 20
MAX_VALUES = 10_000  # PyYAML reads 15,000 values a second

Scalar = bool | int | float | str | None


class Place(NamedTuple):
    """Where a key was written: a file with line (and column), or a `--set` option."""

    source: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return ":".join([self.source, *(str(n) for n in (self.line, self.column) if n)])


class Finding(NamedTuple):
    """A problem with the place to show for it."""

    place: Place
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


class Unreadable(Exception):
    """A file or text of which nothing can be used; its argument is the Finding."""


@dataclass
class Entry:
    """A value with its place; `refused` if what stands there can't be read as a value."""

    value: Scalar | list[Entry] | dict[str, Entry]
    place: Place
    refused: bool = False


def read_file(path: FilePath, findings: list[Finding]) -> Entry | None:
    """Read the one YAML document in a file, or None if it holds nothing.

    Raises:
        Unreadable: for a file that can't be opened, or whose text isn't YAML or is too large.
    """
    return _parse(_decode(path), str(path), True, findings)


def read_text(text: str, source: str, findings: list[Finding]) -> Entry | None:
    """Read a YAML text that was not in a file: its places name `source` and no line."""
    return _parse(text, source, False, findings)


_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|false", re.IGNORECASE)
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


def read_scalar(text: str) -> Scalar:
    """Read an unquoted scalar; what isn't null, true, false or a decimal number is text."""
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text.lower() == "true"
    if _INT.fullmatch(text):
        return int(text[:100])  # beyond 40 digits it is refused, whatever it is
    if _FLOAT.fullmatch(text):
        return float(text)
    if _NOT_FINITE.fullmatch(text):
        return float(text.replace(".", ""))
    return text


def entry_at(tree: Entry, path: Path) -> Entry | None:
    """Find the entry of a key, or None."""
    here = tree
    for key in path:
        if isinstance(here.value, dict) and key in here.value:
            here = here.value[str(key)]
        elif isinstance(here.value, list) and isinstance(key, int):
            here = here.value[key]
        else:
            return None
    return here


def plain(entry: Entry) -> Any:
    """Drop the places: plain Python values."""
    if isinstance(entry.value, dict):
        return {key: plain(below) for key, below in entry.value.items()}
    if isinstance(entry.value, list):
        return [plain(below) for below in entry.value]
    return entry.value


@dataclass
class _Document:
    """A YAML text while it is read: what is left of its events, and what was found wrong."""

    source: str
    in_file: bool
    events: Iterator[yaml.Event]
    findings: list[Finding]
    n_values: int = 0

    def place(self, mark: Any, column: bool = False) -> Place:
        """Say where a PyYAML mark or None lies; a `--set` option has no lines worth naming."""
        if mark is None or not self.in_file:
            return Place(self.source)
        return Place(self.source, mark.line + 1, mark.column + 1 if column else 0)


def _decode(path: FilePath) -> str:
    message, line = "", 0
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) <= MAX_BYTES:
            return content.decode("utf-8-sig")
        message = "is larger than 1 MB; a config is a few lines of YAML"
    except FileNotFoundError:
        message = "no such file; give the path of a YAML config"
    except IsADirectoryError:
        message = "is a folder; give the YAML config in it"
    except UnicodeDecodeError as error:
        message, line = (
            "isn't UTF-8 text; save it as UTF-8",
            content.count(b"\n", 0, error.start) + 1,
        )
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        message = f"can't be read: {error}"
    raise Unreadable(Finding(Place(str(path), line), message))


def _parse(text: str, source: str, in_file: bool, findings: list[Finding]) -> Entry | None:
    """Build the entries of the one YAML document in a text, or None if it holds nothing."""
    events = (
        event
        for event in yaml.parse(text, Loader=yaml.SafeLoader)  # starts with the first next()
        if not isinstance(event, yaml.StreamStartEvent | yaml.StreamEndEvent)
    )
    document = _Document(source, in_file, events, findings)
    try:
        if next(document.events, None) is None:
            return None
        first = next(document.events)
        nothing = isinstance(first, yaml.ScalarEvent) and first.implicit[0] and not first.value
        tree = _entry(document, first, ())
        next(document.events)  # the document's end
        second = next(document.events, None)
    except yaml.MarkedYAMLError as error:
        place = document.place(error.problem_mark or error.context_mark, column=True)
        raise Unreadable(Finding(place, _syntax_words(error, in_file))) from None
    except yaml.reader.ReaderError as error:
        place = Place(source, text.count("\n", 0, error.position) + 1 if in_file else 0)
        message = f"the character {chr(int(error.character))!r} can't stand in YAML; remove it"
        raise Unreadable(Finding(place, message)) from None
    except (ValueError, OverflowError) as error:  # PyYAML: "\UFFFFFFFF", %YAML 9999....1
        message = f"isn't YAML: an escape or version number is too large ({error})"
        raise Unreadable(Finding(Place(source), message)) from None
    if second is not None:
        message = "a second document starts here; a config is one"
        raise Unreadable(Finding(document.place(second.start_mark), message))
    return None if nothing else tree


def _entry(document: _Document, event: yaml.Event, path: Path) -> Entry:
    """Build the entry that starts with `event`, taking what belongs to it from the document."""
    here = document.place(event.start_mark)
    document.n_values += 1
    if document.n_values > MAX_VALUES:
        message = f"holds more than {MAX_VALUES} keys and values; a config is a few lines of YAML"
        raise Unreadable(Finding(here, message))
    if len(path) > MAX_DEPTH:
        raise Unreadable(Finding(here, f"nested more than {MAX_DEPTH} levels deep"))
    refusal = None
    value: Scalar | list[Entry] | dict[str, Entry] = None
    if isinstance(event, yaml.AliasEvent):
        refusal = f"the alias *{event.anchor} isn't read; write the value out, or use extends"
    elif (tag := getattr(event, "tag", None)) is not None:
        shown = tag.replace("tag:yaml.org,2002:", "!!")[:80]
        refusal = f"the tag {shown} isn't read; write a plain value"
    if isinstance(event, yaml.ScalarEvent):
        value = read_scalar(event.value) if event.style is None else event.value
        if re.search("[\ud800-\udfff]", event.value):
            refusal = "half of a surrogate pair isn't text; write the character itself"
        elif isinstance(value, int) and abs(value) >= 10**40:
            refusal = "a number of more than 40 digits; quote it if it is text"
    elif isinstance(event, yaml.SequenceStartEvent):
        value = []
        while not isinstance(item := next(document.events), yaml.SequenceEndEvent):
            value.append(_entry(document, item, (*path, len(value))))
    elif isinstance(event, yaml.MappingStartEvent):
        value = {}
        while not isinstance(key := next(document.events), yaml.MappingEndEvent):
            _add_key(document, key, value, path)
    if refusal:
        document.findings.append(Finding(here, str(Problem(path, refusal))))
    return Entry(value, here, refusal is not None)


def _add_key(document: _Document, event: yaml.Event, into: dict[str, Entry], path: Path) -> None:
    """Read a key and its value; keys are text whatever they look like, so labels stay labels."""
    here = document.place(event.start_mark)
    text = getattr(event, "value", "")
    key = _entry(document, event, (*path, text))
    value = _entry(document, next(document.events), (*path, text))
    message = None
    if not isinstance(event, yaml.ScalarEvent):
        message = None if key.refused else "a key must be text, not a list or a map"
    elif event.style is None and text == "<<":
        message = "merging with << isn't read; use extends, or write the keys out"
    elif event.style is None and not text:
        message = "a key is missing before ':'"
    elif text in into:
        first = into[text].place.line
        message = f"is given twice, first on line {first}" if first else "is given twice"
        path = (*path, text)
    elif not key.refused:
        # The key's line, also for a value that starts further down.
        into[text] = Entry(value.value, here, value.refused)
    if message:
        document.findings.append(Finding(here, str(Problem(path, message))))


def _syntax_words(error: yaml.MarkedYAMLError, in_file: bool) -> str:
    """Put the parser's complaint in plain words."""
    problem, context = error.problem or "", error.context or ""
    opened = f" on line {error.context_mark.line + 1}" if error.context_mark and in_file else ""
    if "'\\t'" in problem:
        return "a tab can't indent a line or start a value; use spaces"
    if found := re.search("found character (.*) that cannot start", problem):
        return f"text can't start with {found[1]}; quote it"
    if found := re.search("(mapping values|sequence entries) are not allowed", problem):
        sign = ":" if found[1] == "mapping values" else "-"
        return f"a {sign!r} can't stand here: check the indentation, and quote text with '{sign} '"
    if "could not find expected ':'" in problem:
        return f"a ':' is missing after the key{opened}"
    if "while scanning a quoted scalar" in context and "end of stream" in problem:
        return f"the quote opened{opened} is not closed"
    if "while scanning a double-quoted scalar" in context:
        return 'a backslash in "..." is not an escape that YAML knows; use single quotes'
    if "flow sequence" in context:
        return f"the list opened with '['{opened} lacks a ',' or its ']'"
    if "flow mapping" in context:
        return f"the map opened with '{{'{opened} lacks a ',' or its '}}'"
    if "while parsing a block" in context:
        return (
            f"doesn't fit the block that starts{opened}: check the indentation, and the quotes and "
            "brackets before it"
        )
    if "expected the node content" in problem:
        return "a value is expected here"
    return f"isn't YAML: {problem}" + (f" ({context}{opened})" if context else "")
