"""`foldwise train`: the main job."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from foldwise.commands.output import PLAIN, Output
from foldwise.commands.show import show_results
from foldwise.config.load import load_config
from foldwise.errors import FoldwiseError
from foldwise.hardware.launched import launched
from foldwise.preparation.ownership import folds_of, is_complete, same_or_new
from foldwise.run.folder import RunFolder
from foldwise.storage.mirror import refresh
from foldwise.storage.places import run_of


def train(
    config: Path,
    overrides: Sequence[str],
    folds: str | None,
    jobs: int = 1,
    tell: Output = PLAIN,
) -> None:
    """Cross-validate a config and print the table of scores.

    Args:
        config: the YAML file.
        overrides: `key=value` texts of --set.
        folds: comma-separated fold numbers to do in this call; None for all.
        jobs: processes that train folds side by side.
        tell: prints.

    Raises:
        FoldwiseError: bad input.
    """
    if jobs > 1 and launched().size > 1:
        raise FoldwiseError(
            "--jobs trains folds side by side, a launcher's processes one fold together: give one "
            "or the other"
        )
    loaded = load_config(config, overrides)
    only = None if folds is None else parse_folds(folds)
    run = run_of(loaded.run.dir, loaded.run.name)
    refresh(run)
    if loaded.sweep is None and run.config.exists() and is_complete(same_or_new(loaded, run), run):
        folds_of(loaded, only)
        show_results(run, tell)
        return
    if jobs > 1 and loaded.sweep is None:
        _side_by_side(config, overrides, run, folds_of(same_or_new(loaded, run), only), jobs, tell)
        show_results(run, tell)
        return
    # Imported only now: a typo is told, and a finished run shown, in a blink; torch takes seconds.
    from foldwise.commands.quiet import quiet_libraries
    from foldwise.workflow import cross_validate

    quiet_libraries(online=True)
    run = cross_validate(loaded, only, tell.progress)
    show_results(run, tell)


def _side_by_side(
    config: Path,
    overrides: Sequence[str],
    run: RunFolder,
    folds: Sequence[int],
    jobs: int,
    tell: Output,
) -> None:
    from foldwise.jobs.side_by_side import gpus_here, train_side_by_side

    changed = [part for override in overrides for part in ("--set", override)]
    told = (lambda line: None) if tell.quiet else (lambda line: print(line, file=sys.stderr))
    train_side_by_side(["train", str(config), *changed], run, folds, jobs, told, gpus_here())


def parse_folds(text: str) -> list[int]:
    """Parse `1,2` into fold numbers.

    Raises:
        FoldwiseError: not a list of whole numbers.
    """
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise FoldwiseError(f"--folds {text!r}: give fold numbers such as 1,2") from None
