"""`foldwise verify`: whether every file of a run is as it was sealed."""

from __future__ import annotations

from pathlib import Path

from foldwise.commands.output import PLAIN, Output
from foldwise.config.load import load_config
from foldwise.errors import FoldwiseError
from foldwise.run.audit import findings, seal_anew
from foldwise.run.folder import RunFolder
from foldwise.run.lock import lock
from foldwise.run.seal import differences
from foldwise.storage.mirror import mirrored
from foldwise.storage.places import called


def verify(path: Path, seal: bool, tell: Output = PLAIN) -> None:
    """Check all files of a run and print one line, or raise with a line for each that differs.

    Args:
        path: the run folder.
        seal: first seal the run as it lies, whatever its seals say.
        tell: prints; as JSON the findings too.

    Raises:
        FoldwiseError: every file that differs, is missing, or isn't known.
    """
    run = RunFolder(path)
    run.check_is_run()
    if seal:
        folds = [*map(run.fold, run.fold_numbers()), *run.ones()]
        with mirrored(run, folds), lock(run.path / ".lock", f"{run.path}", wait=True):
            seal_anew(run, _trackers(run))
    # What a config says is worth nothing before it is known to be the run's.
    sound = not any(differences(run.path, "begun", only=[run.config.name]))
    found = findings(run, _trackers(run) if sound else ())
    result = {
        "run": called(path),
        "finished": run.finished,
        "sound": not found,
        "findings": found,
    }
    if found:
        if tell.as_json:  # the message says the same to a person
            tell.end("", result)
        raise FoldwiseError("\n".join([f"{called(path)}: not as it was sealed:", *found]))
    state = "finished" if run.finished else "not finished"
    tell.end(f"{called(path)}: every file is as it was sealed ({state})", result)


def _trackers(run: RunFolder) -> list[str]:
    return ["tensorboard", *(part.name for part in load_config(run.config).trackers)]
