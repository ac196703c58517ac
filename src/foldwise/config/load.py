"""Read a YAML file into a `Config`, or say everything that is wrong with it at once.

In: a path, the `--set` texts, and the environment variables that the config names. Out: a frozen
`Config` in which `extends` is merged and `code` is absolute; or one FoldwiseError with a line
`file:line: key: what is wrong` per problem. `dump_config` writes the text that loads back to the
same config, `diff_configs` says which keys two configs differ in.

PyYAML's parser is used for its events only. Its constructor would read `no` as false, `1e-5` as
text and `00501` as 321, let a repeated key win silently, and forget lines; so values are built here
as `Entry` trees that remember where each key was written.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any, Literal, NamedTuple, get_args, get_origin

import yaml
from pydantic import ValidationError

from foldwise.config.reference import field_at, options, sections, type_words
from foldwise.config.schema import Config, Path, Problem, nearest, unknown_key
from foldwise.errors import FoldwiseError

MAX_BYTES = 1_000_000
MAX_DEPTH = 20
MAX_VALUES = 10_000  # PyYAML reads 15,000 values a second
MAX_EXTENDS = 10
WITH_VARIABLES = (
    ("data", "path"),
    ("run", "dir"),
    ("holdout", "path"),
    ("model", "backbone"),
)

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


@dataclass
class Document:
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


def load_config(path: str | FilePath, overrides: Sequence[str] = ()) -> Config:
    """Read a config file and what it extends, apply `--set` overrides, and check every key.

    Args:
        path: the YAML file.
        overrides: texts of the form `a.b=c`; c is YAML and replaces the value at its key.

    Raises:
        FoldwiseError: every problem on a line of its own, with file and line.
    """
    findings: list[Finding] = []
    config = None
    try:
        tree = _read(FilePath(path), (), findings)
    except Unreadable as error:
        findings.append(error.args[0])
    else:
        for text in overrides:
            _override(tree, text, findings)
        for key in WITH_VARIABLES:
            _insert_variables(tree, key, findings)
        _check_code(tree, findings)
        config = _validate(tree, findings)
    if config is None or findings:
        by_place = sorted(findings, key=lambda f: (f.place.source.startswith("--set"), f.place))
        raise FoldwiseError("\n".join(map(str, by_place)))
    return config


def dump_config(config: Config) -> str:
    """Write a config as YAML, every key with its value, so that loading it gives an equal one."""
    values = config.model_dump()
    for section, key in WITH_VARIABLES:
        if values[section] and isinstance(values[section][key], str):
            values[section][key] = values[section][key].replace("${", "$${")
    text = yaml.dump(
        values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=float("inf")
    )
    return f"# Every key of the config, resolved; docs/config.md explains them.\n{text}"


def diff_configs(a: Config, b: Config, ignore: Collection[str] = ()) -> list[str]:
    """List the keys that differ, as `training.epochs: 5 -> 3`.

    Args:
        a: the config on the left of the arrow.
        b: the config on the right of it.
        ignore: dotted keys to leave out, with all that lies below them.
    """
    return list(_differences((), a.model_dump(), b.model_dump(), ignore))


def _read(path: FilePath, chain: tuple[FilePath, ...], findings: list[Finding]) -> Entry:
    """Read a file merged onto what it extends; `chain` holds the files on the way to it."""
    tree = _parse(_decode(path), str(path), True, findings)
    if tree is None:
        raise Unreadable(Finding(Place(str(path)), "the file is empty; start with `run:`, `data:`"))
    if not isinstance(tree.value, dict):
        message = f"a config is a map of keys such as `run:`, not {_shown(_plain(tree))}"
        raise Unreadable(Finding(tree.place, message))
    _resolve_code(tree.value.get("code"), path.parent)
    named = tree.value.pop("extends", None)
    if named is None or named.refused:
        return tree
    if not isinstance(named.value, str) or not named.value:
        found = _shown(_plain(named))
        message = f"extends: must be the path of one config, relative to this file, got {found}"
        findings.append(Finding(named.place, message))
        return tree
    base = FilePath(os.path.normpath(path.parent / named.value))
    chain = (*chain, path)
    message = ""
    if "\0" in named.value or not base.exists():
        message = f"no such file: {_shown(str(base))}"
    elif os.path.realpath(base) in map(os.path.realpath, chain):
        message = f"goes round in a circle: {' -> '.join(map(str, (*chain, base)))}"
    elif len(chain) > MAX_EXTENDS:
        message = f"more than {MAX_EXTENDS} configs in a chain"
    if message:
        raise Unreadable(Finding(named.place, f"extends: {message}"))
    return _merge(_read(base, chain, findings), tree)


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
    document = Document(source, in_file, iter(()), findings)
    try:
        document.events = (
            event
            for event in yaml.parse(text, Loader=yaml.SafeLoader)
            if not isinstance(event, yaml.StreamStartEvent | yaml.StreamEndEvent)
        )
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


def _entry(document: Document, event: yaml.Event, path: Path) -> Entry:
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
        value = _scalar(event.value) if event.style is None else event.value
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
        document.findings.append(Finding(here, _line(Problem(path, refusal))))
    return Entry(value, here, refusal is not None)


def _add_key(document: Document, event: yaml.Event, into: dict[str, Entry], path: Path) -> None:
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
        document.findings.append(Finding(here, _line(Problem(path, message))))


_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|false", re.IGNORECASE)
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


def _scalar(text: str) -> Scalar:
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


def _merge(base: Entry, child: Entry, path: Path = ()) -> Entry:
    """Lay a config onto the one it extends: maps key by key, everything else replaced."""
    if not isinstance(base.value, dict) or not isinstance(child.value, dict):
        return child
    # A part of another name has other arguments; a run of another name is still the base's run.
    if path == ("holdout",) or (path != ("run",) and _renamed(base.value, child.value)):
        return child
    merged = dict(base.value)
    for key, entry in child.value.items():
        merged[key] = _merge(merged[key], entry, (*path, key)) if key in merged else entry
    return Entry(merged, child.place, child.refused)


def _renamed(base: dict[str, Entry], child: dict[str, Entry]) -> bool:
    names = [entries["name"].value for entries in (base, child) if "name" in entries]
    return len(names) == 2 and all(isinstance(n, str) for n in names) and names[0] != names[1]


def _resolve_code(code: Entry | None, folder: FilePath) -> None:
    """Make the files under `code` absolute while it is known which file names them."""
    if code is not None and isinstance(code.value, list):
        for entry in code.value:
            if isinstance(entry.value, str) and entry.value:
                entry.value = os.path.abspath(folder / entry.value)


def _override(tree: Entry, text: str, findings: list[Finding]) -> None:
    """Replace the value at the key that a `--set a.b=c` names."""
    place = Place(f"--set {text}")
    dotted, equals, written = text.partition("=")
    keys = dotted.strip().split(".")
    message = None
    if not equals or not all(keys):
        message = "must have the form a.b=value"
    elif keys[0] == "extends":
        message = "extends can only be written in the config file"
    elif not written.strip():
        message = "has no value; write null for none"
    if message:
        findings.append(Finding(place, message))
        return
    try:
        entry = _parse(written, str(place), False, findings) or Entry(None, place)
    except Unreadable as error:
        findings.append(error.args[0])
        return
    if keys == ["code"]:
        _resolve_code(entry, FilePath())
    here = tree
    for depth, key in enumerate(keys):
        if here.value is None:  # `holdout: null` is filled in like a missing key
            here.value, here.place, here.refused = {}, place, False
        if not isinstance(here.value, dict):
            reached = ".".join(keys[:depth])
            message = f"{reached} is {_shown(_plain(here))}, not a map; set {reached} as a whole"
            findings.append(Finding(place, message))
            return
        if depth == len(keys) - 1:
            here.value[key] = entry
        else:
            here = here.value.setdefault(key, Entry({}, place))


_VARIABLE = re.compile(r"(?P<escaped>\$\$\{)|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)\}|(?P<bad>\$\{)")


def _insert_variables(tree: Entry, path: Path, findings: list[Finding]) -> None:
    entry = _entry_at(tree, path)
    if entry is None or not isinstance(entry.value, str):
        return
    target = entry

    def value_of(match: re.Match[str]) -> str:
        if match["escaped"]:
            return "${"
        if match["name"] and match["name"] in os.environ:
            return os.environ[match["name"]]
        message = "a variable is written ${NAME}, a literal ${ as $${"
        if match["name"]:
            message = f"the environment variable {match['name']} is not set"
        findings.append(Finding(target.place, f"{_dotted(path)}: {message}"))
        target.refused = True
        return match[0]

    entry.value = _VARIABLE.sub(value_of, entry.value)


def _check_code(tree: Entry, findings: list[Finding]) -> None:
    code = _entry_at(tree, ("code",))
    if code is None or not isinstance(code.value, list):
        return
    for i, entry in enumerate(code.value):
        if isinstance(entry.value, str) and entry.value:
            message = None
            if not entry.value.endswith(".py"):
                message = f"must be a Python file ending in .py, got {entry.value!r}"
            elif not os.path.isfile(entry.value):
                message = f"no such file: {entry.value}"
            if message:
                findings.append(Finding(entry.place, f"code[{i}]: {message}"))
                entry.refused = True


def _entry_at(tree: Entry, path: Path) -> Entry | None:
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


def _validate(tree: Entry, findings: list[Finding]) -> Config | None:
    """Check the values; what is wrong is taken out and the rest is checked again.

    A check that reads several keys only runs once each of them is right in itself, so one pass
    would show a mistyped number today and the missing column tomorrow.
    """
    refused = set(_refused(tree, ()))
    out: set[Path] = set()
    while True:
        values = _plain(tree)
        for path in out:
            _take_out(values, path)
        if any(path[0] == "run" for path in out):
            values["run"] = {"name": "stands-in"}
        try:
            return Config.model_validate(values)
        except ValidationError as error:
            problems = _problems(error, values)
        known = refused | out
        fresh = [p for p in problems if not any(_touches(p, path) for path in known)]
        findings.extend(Finding(_place(tree, p.path), _line(p)) for p in fresh)
        # What is still wrong without the key (a part without name, any list) goes as a whole.
        more = {p.path[:-1] if p.path in out else p.path for p in problems} - out - {()}
        if not more:
            return None
        out |= more


def _refused(entry: Entry, path: Path) -> Iterator[Path]:
    if entry.refused and path:
        yield path
    elif isinstance(entry.value, dict):
        for key, below in entry.value.items():
            yield from _refused(below, (*path, key))
    elif isinstance(entry.value, list):
        for i, below in enumerate(entry.value):
            yield from _refused(below, (*path, i))


def _plain(entry: Entry) -> Any:
    """Drop the places: plain Python values."""
    if isinstance(entry.value, dict):
        return {key: _plain(below) for key, below in entry.value.items()}
    if isinstance(entry.value, list):
        return [_plain(below) for below in entry.value]
    return entry.value


def _take_out(values: Any, path: Path) -> None:
    """Remove a key so that its default stands in."""
    if isinstance(values, dict) and path[0] in values:
        if len(path) == 1:
            del values[path[0]]
        else:
            _take_out(values[path[0]], path[1:])


def _touches(problem: Problem, known: Path) -> bool:
    """Tell whether a problem may only follow from a key that is known to be wrong."""
    paths = (problem.path, *problem.involves)
    return any(path[: len(known)] == known[: len(path)] for path in paths)


def _problems(error: ValidationError, values: dict[str, Any]) -> list[Problem]:
    """Put pydantic's errors in plain words: one a key, however many types of a union it tried."""
    found: dict[Path, Problem] = {}
    checks: list[Problem] = []
    for raw in error.errors(include_url=False):
        missing = raw["type"] == "missing"
        path, value = _real_path(raw["loc"], values, missing)
        if raw["type"] == "foldwise":
            for problem in raw["ctx"]["problems"]:
                # `pooling: maen` has no key `name` to point at.
                below = (*path, *problem.path) if isinstance(value, dict | list) else path
                involves = tuple((*path, *other) for other in problem.involves)
                checks.append(Problem(below, problem.message, involves))
        elif missing:
            path = ("run", "name") if path == ("run",) else path
            found[path] = Problem(path, f"is missing; give {_words(path)}")
        elif raw["type"] == "extra_forbidden":
            found[path] = Problem(path, _unknown(path))
        else:
            found[path] = Problem(path, _wrong_type(path, value))
    shallow = {path[:depth] for path in found for depth in range(len(path))}
    return [*(problem for path, problem in found.items() if path not in shallow), *checks]


