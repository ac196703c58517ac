"""An Optuna search over a `sweep` section: a trial is a run, and a fold is a step of it.

After each fold the search decides whether the trial is worth another. Everything it knows lies in
an SQLite file beside the runs, so the same command goes on after a stop: a trial that was cut off
is tried again with the same values, and its run folder continued.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import optuna
from optuna.trial import TrialState

from foldwise.config.load import load_config
from foldwise.config.schema import Config
from foldwise.config.search import Range
from foldwise.errors import FoldwiseError, RunInterrupted
from foldwise.storage.places import folder_of
from foldwise.sweep.variants import Variant, variant_of

# Trains and validates one fold of a variant; returns its score.
Fold = Callable[[Variant, int], float]
_ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
_CUT_OFF = "cut off"


def search(
    path: Path,
    overrides: Sequence[str],
    maximize: bool,
    fold: Fold,
    tell: Callable[[str], None],
) -> optuna.Study:
    """Go on with a config's search until it has had all its trials.

    Args:
        path: the config file, with a `sweep.random` section.
        overrides: `key=value` texts.
        maximize: whether a greater score is better.
        fold: does a fold of a trial's run.
        tell: takes a line about each trial.

    Returns:
        The study, with all trials.
    """
    config = load_config(path, overrides)
    sweep = config.sweep
    if sweep is None or sweep.random is None:
        raise FoldwiseError(
            f"{path}: tune needs a section sweep with random: {{optimizer.lr: {{low: 1e-5, high: "
            "1e-3, log: true}}; a grid is for foldwise sweep"
        )
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder = folder_of(config.run.dir)
    folder.mkdir(parents=True, exist_ok=True)
    storage = f"sqlite:///{(folder / f'{config.run.name}.tune.db').resolve()}"
    study = optuna.create_study(
        study_name=config.run.name,
        storage=storage,
        load_if_exists=True,
        direction="maximize" if maximize else "minimize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=0),
    )
    _again(study)
    # A continued search draws on from where it was, not the same values once more.
    study.sampler = optuna.samplers.TPESampler(seed=sweep.seed + _trials(study))

    while _trials(study) < sweep.trials:
        trial = study.ask()
        values = {key: _suggest(trial, key, space) for key, space in sweep.random.items()}
        try:
            variant = variant_of(path, overrides, config.run.name, values)
            trial.set_user_attr("run", str(variant.run.path))
            scores = _train(trial, variant, fold)
        except (FoldwiseError, RunInterrupted) as error:
            trial.set_user_attr("error", str(error))
            study.tell(trial, state=TrialState.FAIL)
            tell(f"trial {trial.number}: failed: {error}")
            continue
        if scores is None:
            study.tell(trial, state=TrialState.PRUNED)
            tell(f"trial {trial.number}: pruned: {variant.name}")
        else:
            study.tell(trial, fmean(scores))
            tell(f"trial {trial.number}: {fmean(scores):.4f}: {variant.name}")
    return study


def fold_numbers(config: Config) -> list[int]:
    """List the folds that a run of a config consists of."""
    folds = config.folds
    return list(range(1, folds.n * folds.repeats + 1)) if folds.run == "all" else sorted(folds.run)


def _train(trial: optuna.Trial, variant: Variant, fold: Fold) -> list[float] | None:
    """Do the folds of a trial; None where the search gave it up between two."""
    scores: list[float] = []
    numbers = fold_numbers(variant.config)
    for number in numbers:
        scores.append(fold(variant, number))
        trial.report(fmean(scores), len(scores))
        if number != numbers[-1] and trial.should_prune():
            return None
    return scores


def _suggest(trial: optuna.Trial, key: str, space: Range | list[Any]) -> Any:
    if not isinstance(space, Range):
        # Optuna keeps numbers and texts; anything else is chosen by its place.
        return space[trial.suggest_categorical(key, list(range(len(space))))]
    if space.whole:
        return trial.suggest_int(key, int(space.low), int(space.high), log=space.log)
    return float(f"{trial.suggest_float(key, space.low, space.high, log=space.log):.3g}")


def _again(study: optuna.Study) -> None:
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        # Optuna keeps a trial whose process died as running for ever.
        study.tell(trial.number, state=TrialState.FAIL)
        if trial.params:
            study.enqueue_trial(trial.params, user_attrs={_CUT_OFF: trial.number})


def _trials(study: optuna.Study) -> int:
    trials = study.get_trials(deepcopy=False)
    again = {t.user_attrs[_CUT_OFF] for t in trials if _CUT_OFF in t.user_attrs}
    return sum(t.state in _ENDED and t.number not in again for t in trials)
