"""Read a YAML file or plain values into a `Config`, or say everything that is wrong at once.

In: a path or a dict, what replaces its values, and environment variables it names. Out: a frozen
`Config` in which `extends` is merged and `code` is absolute; or one FoldwiseError with a line
`file:line: key: what is wrong` per problem. `dump_config` writes the text that loads back to the
same config, `diff_configs` says which keys two configs differ in.

Merging and replacing work on entries, before anything is checked: a value that another file or
`--set` replaces needn't be right, and a problem is shown where its value was written.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any

import yaml

from foldwise.config.check import check
from foldwise.config.grammar import Path, dotted, shown
from foldwise.config.schema import Config
from foldwise.config.variables import insert_variables
from foldwise.config.yaml_reader import (
    Entry,
    Finding,
    Place,
    Unreadable,
    entry_at,
    plain,
    read_file,
    read_scalar,
    read_text,
)
from foldwise.errors import FoldwiseError
from foldwise.storage.urls import url_problem

MAX_EXTENDS = 10
_WHOLE = (("holdout",), ("training", "average"))  # one of their keys excludes the other
WITH_VARIABLES = (
    ("data", "path"),
    ("run", "dir"),
    ("holdout", "path"),
    ("model", "backbone"),
)


def load_config(
    config: str | os.PathLike[str] | Mapping[str, Any] | Config,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    *,
    table: str | None = None,
) -> Config:
    """Read a config and what it extends, replace values, and check every key.

    Args:
        config: a YAML file, the same as a dict (paths in it start at the working directory), or a
            config to change.
        overrides: values that replace the config's: `{"training.epochs": 3}`, or nested, where
            keys that aren't named stay: `{"training": {"epochs": 3}}`; or texts of the form
            `a.b=c` as of --set, c being YAML.
        table: what data.path is, whatever the config says; None leaves that to the config.

    Raises:
        FoldwiseError: every problem on a line of its own, with file and line.
    """
    if isinstance(config, Config) and not overrides and table is None:
        return config
    findings: list[Finding] = []
    checked = None
    try:
        tree = _begin(config, findings)
        if isinstance(overrides, Mapping):
            tree = _override_values(tree, overrides, findings)
        else:
            for text in [overrides] if isinstance(overrides, str) else overrides:
                _override(tree, text, findings)
        if table is not None:
            _replace(tree, "data.path", Entry(table, Place("data")), findings)
    except Unreadable as error:
        findings.append(error.args[0])
    else:
        for key in WITH_VARIABLES:
            insert_variables(tree, key, os.environ, findings)
        _refuse_passwords(tree, findings)
        _refuse_addresses(tree, findings)
        checked = check(tree, findings)
    return _whole(checked, findings)


def load_stored(path: str | FilePath) -> Config:
    """Read the config.yaml of a run, which may come from somebody else: it can name nothing else.

    Foldwise has written it resolved: without `extends`, with every variable's value in its place,
    and with copies of the files under `code` beside it. A variable in it would carry the reader's
    secrets to wherever the config says, so none is read.

    Raises:
        FoldwiseError: every problem on a line of its own, with file and line.
    """
    findings: list[Finding] = []
    config = None
    try:
        tree = read_file(FilePath(path), findings)
        if tree is None or not isinstance(tree.value, dict):
            raise Unreadable(Finding(Place(str(path)), "isn't the config of a run"))
    except Unreadable as error:
        findings.append(error.args[0])
    else:
        _refuse_elsewhere(tree, FilePath(path).parent, findings)
        for key in WITH_VARIABLES:
            insert_variables(tree, key, None, findings)
        _refuse_addresses(tree, findings)
        config = check(tree, findings)
    return _whole(config, findings)


def _whole(config: Config | None, findings: list[Finding]) -> Config:
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


def dump_value(value: Any) -> str:
    """Write one value as YAML on one line, so that loading it gives an equal one."""
    text = yaml.dump(
        value, Dumper=_Dumper, default_flow_style=True, allow_unicode=True, width=float("inf")
    )
    return text.removesuffix("\n").removesuffix("\n...")


def dump_block(value: dict[str, Any]) -> str:
    """Write a part of a config as YAML, a key a line, so that loading it gives an equal one."""
    text = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=float("inf"))
    return text.removesuffix("\n")


def diff_configs(a: Config, b: Config, ignore: Collection[str] = ()) -> list[str]:
    """List the keys that differ, as `training.epochs: 5 -> 3`.

    Args:
        a: the config on the left of the arrow.
        b: the config on the right of it.
        ignore: dotted keys to leave out, with all that lies below them.
    """
    return list(_differences((), a.model_dump(), b.model_dump(), ignore))


def _begin(config: object, findings: list[Finding]) -> Entry:
    if isinstance(config, Config):
        written = read_text(dump_config(config), "config", findings)
        return written or Entry({}, Place("config"))
    if isinstance(config, Mapping):
        return _extended(_entry_of(config, "config", findings), FilePath("(dict)"), (), findings)
    if not isinstance(config, str | os.PathLike):
        message = f"must be a path, a dict or a Config, not {type(config).__name__}"
        raise Unreadable(Finding(Place("config"), message))
    return _read(FilePath(config), (), findings)


def _entry_of(value: Any, source: str, findings: list[Finding]) -> Entry:
    """Read plain values as the YAML that says the same, so that the same rules hold for both."""
    try:
        text = dump_value(_plain(value))
    except yaml.YAMLError as error:
        message = f"can't hold {shown(error.args[-1])}; write text, numbers, lists and maps"
        raise Unreadable(Finding(Place(source), message)) from None
    return read_text(text, source, findings) or Entry(None, Place(source))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(below) for key, below in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(below) for below in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value.item() if hasattr(value, "item") else value  # numpy's numbers


def _read(path: FilePath, chain: tuple[FilePath, ...], findings: list[Finding]) -> Entry:
    """Read a file merged onto what it extends; `chain` holds the files on the way to it."""
    tree = read_file(path, findings)
    if tree is None:
        raise Unreadable(Finding(Place(str(path)), "the file is empty; start with `run:`, `data:`"))
    return _extended(tree, path, chain, findings)


def _extended(
    tree: Entry, path: FilePath, chain: tuple[FilePath, ...], findings: list[Finding]
) -> Entry:
    """Merge what stands in a file onto what it extends."""
    if not isinstance(tree.value, dict):
        message = f"a config is a map of keys such as `run:`, not {shown(plain(tree))}"
        raise Unreadable(Finding(tree.place, message))
    _resolve_code(tree.value.get("code"), path.parent)
    named = tree.value.pop("extends", None)
    if named is None or named.refused:
        return tree
    if not isinstance(named.value, str) or not named.value:
        found = shown(plain(named))
        message = f"extends: must be the path of one config, relative to this file, got {found}"
        findings.append(Finding(named.place, message))
        return tree
    base = FilePath(os.path.normpath(path.parent / named.value))
    chain = (*chain, path)
    message = ""
    if "\0" in named.value or not base.exists():
        message = f"no such file: {shown(str(base))}"
    elif os.path.realpath(base) in map(os.path.realpath, chain):
        message = f"goes round in a circle: {' -> '.join(map(str, (*chain, base)))}"
    elif len(chain) > MAX_EXTENDS:
        message = f"more than {MAX_EXTENDS} configs in a chain"
    if message:
        raise Unreadable(Finding(named.place, f"extends: {message}"))
    return _merge(_read(base, chain, findings), tree)


def _merge(base: Entry, child: Entry, path: Path = ()) -> Entry:
    """Lay a config onto the one it extends: maps key by key, everything else replaced."""
    if not isinstance(base.value, dict) or not isinstance(child.value, dict):
        return child
    # A part of another name has other arguments; a run of another name is still the base's run.
    if path in _WHOLE or (path != ("run",) and _renamed(base.value, child.value)):
        return child
    if path == ("model", "head") and "name" in child.value:
        return child  # the built-in head goes by no name
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


def _override_values(tree: Entry, overrides: Mapping[str, Any], findings: list[Finding]) -> Entry:
    """Lay values onto the tree: a map by its section's name is merged, any other replaces."""
    place = Place("overrides")
    for key, value in overrides.items():
        entry = _entry_of(value, str(place), findings)
        if key != "extends" and "." not in key and isinstance(entry.value, dict):
            tree = _merge(tree, Entry({key: entry}, place))
        else:
            _replace(tree, key, entry, findings)
    return tree


