"""The rows to look at: a config in, every column of its table and the rows a run would use out.

The columns that the config names are read as a run reads them, so that what can't be read is told
in the same words; the others are read as strings, because a column that nobody uses may be the
one that gives the target away. Rows without target, which stop a run, only stand aside here.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError
from foldwise.parts.registry import find_part
from foldwise.parts.usercode import UserCode
from foldwise.storage.places import run_of
from foldwise.table.delimiters import Form
from foldwise.table.formats import find_files, read_names
from foldwise.table.reading import (
    ROW,
    Holds,
    apply_missing,
    asked_form,
    draw_sample,
    is_text,
    read_table,
)

_HOLDS: dict[str, Holds] = {
    "multiclass": "label",
    "ordinal": "label",
    "multilabel": "labels",
    "regression": "number",
}


@dataclass(frozen=True)
class Rows:
    """A table as a look at it needs it.

    Attributes:
        config: as loaded.
        frame: every row: `row`, then all columns in the table's order; null for empty cells.
        full: the rows that `data.missing` leaves, cells unfilled.
        used: the rows a run would use: after `data.missing` and `data.sample`, cells unfilled.
        roles: what the config does with each column: text, categorical, numeric, target, group,
            time, fold, or "" for a column it doesn't name.
        holds: what a cell of the target is.
        files: the table's files; empty for the made-up sample.
        unread: columns that the config doesn't name and that can't be read, and why.
        notes: what was odd about the table: how it was read, labels that are alike.
        forms: how each text file is written.
    """

    config: Config
    frame: pl.DataFrame
    full: pl.DataFrame
    used: pl.DataFrame
    roles: dict[str, str]
    holds: Holds
    files: tuple[str, ...]
    unread: dict[str, str]
    notes: tuple[str, ...]
    forms: dict[str, Form]

    @property
    def target(self) -> str:
        """The column to predict."""
        return str(self.config.data.target)

    @property
    def columns(self) -> list[str]:
        """Every column but the target."""
        return [name for name in self.roles if name != self.target]


def read_rows(config: Config) -> Rows:
    """Read a config's table.

    The text of a big one lies where the config's run would have it.

    Raises:
        FoldwiseError: the config names no table, or a file or a configured column can't be read.
    """
    data = config.data
    if data.path is None or data.target is None:
        raise FoldwiseError(
            f"eda looks at a table: give data.path and data.target (task {config.task} supplies "
            "its rows itself)"
        )
    synthetic = data.path.partition(":")[0] == "synthetic"
    files = [] if synthetic else find_files(data.path)
    holds = _holds(config)
    named = _named(config)
    names, lists = read_names(data.path if synthetic else files[0], asked_form(data), named)
    others = [n for n in dict.fromkeys(names) if n not in (*named, *lists, ROW) and is_text(n)]
    extra = [name for name, role in named.items() if role in ("group", "time", "fold")]
    stores = run_of(config.run.dir, config.run.name).texts
    table = read_table(data, extra, holds=holds, beside=others, stores=stores)
    frame = table.frame
    order = [name for name in dict.fromkeys(names) if name in frame.columns and name != ROW]
    frame = frame.select(ROW, *order)
    dropping = data.missing.model_copy(update={"target": "drop"})
    kept, _ = apply_missing(frame, data.model_copy(update={"missing": dropping}))
    drawn = draw_sample(kept, data.sample, data.target, config.folds.seed)
    return Rows(
        config=config,
        frame=frame,
        full=frame.filter(pl.col(ROW).is_in(kept[ROW].implode())),
        used=frame.filter(pl.col(ROW).is_in(drawn[ROW].implode())),
        roles={name: named.get(name, "") for name in order},
        holds=holds,
        files=tuple(files),
        unread=table.unread,
        notes=table.notes,
        forms=table.forms,
    )


def _holds(config: Config) -> Holds:
    if config.task in _HOLDS:
        return _HOLDS[config.task]
    task = find_part("task", config.task, UserCode(config.code), "task")
    holds: Holds = getattr(task, "holds", "label")
    return holds


def _named(config: Config) -> dict[str, str]:
    # The first role counts: a column may be grouped by and read as a category.
    data, folds = config.data, config.folds
    roles = {str(data.target): "target"}
    for role in ("text", "categorical", "numeric"):
        roles |= dict.fromkeys(getattr(data, role), role)
    for role, name in (("group", folds.group), ("time", folds.time), ("fold", folds.column)):
        if name is not None:
            roles.setdefault(name, role)
    return roles
