"""`foldwise distill`: one model that is taught what a run answers."""

from __future__ import annotations

from pathlib import Path

from foldwise.commands.output import PLAIN, Output
from foldwise.commands.quiet import begin
from foldwise.commands.refit import tell_one
from foldwise.table.written import NewTable


def distill(
    path: Path,
    unlabelled: NewTable | None,
    label_share: float,
    trust_code: bool = False,
    online: bool = False,
    tell: Output = PLAIN,
) -> None:
    """Teach the model and print what it comes to beside the folds' answer.

    Args:
        path: the run folder.
        unlabelled: more rows to teach the answer to.
        label_share: how much a row's own label counts.
        trust_code: run the Python files in it.
        online: ask the hub for the backbone.
        tell: prints.

    Raises:
        FoldwiseError: not a finished run, other data, or code that isn't trusted.
    """
    begin(path, online=online)
    from foldwise.condense.distill import distill as made

    one = made(
        path,
        unlabelled,
        label_share=label_share,
        trust_code=trust_code,
        online=online,
        console=tell.progress,
    )
    tell_one(path, one, tell)
