"""`foldwise report`: a finished run's report, drawn again from its files."""

from __future__ import annotations

from pathlib import Path

from foldwise.commands.output import PLAIN, Output
from foldwise.commands.quiet import begin
from foldwise.errors import FoldwiseError
from foldwise.storage.mirror import mirrored
from foldwise.storage.places import called


def report(path: Path, trust_code: bool, online: bool = False, tell: Output = PLAIN) -> None:
    """Draw report.html and print where it lies.

    Without its table, or with another one than the run was made from, the report shows no texts
    and no scores by column, and says why.

    Args:
        path: the run folder.
        trust_code: run the Python files in it.
        online: ask the hub for what is needed.
        tell: prints.

    Raises:
        FoldwiseError: not a finished run, or code that isn't trusted.
    """
    run = begin(path.resolve(), online=online)  # "." has its token stores beside it too
    if not run.finished:
        raise FoldwiseError(
            f"{called(path)}: not finished (it has no metrics.json); train it to the end"
        )
    from foldwise.preparation.build import open_run
    from foldwise.workflow import draw_report

    with mirrored(run):
        draw_report(*open_run(run, trust_code=trust_code), run, online=online)
    tell.end(f"report: {called(run.report)}", {"run": called(path), "report": str(run.report)})
