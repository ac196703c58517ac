"""`foldwise tune`: an Optuna search over a config's `sweep` section."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from foldwise.commands.output import PLAIN, Output
from foldwise.config.load import load_config
from foldwise.errors import FoldwiseError, RunInterrupted
from foldwise.places.place import Call, Place
from foldwise.places.where import HERE, Where
from foldwise.places.work import Task, do_all, train_call
from foldwise.run.contents import Validation
from foldwise.run.lock import lock
from foldwise.run.readers import read_json
from foldwise.storage.places import folder_of
from foldwise.sweep.variants import Variant


def tune(path: Path, overrides: Sequence[str], where: Where = HERE, tell: Output = PLAIN) -> None:
    """Search until all trials are done, and print the best.

    Args:
        path: the config file.
        overrides: `key=value` texts of --set.
        where: the trials' folds are trained; by default in this process, one after the other.
        tell: prints.

    Raises:
        FoldwiseError: bad input, or Optuna isn't installed.
    """
    config = load_config(path, overrides)
    try:
        from foldwise.sweep.tuning import search
    except ModuleNotFoundError as error:
        raise FoldwiseError(
            f"tune needs the package {error.name}: pip install 'foldwise[tune]'"
        ) from None
    from foldwise.commands.quiet import quiet_libraries
    from foldwise.parts.usercode import UserCode
    from foldwise.preparation.build import build_task
    from foldwise.training.fold import metric_by_name

    quiet_libraries(online=True)
    code = UserCode(config.code)
    metric = metric_by_name(build_task(config, code), config.selection.metric)
    where = where.of([config])
    trials = 1 if config.sweep is None else config.sweep.trials
    place = folder_of(config.run.dir) / f".{config.run.name}.tune.lock"
    with (
        lock(place, f"the search {config.run.name}"),
        where.opened([config], trials, [path, *map(Path, config.code)]) as there,
    ):

        def folds(asked: Sequence[tuple[Variant, int]]) -> list[float | Exception]:
            if where.elsewhere:
                problems = _train_there(there, asked, tell)
            else:
                problems = [_train_here(variant, number, tell) for variant, number in asked]
            return [
                problem or _score(variant, number, metric.name)
                for (variant, number), problem in zip(asked, problems, strict=True)
            ]

        study = search(path, overrides, metric.greater_is_better, folds, tell.say, there.room)
    done = [trial for trial in study.trials if trial.value is not None]
    if not done:
        raise FoldwiseError(f"{path}: no trial was finished; the lines above say why")
    best = study.best_trial
    tell.say(
        f"The best of {len(study.trials)} trials looks better than it is: it was chosen by the "
        "rows that score it. A holdout (holdout: {fraction: 0.1}) or new rows tell."
    )
    tell.end(
        f"best: {metric.name} {best.value:.4f}, the mean over its folds: {best.user_attrs['run']}",
        {
            "metric": metric.name,
            "best": {"value": best.value, "run": best.user_attrs["run"], "values": best.params},
            "trials": [
                {
                    "number": trial.number,
                    "state": trial.state.name.lower(),
                    "value": trial.value,
                    "run": trial.user_attrs.get("run"),
                    "error": trial.user_attrs.get("error"),
                }
                for trial in study.trials
            ],
        },
    )


def _train_here(variant: Variant, number: int, tell: Output) -> Exception | None:
    from foldwise.workflow import cross_validate

    try:
        cross_validate(variant.config, [number], tell.progress)
    except (FoldwiseError, RunInterrupted) as error:
        return error
    return None


def _train_there(
    place: Place, asked: Sequence[tuple[Variant, int]], tell: Output
) -> list[Exception | None]:
    told = (lambda line: None) if tell.quiet else (lambda line: print(line, file=sys.stderr))
    tasks = []
    for variant, number in asked:
        call = train_call(variant.path, variant.overrides)
        tasks.append(Task(Call([*call, "--folds", str(number)], told), variant.run, [number]))
    codes: dict[Task, int] = {}
    do_all(place, tasks, codes.__setitem__)
    return [FoldwiseError(task.reason) if codes[task] else None for task in tasks]


def _score(variant: Variant, number: int, metric: str) -> float | Exception:
    score = read_json(variant.run.fold(number).validation, Validation)["scores"][metric]
    if score is None:
        return FoldwiseError(f"{variant.run.path}: {metric} isn't defined on fold {number}")
    return float(score)
