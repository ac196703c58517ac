"""An Optuna search over a `sweep` section: a trial is a run, and a fold is a step of it.

After each fold the search decides whether the trial is worth another. Everything it knows lies in
an SQLite file beside the runs, so the same command goes on after a stop: a trial that was cut off
is tried again with the same values, and its run folder continued.

Several trials at once go in rounds: their values are drawn together, each of them as if those drawn
before it had come out badly, and their folds are done and told in step, in their order. So what is
tried hangs on how many there are at once, but not on which is done first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import optuna
from optuna.trial import TrialState

from foldwise.config.load import load_config
from foldwise.config.schema import Config
from foldwise.config.search import Range
from foldwise.errors import FoldwiseError
from foldwise.storage.places import called, folder_of
from foldwise.sweep.variants import Variant, variant_of

# Trains and validates a fold of each of some variants; returns their scores, or what went wrong.
Folds = Callable[[Sequence[tuple[Variant, int]]], Sequence[float | Exception]]
_ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
_CUT_OFF = "cut off"


@dataclass
class _Trial:
    """A trial of a round."""

    trial: optuna.Trial
    variant: Variant | None = None
    scores: list[float] = field(default_factory=list)
    error: Exception | None = None
    pruned: bool = False

    @property
    def next_fold(self) -> int | None:
        """The fold to do next; None where there is none."""
        if self.variant is None or self.error is not None or self.pruned:
            return None
        left = self.variant.folds[len(self.scores) :]
        return left[0] if left else None


def search(
    path: Path,
    overrides: Sequence[str],
    maximize: bool,
    folds: Folds,
    tell: Callable[[str], None],
    at_once: int = 1,
) -> optuna.Study:
    """Go on with a config's search until it has had all its trials.

    Args:
        path: the config file, with a `sweep.random` section.
        overrides: `key=value` texts.
        maximize: whether a greater score is better.
        folds: does a fold of each of some trials' runs.
        tell: takes a line about each trial.
        at_once: trials in a round.

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
    seed = sweep.seed + _trials(study)
    study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=at_once > 1)

    while (left := sweep.trials - _trials(study)) > 0:
        trials = [_ask(study, path, overrides, config) for _ in range(min(at_once, left))]
        while going := [trial for trial in trials if trial.next_fold is not None]:
            _step(going, folds)
        for each in trials:
            _tell(study, each, tell)
    return study


def _ask(study: optuna.Study, path: Path, overrides: Sequence[str], config: Config) -> _Trial:
    made = _Trial(study.ask())
    assert config.sweep is not None
    spaces = config.sweep.random or {}
    values = {key: _suggest(made.trial, key, space) for key, space in spaces.items()}
    try:
        made.variant = variant_of(path, overrides, config.run.name, values)
        made.trial.set_user_attr("run", called(made.variant.run.path))
    except FoldwiseError as error:
        made.error = error
    return made


def _step(trials: Sequence[_Trial], folds: Folds) -> None:
    """Do the next fold of each; the search may give one up between two."""
    asked = [(each.variant, each.next_fold) for each in trials]
    done = folds([(variant, fold) for variant, fold in asked if variant and fold])
    for each, score in zip(trials, done, strict=True):
        if isinstance(score, Exception):
            each.error = score
            continue
        each.scores.append(score)
        each.trial.report(fmean(each.scores), len(each.scores))
    for each in trials:
        each.pruned = each.next_fold is not None and each.trial.should_prune()


def _tell(study: optuna.Study, each: _Trial, tell: Callable[[str], None]) -> None:
    number, name = each.trial.number, each.variant and each.variant.name
    if each.error is not None:
        each.trial.set_user_attr("error", str(each.error))
        study.tell(each.trial, state=TrialState.FAIL)
        tell(f"trial {number}: failed: {each.error}")
    elif each.pruned:
        study.tell(each.trial, state=TrialState.PRUNED)
        tell(f"trial {number}: pruned: {name}")
    else:
        study.tell(each.trial, fmean(each.scores))
        tell(f"trial {number}: {fmean(each.scores):.4f}: {name}")


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
