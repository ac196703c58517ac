"""`foldwise init`: a starter config for a table."""

from __future__ import annotations

import os
import re
from pathlib import Path

from foldwise.commands.output import PLAIN, Output
from foldwise.errors import FoldwiseError
from foldwise.run.files import write_text
from foldwise.storage.urls import is_url, name_of

PARTS = "my_parts.py"


def init(
    data: str,
    target: str,
    out: Path | None,
    code: bool,
    delimiter: str | None = None,
    encoding: str | None = None,
    tell: Output = PLAIN,
) -> None:
    """Look at a table and write a commented config that trains as is.

    Args:
        data: the table, as in data.path.
        target: the column to predict.
        out: the config to write; None for one named after the table, in the working directory.
        code: write a file with a pooling of the user's own too, wired into the config.
        delimiter: as in data.delimiter; None to find out.
        encoding: as in data.encoding; None to find out.
        tell: prints.

    Raises:
        FoldwiseError: the table can't be read, there is no such column, or a file is in the way.
    """
    named = name_of(data) if is_url(data) else data.partition(":")[0]
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(named).name.split(".")[0])
    name = stem.strip("-._")[:80] or "table"
    path = out or Path(f"{name}.yaml")
    parts = path.parent / PARTS
    for file in [path, *([parts] if code else [])]:
        if file.exists():
            raise FoldwiseError(
                f"{file}: is there already; choose another name with -o, or move it"
            )
    if path.suffix not in (".yaml", ".yml"):
        raise FoldwiseError(f"-o {path}: the file's name must end in .yaml")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK):
        raise FoldwiseError(f"-o {path}: {path.parent} isn't a folder that can be written to")

    from foldwise.config.rows import Data
    from foldwise.eda.starter import POOLING, look, printable, write_config
    from foldwise.table.reading import read_all
    from foldwise.table.written import data_written

    section = data_written(Data(path=data, target=target), delimiter, encoding)
    table, lists = read_all(section)
    found = look(section, table, lists)
    wired = code and bool(found.roles["text"])
    if code and not wired:
        raise FoldwiseError(f"--code: {data} has no text column, so there is nothing to pool")
    if wired:
        write_text(parts, POOLING)
    write_text(path, write_config(found, path.stem, PARTS if wired else None))
    for note in table.notes:
        tell.say(f"note: {printable(note)}")
    for role, columns in found.roles.items():
        if columns:
            tell.say(f"{role}: {', '.join(map(printable, columns))}")
    for column, why in found.left_out.items():
        tell.say(f"left out: {printable(column)} ({printable(why)})")
    tell.say(f"config: {path}" + (f", with {parts}" if wired else ""))
    tell.end(
        f"next: foldwise train {path}",
        {
            "config": str(path),
            "parts": str(parts) if wired else None,
            "task": found.task,
            "target": found.target,
            "columns": found.roles,
            "left_out": found.left_out,
            "notes": list(table.notes),
        },
    )
