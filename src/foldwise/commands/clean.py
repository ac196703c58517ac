"""`foldwise clean`: remove what of a run, or of the cache, can go."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foldwise.commands.output import PLAIN, Output

if TYPE_CHECKING:
    from foldwise.upkeep.waste import Waste


def clean(path: Path, yes: bool, tell: Output = PLAIN) -> None:
    """List what of a run can go, ask, and remove it; without a terminal only `yes` removes.

    Args:
        path: the run folder.
        yes: remove it without asking.
        tell: prints.

    Raises:
        FoldwiseError: not a run folder, a process is at work on it, or something can't be removed.
    """
    from foldwise.run.folder import RunFolder
    from foldwise.storage.mirror import mirrored
    from foldwise.storage.places import called
    from foldwise.upkeep.waste import remove, waste_of

    run = RunFolder(path.resolve())  # "." has its token stores beside it too
    waste = waste_of(run)

    def gone() -> Sequence[Waste]:
        with mirrored(run, [*map(run.fold, run.fold_numbers()), *run.ones()]):
            return remove(run, waste)

    _list_and_remove(called(path), waste, gone, {"run": called(path)}, yes, tell)


def clean_cache(yes: bool, tell: Output = PLAIN) -> None:
    """List what of the cache can go, ask, and remove it; without a terminal only `yes` removes.

    Args:
        yes: remove it without asking.
        tell: prints.

    Raises:
        FoldwiseError: something can't be removed.
    """
    from foldwise.storage.places import cache
    from foldwise.upkeep.cached import waste_of_cache

    waste, stays = waste_of_cache()
    for line in stays:
        tell.say(line)

    def gone() -> Sequence[Waste]:
        wanted = {item.path for item in waste}
        return [item for item in waste_of_cache(wanted)[0] if item.path in wanted]

    about = {"cache": str(cache()), "stays": stays}
    _list_and_remove(str(cache()), waste, gone, about, yes, tell)


def _list_and_remove(
    name: str,
    waste: Sequence[Waste],
    remove: Callable[[], Sequence[Waste]],
    about: dict[str, Any],
    yes: bool,
    tell: Output,
) -> None:
    from foldwise.report.upkeep_terminal import waste_lines
    from foldwise.run.space import size

    total = sum(item.size_bytes for item in waste)
    for line in waste_lines(waste):
        tell.say(line)
    silent = tell.quiet or tell.as_json or not sys.stdin.isatty()
    wanted = yes or (bool(waste) and not silent and _asked(size(total)))
    gone = remove() if waste and wanted else []
    freed = sum(item.size_bytes for item in gone)
    line = f"{name}: nothing can go"
    if gone:
        line = f"{name}: {size(freed)} freed"
    elif waste:
        line = f"{name}: nothing removed, {size(total)} can go; --yes removes it"
    tell.end(
        line,
        {
            **about,
            "can_go": [{**asdict(item), "path": str(item.path)} for item in waste],
            "bytes": total,
            "removed": [str(item.path) for item in gone],
            "freed_bytes": freed,
        },
    )


def _asked(freed: str) -> bool:
    import typer

    return typer.confirm(f"Remove it? That frees {freed}.")