def _real_path(loc: tuple[str | int, ...], values: Any, missing: bool) -> tuple[Path, Any]:
    """Drop from pydantic's location what names a type of a union; give the value there, too."""
    path: list[str | int] = []
    for depth, key in enumerate(loc):
        is_item = isinstance(values, list) and isinstance(key, int)
        if is_item or (isinstance(values, dict) and key in values):
            values = values[key]
            path.append(key)
        elif missing and depth == len(loc) - 1:
            path.append(key)
    return tuple(path), values


def _words(path: Path) -> str:
    field = field_at(path)
    return type_words(*field) if field else "a value"


def _unknown(path: Path) -> str:
    """Name the nearest key of the section, or where else the very key exists."""
    *above, key = path
    holder = field_at(tuple(above))
    models = [o for o in options(holder[0]) if hasattr(o, "model_fields")] if holder else []
    valid = [*(["extends"] if not above else []), *models[0].model_fields]
    elsewhere = [(*p, key) for p, model in sections() if key in model.model_fields]
    hint = f"; did you mean {_dotted(elsewhere[0])!r}?" if len(elsewhere) == 1 else ""
    return unknown_key(str(key), valid, hint)


def _wrong_type(path: Path, value: Any) -> str:
    """Say what is allowed, what was given, and the likely way out."""
    field = field_at(path)
    types = list(options(field[0])) if field else []
    choices = [str(c) for t in types if get_origin(t) is Literal for c in get_args(t)]
    numeric = int in types or float in types
    advice = ""
    if isinstance(value, str):
        if numeric and re.fullmatch(r"[-+]?[\d_.]+([eE][-+]?\d+)?", value):
            advice = "; write a plain number, without quotes"
        elif any(get_origin(t) is list for t in types) and value not in choices:
            advice = f"; write [{value}]" if not choices else nearest(value, choices)
        else:
            advice = nearest(value, choices) if value else "; it can't be empty"
    elif isinstance(value, bool | int | float):
        if str in types:
            advice = "; quote it"
        elif isinstance(value, float) and int in types and float not in types:
            advice = f"; write {value:.0f}" if value.is_integer() else ""
        elif any(get_origin(t) is list for t in types):
            advice = f"; write [{_shown(value)}]"
    return f"must be {_words(path)}, got {_shown(value)}{advice}"


