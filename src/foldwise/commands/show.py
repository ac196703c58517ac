"""Print what a run has come to."""

from __future__ import annotations

from foldwise.commands.quiet import console
from foldwise.report.terminal import results_table
from foldwise.run.files import read_json
from foldwise.run.folder import RunFolder


def show_results(run: RunFolder) -> None:
    """Print a finished run's table of scores and its folder, or which folds are done so far."""
    shown = console()
    if run.finished:
        shown.print(results_table(read_json(run.metrics), run.path.name))
    else:
        done = sorted(
            int(p.parent.name.removeprefix("fold-"))
            for p in run.path.glob("fold-*/validation.json")
        )
        shown.print(f"folds done so far: {', '.join(map(str, done))}; the others complete the run")
    print(f"run folder: {run.path}")
