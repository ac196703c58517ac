"""`foldwise clean`: remove what of a run can go."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

from foldwise.commands.output import PLAIN, Output


def clean(path: Path, yes: bool, tell: Output = PLAIN) -> None:
    """List what of a run can go, ask, and remove it; without a terminal only `yes` removes.

    Args:
        path: the run folder.
        yes: remove it without asking.
        tell: prints.

    Raises:
        FoldwiseError: not a run folder, a process is at work on it, or something can't be removed.
    """
    from foldwise.report.upkeep_terminal import waste_lines
    from foldwise.run.folder import RunFolder
    from foldwise.run.space import size
    from foldwise.upkeep.waste import remove, waste_of

    run = RunFolder(path.resolve())  # "." has its token stores beside it too
    waste = waste_of(run)
    total = sum(item.size_bytes for item in waste)
    for line in waste_lines(waste):
        tell.say(line)
    silent = tell.quiet or tell.as_json or not sys.stdin.isatty()
    wanted = yes or (bool(waste) and not silent and _asked(size(total)))
    gone = remove(run, waste) if waste and wanted else []
    freed = sum(item.size_bytes for item in gone)
    line = f"{path}: nothing can go"
    if gone:
        line = f"{path}: {size(freed)} freed"
    elif waste:
        line = f"{path}: nothing removed, {size(total)} can go; --yes removes it"
    tell.end(
        line,
        {
            "run": str(path),
            "can_go": [{**asdict(item), "path": str(item.path)} for item in waste],
            "bytes": total,
            "removed": [str(item.path) for item in gone],
            "freed_bytes": freed,
        },
    )


def _asked(freed: str) -> bool:
    import typer

    return typer.confirm(f"Remove it? That frees {freed}.")