def _override(tree: Entry, text: str, findings: list[Finding]) -> None:
    """Replace the value at the key that a `--set a.b=c` names."""
    place = Place(f"--set {text}")
    key, equals, written = text.partition("=")
    message = None
    if not equals or not all(key.strip().split(".")):
        message = "must have the form a.b=value"
    elif not written.strip():
        message = "has no value; write null for none"
    if message:
        findings.append(Finding(place, message))
        return
    try:
        entry = read_text(written, str(place), findings) or Entry(None, place)
    except Unreadable as error:
        findings.append(error.args[0])
        return
    _replace(tree, key.strip(), entry, findings)


def _replace(tree: Entry, key_text: str, entry: Entry, findings: list[Finding]) -> None:
    """Put an entry in the place of what stands at a dotted key."""
    keys, place = key_text.split("."), entry.place
    if keys[0] == "extends":
        findings.append(Finding(place, "extends can only be written in the config file"))
        return
    if keys == ["code"]:
        _resolve_code(entry, FilePath())
    here = tree
    for depth, key in enumerate(keys):
        if here.value is None:  # `holdout: null` is filled in like a missing key
            here.value, here.place, here.refused = {}, place, False
        if not isinstance(here.value, dict):
            reached = ".".join(keys[:depth])
            message = f"{reached} is {shown(plain(here))}, not a map; set {reached} as a whole"
            findings.append(Finding(place, message))
            return
        if depth == len(keys) - 1:
            here.value[key] = entry
        else:
            here = here.value.setdefault(key, Entry({}, place))


