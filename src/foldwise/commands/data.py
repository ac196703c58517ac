"""`foldwise data cfpb`: bring the use case's data to where its configs look for it.

In: a folder, and the archive if it was downloaded by hand. Out: the prepared Parquet tables, a
table of what was read, dropped and kept, and the command that trains on them.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import polars as pl
from rich.table import Table

from foldwise.commands.output import PLAIN, Output
from foldwise.usecases.cfpb import prepare
from foldwise.usecases.download import ARCHIVE_URL, fetch


def data_cfpb(folder: Path, archive: Path | None, url: str | None, tell: Output = PLAIN) -> None:
    """Fetch the complaint database unless `archive` is given, prepare it, and print what there is.

    Args:
        folder: for the tables.
        archive: downloaded by hand; None to fetch it.
        url: to fetch it from; None for the CFPB's own.
        tell: prints.

    Raises:
        FoldwiseError: when the archive can't be fetched or read, or other files are in the way.
    """
    files = prepare(archive or fetch(folder, url or ARCHIVE_URL), folder)
    counts = json.loads(files["counts"].read_text("utf-8"))
    tell.show(_rows_table(counts), _classes_table(counts), _files_table(files))
    # Two million rows are days of training on one GPU: start with 1,000 a class.
    setting = shlex.quote(f"data.path={files['partial']}")
    following = f"foldwise train configs/cfpb.yaml --set {setting}"
    named = {kind: str(path) for kind, path in files.items()}
    tell.end(f"next: {following}", {**counts, "files": named, "next": following})


def _rows_table(counts: dict[str, Any]) -> Table:
    table = Table("rows", "count", title="CFPB complaints")
    table.add_row("read", f"{counts['rows_read']:,}")
    for column, n in counts["rows_dropped"].items():
        table.add_row(f"dropped: no {column}", f"{n:,}")
    table.add_row("kept", f"{counts['rows_kept']:,}", style="bold")
    return table


def _classes_table(counts: dict[str, Any]) -> Table:
    table = Table("Product", "rows kept")
    for product, n in counts["classes"].items():
        table.add_row(product, f"{n:,}")
    return table


def _files_table(files: dict[str, Path]) -> Table:
    table = Table("file", "rows", "size")
    for path in files.values():
        parquet = path.suffix == ".parquet"
        rows = pl.scan_parquet(path).select(pl.len()).collect().item() if parquet else None
        table.add_row(str(path), f"{rows:,}" if parquet else "", f"{path.stat().st_size:,} B")
    return table
