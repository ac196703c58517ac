"""Print what a run has come to."""

from __future__ import annotations

from foldwise.commands.quiet import console
from foldwise.report.terminal import results
from foldwise.run.folder import RunFolder
from foldwise.run.seal import read_metrics


def show_results(run: RunFolder) -> None:
    """Print a finished run's table of scores and its folder, or which folds are done so far."""
    shown = console()
    if run.finished:
        shown.print(results(read_metrics(run), run.path.name))
    else:
        done = [n for n in run.fold_numbers() if run.fold(n).validation.exists()]
        shown.print(f"folds done so far: {', '.join(map(str, done))}; the others complete the run")
    print(f"run folder: {run.path}")
