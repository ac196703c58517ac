"""`foldwise refit`: one model for all folds, trained on all their rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from foldwise.commands.output import PLAIN, Output
from foldwise.commands.quiet import begin
from foldwise.storage.places import called

if TYPE_CHECKING:
    from foldwise.run.folder import FoldFolder


def refit(
    path: Path,
    every: bool,
    trust_code: bool = False,
    online: bool = False,
    tell: Output = PLAIN,
) -> None:
    """Train the model and print what it comes to beside the folds' answer.

    Args:
        path: the run folder.
        every: train on the holdout too.
        trust_code: run the Python files in it.
        online: ask the hub for the backbone.
        tell: prints.

    Raises:
        FoldwiseError: not a finished run, other data, or code that isn't trusted.
    """
    begin(path, online=online)
    from foldwise.condense.refit import refit as made

    one = made(path, every=every, trust_code=trust_code, online=online, console=tell.progress)
    tell_one(path, one, tell)


def tell_one(path: Path, one: FoldFolder, tell: Output) -> None:
    """Print what a model that stands for all folds comes to, and how it is used.

    Args:
        path: the run folder, as the user names it.
        one: the model's, made.
        tell: prints.
    """
    from foldwise.report.one_model import judged, measured, table, verdict

    name = one.path.name
    found = next((each for each in measured(one.run) if each["model"] == name), None)
    line = f"to use it: foldwise predict {called(path)} DATA -o OUT --model {name}"
    if found is None:
        tell.say("not measured: there is no holdout that it hasn't trained on")
    else:
        metric = judged(one.run)
        tell.show(table(found, metric))
        line = f"{name}: {verdict(found, metric)}; {line}"
    tell.end(line, {"run": called(path), "model": name, "folder": str(one.path), "measured": found})