def _place(tree: Entry, path: Path) -> Place:
    """Find the place of the nearest key that was written."""
    for depth in range(len(path), 0, -1):
        entry = _entry_at(tree, path[:depth])
        if entry is not None:
            return entry.place
    return tree.place


def _line(problem: Problem) -> str:
    return f"{_dotted(problem.path)}: {problem.message}" if problem.path else problem.message


def _dotted(path: Path) -> str:
    """Write a key as users do: `data.text[1]`; odd characters are escaped."""
    text = ""
    for key in path:
        shown = key if isinstance(key, int) or key.isprintable() else repr(key)
        text += f"[{shown}]" if isinstance(key, int) else f".{shown}"
    return text.removeprefix(".")


def _shown(value: Any, limit: int = 80) -> str:
    """Write a value on one line, as YAML names it, cut at `limit` characters (0: not at all)."""
    if value is None or isinstance(value, bool):
        text = {None: "null", True: "true", False: "false"}[value]
    elif isinstance(value, list):
        text = f"[{', '.join(_shown(item, limit) for item in value)}]"
    elif isinstance(value, dict):
        pairs = (f"{_dotted((key,))}: {_shown(item, limit)}" for key, item in value.items())
        text = f"{{{', '.join(pairs)}}}"
    else:
        text = repr(value)
    return f"{text[:limit]}..." if limit and len(text) > limit else text


def _differences(path: Path, a: Any, b: Any, ignore: Collection[str]) -> Iterator[str]:
    if _dotted(path) in ignore:
        return
    if isinstance(a, dict) and isinstance(b, dict):
        for key in {**a, **b}:
            below = (*path, key)
            yield from _differences(below, a.get(key, _NOT_SET), b.get(key, _NOT_SET), ignore)
    elif a != b:
        left, right = ("not set" if v is _NOT_SET else _shown(v, limit=0) for v in (a, b))
        yield f"{_dotted(path)}: {left} -> {right}"


_NOT_SET = object()


class _Dumper(yaml.SafeDumper):
    """Quotes whatever load_config would not read back as the same text."""


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = None if isinstance(_scalar(text), str) else "'"
    if not text.isprintable():  # PyYAML loses some line breaks in the other styles
        style = '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)
