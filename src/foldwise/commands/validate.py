"""`foldwise validate`: step 3b again, from the checkpoints."""

from __future__ import annotations

from pathlib import Path

from foldwise.commands.output import PLAIN, Output
from foldwise.commands.quiet import begin
from foldwise.config.training import Precision


def validate(
    path: Path,
    trust_code: bool,
    online: bool = False,
    precision: Precision | None = None,
    tell: Output = PLAIN,
) -> None:
    """Validate a run's folds again and print the table of scores.

    Args:
        path: the run folder.
        trust_code: run the Python files in it.
        online: ask the hub for what is needed, and tell the trackers.
        precision: float32, bf16 or fp16; None: the run's, where the device computes in it.
        tell: prints.

    Raises:
        FoldwiseError: not a run folder, other data, or code that isn't trusted.
    """
    run = begin(path, online=online)
    from foldwise import workflow
    from foldwise.commands.show import show_results
    from foldwise.report.one_model import stale

    workflow.validate(path, trust_code=trust_code, online=online, precision=precision)
    for note in stale(run):
        tell.note(note)
    show_results(run, tell)
