"""A run's folder belongs to one config: which one may go on there, and what is left to do.

In: a config as loaded, and the folder. Out: the config as it goes on. Torch isn't imported where a
run lies already, so that the same command on a finished one ends at once.

One change is let through: a fold that stopped on a loss or gradient that wasn't finite may go on by
other rates or clipping. It is logged before config.yaml is replaced, so that a kill in between
leaves a change that the same command completes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from foldwise.config.load import diff_configs, dump_config, load_stored
from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError
from foldwise.preparation.resolve import resolve
from foldwise.run.folder import CHANGED, NOT_FINITE, RunFolder
from foldwise.run.manifests import last_step
from foldwise.run.seal import check, replace, trained_folds

# What may change between two steps of a training: neither the model nor what the optimizer keeps
# of it nor what the scores mean hangs on these.
RESCUES = ("optimizer.lr", "optimizer.head_lr", "schedule", "training.clip")
_OF_A_PLACE = ("run.dir", "code", "training.shard")


def same_or_new(config: Config, run: RunFolder) -> Config:
    """Return the config as it runs, or goes on.

    Raises:
        FoldwiseError: the folder is another config's, or none can be made there.
    """
    if not run.config.exists():
        run.check_place()
        return resolve(config)
    run.check_is_run()
    # Killed before its record was whole, a run has no seal yet, and writes the record again.
    if run.manifest.exists() or trained_folds(run):
        check(run.path, "begun")
    stored = load_stored(run.config)
    resolved = resolve(config, like=stored)
    differing = diff_configs(stored, resolved, ignore=_OF_A_PLACE)
    if differing and not is_rescue(stored, resolved, run):
        raise FoldwiseError(
            f"{run.path} was made with another config; choose another run.name, or go back to: "
            + "; ".join(differing)
        )
    return resolved


def is_complete(config: Config, run: RunFolder) -> bool:
    """Say whether nothing is left to do: scores, report, and every fold that they are of."""
    return run.finished and run.report.exists() and all_folds_done(config, run)


def all_folds_done(config: Config, run: RunFolder) -> bool:
    """Say whether every fold of the run is trained and validated."""
    folds = [run.fold(number) for number in folds_of(config)]
    return all(fold.trained.exists() and fold.validation.exists() for fold in folds)


def folds_of(config: Config, only: Sequence[int] | None = None) -> list[int]:
    """Return the folds that a run consists of, or those asked for.

    Raises:
        FoldwiseError: a fold is asked for that the run doesn't have.
    """
    total = config.folds.n * config.folds.repeats
    every = list(range(1, total + 1)) if config.folds.run == "all" else sorted(config.folds.run)
    if wrong := sorted(set(only or []) - set(every)):
        raise FoldwiseError(f"--folds {wrong[0]}: the run consists of folds {every}")
    return every if only is None else sorted(set(only))


def is_rescue(stored: Config, config: Config, run: RunFolder) -> bool:
    """Say whether a config may replace the stored one: for a fold that stopped, by its rates."""
    if run.finished or diff_configs(stored, config, ignore=(*_OF_A_PLACE, *RESCUES)):
        return False
    events = [event for event in run.events() if event["event"] in (NOT_FINITE, CHANGED)]
    if not events:
        return False
    if events[-1]["event"] == CHANGED:  # killed before config.yaml was replaced: only the same
        return bool(events[-1]["changes"] == diff_configs(stored, config, ignore=_OF_A_PLACE))
    return not run.fold(events[-1]["fold"]).trained.exists()


def differs(config: Config, run: RunFolder) -> bool:
    """Say whether a config that `same_or_new` let through isn't the stored one."""
    return bool(diff_configs(load_stored(run.config), config, ignore=_OF_A_PLACE))


def change_config(config: Config, run: RunFolder, folds: Sequence[int]) -> None:
    """Let a run go on by another config; its log and config.yaml say so.

    Args:
        config: what `same_or_new` let through.
        run: the run, with every fold locked.
        folds: all the run consists of.
    """
    stored = load_stored(run.config)
    changes = diff_configs(stored, config, ignore=_OF_A_PLACE)
    past = [event for event in run.events() if event["event"] in (NOT_FINITE, CHANGED)]
    if past[-1]["event"] == NOT_FINITE:
        untrained = [n for n in folds if not run.fold(n).trained.exists()]
        steps = {str(n): last_step(run.fold(n)) or 0 for n in untrained}
        run.append_log(CHANGED, changes=changes, after_step=steps)
    told = "".join(f"# {line}\n" for line in told_changes(run.events()))
    # What belongs to the place stays as it is stored: the run may have moved since.
    kept = {"run": stored.run, "code": _names(stored)}
    replace(run.path, run.config, told + dump_config(config.model_copy(update=kept)))


def told_changes(events: Sequence[dict[str, Any]]) -> list[str]:
    """Say what of a config changed while its run was under way, a line a change.

    Args:
        events: of the run's log.
    """
    lines = []
    for event in events:
        if event["event"] == CHANGED:
            steps = event["after_step"]
            places = ", ".join(f"step {step} of fold {fold}" for fold, step in steps.items())
            lines.append(f"Changed after {places}: {'; '.join(event['changes'])}")
    return lines


def _names(stored: Config) -> list[str]:
    # Relative to config.yaml itself, as they were written.
    return [f"code/{path.rpartition('/')[2]}" for path in stored.code]
