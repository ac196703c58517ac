"""What stands out in a table, and what a config can do about it.

A finding is a sentence with its numbers. Where the config can do something about it, the finding
carries the change as a piece of config and the reason; `as_config` puts those that go together
into one file that extends the config, to be trained as it is.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from foldwise.config.load import dump_block
from foldwise.config.schema import Config

Level = Literal["warning", "note"]
Kind = Literal[
    "target",
    "imbalance",
    "rare classes",
    "leak",
    "empty cells",
    "length",
    "duplicates",
    "repeated block",
    "disagreement",
    "cut texts",
    "cut table",
    "column",
    "group",
]


@dataclass(frozen=True)
class Change:
    """A piece of config to paste.

    Attributes:
        config: nested keys and values.
        why: the reason, in a sentence.
        instead: whether it is another answer to a finding that has one already.
    """

    config: dict[str, Any]
    why: str
    instead: bool = False

    @property
    def yaml(self) -> str:
        """The change as YAML under a comment with its reason."""
        return f"# {one_line(self.why)}\n{dump_block(self.config)}"


@dataclass(frozen=True)
class Finding:
    """Something that stands out.

    Attributes:
        kind: what it is about.
        level: a warning, or a note.
        says: the sentence.
        changes: what the config can do about it.
    """

    kind: Kind
    level: Level
    says: str
    changes: tuple[Change, ...] = ()


def as_config(findings: Sequence[Finding], config: Config, extends: str) -> str:
    """Write the changes that go together as one config; "" if there are none.

    Args:
        findings: in any order.
        config: that was looked at.
        extends: its file, relative to where this one will lie.
    """
    merged: dict[str, Any] = {}
    reasons: list[str] = []
    for change in (change for finding in findings for change in finding.changes):
        together = copy.deepcopy(merged)
        merge(together, change.config)
        if not change.instead and loads(together, config):
            merged = together
            reasons.append(f"# {one_line(change.why)}")
    if not merged:
        return ""
    # A run of its own: another config under the name of a finished run is refused.
    run = {"run": {"name": f"{config.run.name[:96]}-eda"}}
    return "\n".join([*reasons, dump_block({"extends": extends, **run, **merged})])


def loads(change: dict[str, Any], config: Config) -> bool:
    """Say whether a config with a change is still one: it may collide with another key."""
    values = config.model_dump()
    merge(values, change)
    try:
        Config.model_validate(values)
    except ValidationError:
        return False
    return True


def one_line(text: str) -> str:
    """Return a text without line breaks, as a YAML comment has to be."""
    return " ".join(text.split())


def merge(into: dict[str, Any], change: dict[str, Any]) -> None:
    """Put a change into nested keys and values; of two shortened lists, what both keep is left."""
    for key, value in change.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        elif isinstance(value, list) and isinstance(into.get(key), list):
            into[key] = [entry for entry in into[key] if entry in value]  # two columns to drop
        else:
            into[key] = {**value} if isinstance(value, dict) else value
