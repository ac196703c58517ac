"""Check what was read against the schema, and put what is wrong in plain words.

In: the tree of entries that load.py has merged. Out: a `Config`, or None and a finding for every
problem, at the place of the nearest key that was written. Pydantic's own messages name its types
and the branches of its unions; ours name the key, what it accepts, what it got, and the way out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from pydantic import ValidationError

from foldwise.config.grammar import Path, Problem, dotted, nearest, shown, unknown_key
from foldwise.config.reference import field_at, options, sections, type_words
from foldwise.config.schema import Config
from foldwise.config.yaml_reader import Entry, Finding, Place, entry_at, plain


def check(tree: Entry, findings: list[Finding]) -> Config | None:
    """Check the values; what is wrong is taken out and the rest is checked again.

    A check that reads several keys only runs once each of them is right in itself, so one pass
    would show a mistyped number today and the missing column tomorrow.
    """
    _check_code(tree, findings)
    refused = set(_refused(tree, ()))
    out: set[Path] = set()
    while True:
        values = plain(tree)
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
        findings.extend(Finding(_place(tree, p.path), str(p)) for p in fresh)
        # What is still wrong without the key (a part without name, any list) goes as a whole.
        more = {p.path[:-1] if p.path in out else p.path for p in problems} - out - {()}
        if not more:
            return None
        out |= more


def _check_code(tree: Entry, findings: list[Finding]) -> None:
    code = entry_at(tree, ("code",))
    if code is None or not isinstance(code.value, list):
        return
    for i, entry in enumerate(code.value):
        if isinstance(entry.value, str) and entry.value and not entry.refused:
            message = None
            if not entry.value.endswith(".py"):
                message = f"must be a Python file ending in .py, got {entry.value!r}"
            elif not os.path.isfile(entry.value):
                message = f"no such file: {entry.value}"
            if message:
                findings.append(Finding(entry.place, f"code[{i}]: {message}"))
                entry.refused = True


def _refused(entry: Entry, path: Path) -> Iterator[Path]:
    if entry.refused and path:
        yield path
    elif isinstance(entry.value, dict):
        for key, below in entry.value.items():
            yield from _refused(below, (*path, key))
    elif isinstance(entry.value, list):
        for i, below in enumerate(entry.value):
            yield from _refused(below, (*path, i))


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
    hint = f"; did you mean {dotted(elsewhere[0])!r}?" if len(elsewhere) == 1 else ""
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
            advice = f"; write [{shown(value)}]"
    return f"must be {_words(path)}, got {shown(value)}{advice}"


def _place(tree: Entry, path: Path) -> Place:
    """Find the place of the nearest key that was written."""
    for depth in range(len(path), 0, -1):
        entry = entry_at(tree, path[:depth])
        if entry is not None:
            return entry.place
    return tree.place
