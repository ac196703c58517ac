"""Print what a run has come to."""

from __future__ import annotations

from foldwise.commands.output import Output
from foldwise.report.terminal import results
from foldwise.run.contents import Manifest
from foldwise.run.folder import RunFolder
from foldwise.run.readers import read_json
from foldwise.run.seal import read_metrics
from foldwise.storage.places import called


def show_results(run: RunFolder, tell: Output) -> None:
    """Print a finished run's table of scores and its folder, or which folds are done so far."""
    done = [n for n in run.fold_numbers() if run.fold(n).validation.exists()]
    scores = read_metrics(run) if run.finished else None
    if scores is not None:
        tell.show(results(scores, run.path.name, read_json(run.manifest, Manifest)))
    else:
        tell.show(f"folds done so far: {', '.join(map(str, done))}; the others complete the run")
    tell.end(
        f"run folder: {called(run.path)}",
        {
            "run": called(run.path),
            "finished": run.finished,
            "folds_done": done,
            "report": str(run.report) if run.report.exists() else None,
            "scores": scores,
        },
    )
