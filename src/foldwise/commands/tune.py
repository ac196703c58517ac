"""`foldwise tune`: an Optuna search over a config's `sweep` section."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from foldwise.commands.output import PLAIN, Output
from foldwise.config.load import load_config
from foldwise.errors import FoldwiseError
from foldwise.run.contents import Validation
from foldwise.run.lock import lock
from foldwise.run.readers import read_json
from foldwise.storage.places import folder_of


def tune(path: Path, overrides: Sequence[str], tell: Output = PLAIN) -> None:
    """Search until all trials are done, and print the best.

    Args:
        path: the config file.
        overrides: `key=value` texts of --set.
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
    from foldwise.sweep.variants import Variant
    from foldwise.training.fold import metric_by_name
    from foldwise.workflow import cross_validate

    quiet_libraries(online=True)
    code = UserCode(config.code)
    metric = metric_by_name(build_task(config, code), config.selection.metric)
    shown = tell.progress

    def fold(variant: Variant, number: int) -> float:
        run = cross_validate(variant.config, [number], shown)
        score = read_json(run.fold(number).validation, Validation)["scores"][metric.name]
        if score is None:
            raise FoldwiseError(f"{run.path}: {metric.name} isn't defined on fold {number}")
        return float(score)

    place = folder_of(config.run.dir) / f".{config.run.name}.tune.lock"
    with lock(place, f"the search {config.run.name}"):
        study = search(path, overrides, metric.greater_is_better, fold, tell.say)
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
