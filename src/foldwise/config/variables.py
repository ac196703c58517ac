"""Environment variables in a config: `${NAME}` in, its value out."""

from __future__ import annotations

import re
from collections.abc import Mapping

from foldwise.config.grammar import Path, dotted
from foldwise.config.yaml_reader import Entry, Finding, entry_at

_VARIABLE = re.compile(r"(?P<escaped>\$\$\{)|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)\}|(?P<bad>\$\{)")


def insert_variables(
    tree: Entry, path: Path, values: Mapping[str, str] | None, findings: list[Finding]
) -> None:
    """Put variables' values into the text at a key; without values none may be named."""
    entry = entry_at(tree, path)
    if entry is None or not isinstance(entry.value, str):
        return
    target = entry

    def value_of(match: re.Match[str]) -> str:
        if match["escaped"]:
            return "${"
        if values is not None and match["name"] and match["name"] in values:
            return values[match["name"]]
        message = "a variable is written ${NAME}, a literal ${ as $${"
        if values is None:
            message = "a run's config names no environment variables; write the value itself"
        elif match["name"]:
            message = f"the environment variable {match['name']} is not set"
        findings.append(Finding(target.place, f"{dotted(path)}: {message}"))
        target.refused = True
        return match[0]

    entry.value = _VARIABLE.sub(value_of, entry.value)
