"""`foldwise train`: the main job."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from foldwise.commands.output import PLAIN, Output
from foldwise.commands.show import show_results
from foldwise.config.load import load_config
from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError
from foldwise.hardware.launched import launched
from foldwise.jobs.side_by_side import dealt, train_side_by_side
from foldwise.places.where import HERE, Where
from foldwise.places.work import train_call
from foldwise.preparation.ownership import folds_of, is_complete, same_or_new
from foldwise.run.folder import RunFolder
from foldwise.run.seal import is_done
from foldwise.storage.mirror import refresh
from foldwise.storage.places import run_of


def train(
    config: Path,
    overrides: Sequence[str],
    folds: str | None,
    where: Where = HERE,
    tell: Output = PLAIN,
) -> None:
    """Cross-validate a config and print the table of scores.

    Args:
        config: the YAML file.
        overrides: `key=value` texts of --set.
        folds: comma-separated fold numbers to do in this call; None for all.
        where: the calls that train folds side by side are at work; by default there are none.
        tell: prints.

    Raises:
        FoldwiseError: bad input.
    """
    loaded = load_config(config, overrides)
    only = None if folds is None else parse_folds(folds)
    run = run_of(loaded.run.dir, loaded.run.name)
    refresh(run)
    if loaded.sweep is None and run.config.exists() and is_complete(same_or_new(loaded, run), run):
        folds_of(loaded, only)
        show_results(run, tell)
        return
    where = where.of([loaded])
    if where.elsewhere and launched().size > 1:
        raise FoldwiseError(
            "--jobs and --on train folds side by side, a launcher's processes one fold together: "
            "give one or the other"
        )
    if where.elsewhere and loaded.sweep is None:
        todo = folds_of(same_or_new(loaded, run), only)
        _side_by_side((config, overrides), loaded, run, todo, where, tell)
        show_results(run, tell)
        return
    # Imported only now: a typo is told, and a finished run shown, in a blink; torch takes seconds.
    from foldwise.commands.quiet import quiet_libraries
    from foldwise.workflow import cross_validate

    quiet_libraries(online=True)
    run = cross_validate(loaded, only, tell.progress)
    show_results(run, tell)


def _side_by_side(
    written: tuple[Path, Sequence[str]],
    config: Config,
    run: RunFolder,
    folds: Sequence[int],
    where: Where,
    tell: Output,
) -> None:
    told = (lambda line: None) if tell.quiet else (lambda line: print(line, file=sys.stderr))
    # A process takes its time to start: none does for a fold that is done, one where all are.
    folds = [number for number in folds if not is_done(run.fold(number))] or folds[-1:]
    with where.opened([config], len(folds), [written[0], *map(Path, config.code)]) as place:
        # Processes here take a share of the folds each; on a Ray a fold goes where there is room.
        shares = dealt(folds, place.room if where.on is None else len(folds))
        train_side_by_side(place, train_call(*written), run, shares, told)


def parse_folds(text: str) -> list[int]:
    """Parse `1,2` into fold numbers.

    Raises:
        FoldwiseError: not a list of whole numbers.
    """
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise FoldwiseError(f"--folds {text!r}: give fold numbers such as 1,2") from None