def _refuse_elsewhere(tree: Entry, folder: FilePath, findings: list[Finding]) -> None:
    """Refuse what would make a run's config read files that don't lie in the run."""
    assert isinstance(tree.value, dict)
    if extends := tree.value.pop("extends", None):
        findings.append(Finding(extends.place, "extends: a run's config extends no other"))
    code = tree.value.get("code")
    for entry in code.value if code is not None and isinstance(code.value, list) else ():
        if isinstance(entry.value, str) and not re.fullmatch(r"code/[^/]+\.py", entry.value):
            message = f"code: {shown(entry.value)} doesn't lie in the run's folder code/"
            findings.append(Finding(entry.place, message))
            entry.refused = True
    _resolve_code(code, folder)


def _refuse_passwords(tree: Entry, findings: list[Finding]) -> None:
    """Refuse addresses with a password: the config lies in the run, which is passed on."""
    trackers = entry_at(tree, ("trackers",))
    listed = trackers.value if trackers is not None else None
    for number, entry in enumerate(listed if isinstance(listed, list) else []):
        for key, argument in entry.value.items() if isinstance(entry.value, dict) else ():
            if isinstance(argument.value, str) and _PASSWORD.match(argument.value):
                message = (
                    "holds a password, which would lie in the run's config.yaml; leave it out and "
                    "set it where the tracker looks for it, such as MLFLOW_TRACKING_URI"
                )
                where = dotted(("trackers", number, key))
                findings.append(Finding(argument.place, f"{where}: {message}"))


def _refuse_addresses(tree: Entry, findings: list[Finding]) -> None:
    """Refuse addresses of tables and runs that are no store's, or hold what isn't written down."""
    for key in (("data", "path"), ("holdout", "path"), ("run", "dir")):
        entry = entry_at(tree, key)
        if entry is None or not isinstance(entry.value, str):
            continue
        if problem := url_problem(entry.value):
            findings.append(Finding(entry.place, f"{dotted(key)}: {problem}"))
            entry.refused = True


_PASSWORD = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*:[^/?#]*@")


def _differences(path: Path, a: Any, b: Any, ignore: Collection[str]) -> Iterator[str]:
    if dotted(path) in ignore:
        return
    if isinstance(a, dict) and isinstance(b, dict):
        for key in {**a, **b}:
            below = (*path, key)
            yield from _differences(below, a.get(key, _NOT_SET), b.get(key, _NOT_SET), ignore)
    elif a != b:
        left, right = ("not set" if v is _NOT_SET else shown(v, limit=0) for v in (a, b))
        yield f"{dotted(path)}: {left} -> {right}"


_NOT_SET = object()


class _Dumper(yaml.SafeDumper):
    """Quotes whatever load_config would not read back as the same text."""


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = None if isinstance(read_scalar(text), str) else "'"
    if not text.isprintable():  # PyYAML loses some line breaks in the other styles
        style = '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)
