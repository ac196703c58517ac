"""From the folds' files to the run's: `oof.parquet`, `holdout.parquet`, `metrics.json`.

In: what validation and the members wrote for every fold. Out: the run's answer and each member:
scores per fold, their mean and standard deviation, the pooled out-of-fold scores with intervals,
the holdout's. Every score is computed over whole folds or all rows at once; a mean of per-batch F1
is another and wrong number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from foldwise.config.grammar import BUILTIN
from foldwise.config.members import MODEL, answering, baseline_names, beside_the_model
from foldwise.evaluation.bootstrap import Resampled, resample
from foldwise.evaluation.words import ANSWER
from foldwise.members.roster import reads_embedding
from foldwise.metrics.metric import score
from foldwise.preparation.prepare import Prepared
from foldwise.preparation.rows import row_groups
from foldwise.run import checkpoints
from foldwise.run.contents import Contents, Validation
from foldwise.run.files import to_json, write_parquet
from foldwise.run.folder import FoldFolder
from foldwise.run.manifests import WEIGHTS, read_manifest
from foldwise.run.readers import read_json
from foldwise.run.seal import SEAL, check, commit, files_of, read_metrics
from foldwise.tasks.predictions import mean_of_models, read_predictions
from foldwise.training.tracking import tell_trackers

if TYPE_CHECKING:
    from foldwise.evaluation.answer import Answer
    from foldwise.evaluation.verdict import Setting

Groups = Callable[[np.ndarray], np.ndarray]  # rows by number -> the group of each
Tables = dict[str, list[pl.DataFrame]]  # a member's predictions, a table a fold
Scores = Mapping[str, float | None]


def summarize(prepared: Prepared) -> dict[str, Any]:
    """Write the tables of the run's answer and of its members and, last of all, the metrics.

    Returns:
        What `metrics.json` holds.
    """
    # Imported only now: scipy and transformers are slow to import.
    from foldwise.evaluation.answer import answer, mean_answer
    from foldwise.evaluation.verdict import verdict
    from foldwise.members.frozen import keep_backbone

    run, task = prepared.run, prepared.task
    folds = [run.fold(number) for number in prepared.folds]
    for fold in folds:
        check(fold.path, "validated", "members")
    validations = {str(f.number): read_json(f.validation, Validation) for f in folds}
    names = [MODEL, *(p.name for p in beside_the_model(prepared.config))]
    scored = {name: pl.concat(_read(prepared, name)).sort("repeat", "row") for name in names}
    held = {} if prepared.holdout is None else {n: _read(prepared, n, held=True) for n in names}
    voters = [part.name for part in answering(prepared.config)]
    found = answer(prepared, {name: scored[name] for name in voters})
    if any(_embeds(prepared, name) for name in found.chosen.voting):
        keep_backbone(prepared)

    members: dict[str, Any] = {}
    resampled: dict[str, Resampled] = {}
    for name in names:
        folder = run.member(name)
        folder.path.mkdir(parents=True, exist_ok=True)
        write_parquet(folder.out_of_fold, scored[name])
        mean = None
        if prepared.holdout is not None:
            mean = mean_of_models(held[name], task)
            write_parquet(folder.holdout, mean)
        by_fold = {number: each["scores"] for number, each in validations.items()}
        by_fold = by_fold if name == MODEL else _by_fold(prepared, scored[name])
        resampled[name] = _resampled(prepared, scored[name], prepared.assignment.groups)
        members[name] = _entry(prepared, by_fold, resampled[name], mean) | _size(folds, name)
    write_parquet(run.out_of_fold, found.out_of_fold)
    mean = None
    if prepared.holdout is not None:
        tables = [{n: held[n][i] for n in voters} for i in range(len(folds))]
        mean = mean_answer(tables, found.chosen, task)
        write_parquet(run.holdout, mean)
    alone = _alone(found)
    if alone is None:
        by_fold = _by_fold(prepared, found.out_of_fold)
        whole = _resampled(prepared, found.out_of_fold, prepared.assignment.groups)
        own = _entry(prepared, by_fold, whole, mean)
    else:
        whole, own = resampled[alone], members[alone]
    metrics: dict[str, Any] = {
        **{key: own[key] for key in ("folds", "mean", "std", "oof", "holdout")},
        "answer": found.as_json(),
        "members": members,
        "baselines": {name: members[name] for name in baseline_names(prepared.config)},
        "selection": prepared.config.selection.rows,
        "constant_predictions": {
            number: each["constant"] for number, each in validations.items() if "constant" in each
        },
        "smaller_is_better": [m.name for m in task.metrics() if not m.greater_is_better],
        "rows": {"oof": found.out_of_fold.height, "holdout": 0 if mean is None else mean.height},
    }
    metrics["verdict"] = verdict(metrics, {ANSWER: whole, **resampled}, _setting(prepared))
    if prepared.online:
        tell_trackers(prepared.config, prepared.code, run, metrics)
    left = [run.out_of_fold, *([run.holdout] if prepared.holdout is not None else [])]
    left += [*files_of(run.path / "members"), run.log, *(fold.path / SEAL for fold in folds)]
    commit(run.path, "finished", left, run.metrics, to_json(metrics))
    return read_metrics(run)


def _read(prepared: Prepared, name: str, *, held: bool = False) -> list[pl.DataFrame]:
    tables = []
    for number in prepared.folds:
        fold = prepared.run.fold(number)
        source = fold if name == MODEL else fold.member(name)
        path = source.holdout if held else source.predictions
        tables.append(read_predictions(path, prepared.task))
    return tables


def _embeds(prepared: Prepared, name: str) -> bool:
    parts = {part.name: part for part in answering(prepared.config)}
    return reads_embedding(parts[name], prepared.config, prepared.code)


def _alone(found: Answer) -> str | None:
    # The member that answers every row, where it is one and the same.
    chosen = [found.chosen, *found.of_folds.values()]
    names = {None if each.blended else each.single for each in chosen}
    return names.pop() if len(names) == 1 else None


def _entry(
    prepared: Prepared,
    by_fold: Mapping[str, Scores],
    scored: Resampled,
    held: pl.DataFrame | None,
) -> dict[str, Any]:
    names = list(next(iter(by_fold.values())))
    columns = {name: [scores[name] for scores in by_fold.values()] for name in names}
    values = {k: np.array([np.nan if v is None else v for v in c]) for k, c in columns.items()}
    return {
        "folds": by_fold,
        "mean": {name: float(column.mean()) for name, column in values.items()},
        "std": {
            name: float(column.std(ddof=1)) if len(column) > 1 else None
            for name, column in values.items()
        },
        "oof": scored.intervals(),
        "holdout": None
        if held is None
        else _resampled(prepared, held, _holdout_groups(prepared)).intervals(),
    }


def _by_fold(prepared: Prepared, table: pl.DataFrame) -> dict[str, Scores]:
    parts = ((number, table.filter(pl.col("fold") == number)) for number in prepared.folds)
    metrics, task = prepared.task.metrics(), prepared.task
    return {str(number): score(metrics, *task.to_arrays(part)) for number, part in parts}


def _size(folds: list[FoldFolder], name: str) -> dict[str, Any]:
    # Of a fold, in the mean; a member that reads embeddings needs the backbone's weights besides.
    if name == MODEL:
        files = [read_manifest(checkpoints.pointed(fold))["files"][WEIGHTS] for fold in folds]
        return {"bytes": round(float(np.mean([entry["bytes"] for entry in files])))}
    folders = [fold.member(name) for fold in folds]
    sizes = [f.state.stat().st_size + f.arrays.stat().st_size for f in folders]
    found: dict[str, Any] = {"bytes": round(float(np.mean(sizes)))}
    if name == "lookup":  # the column it chose, fold by fold, most frequent first
        chosen = pl.Series([read_json(folder.state, Contents)["column"] for folder in folders])
        found["columns"] = chosen.value_counts(sort=True)[:, 0].to_list()
    return found


def _holdout_groups(prepared: Prepared) -> Groups:
    holdout = prepared.config.holdout
    if prepared.holdout is None or holdout is None or holdout.path is None:
        return prepared.assignment.groups
    # Rows of another file are numbered in that file, and the run's groups don't know them.
    rows = prepared.holdout["row"].to_numpy()
    group = row_groups(prepared.holdout, prepared.config)
    return lambda wanted: group[np.searchsorted(rows, wanted)]


def _resampled(prepared: Prepared, table: pl.DataFrame, groups: Groups) -> Resampled:
    return resample(
        prepared.task.metrics(),
        *prepared.task.to_arrays(table),
        groups=groups(table["row"].to_numpy()),
        seed=prepared.config.folds.seed,
    )


def _setting(prepared: Prepared) -> Setting:
    from foldwise.evaluation.answer import judged_by
    from foldwise.evaluation.verdict import Setting

    config = prepared.config
    data = config.data
    columns = bool(data.categorical or data.numeric)
    read = [name for name, there in (("words", bool(data.text)), ("columns", columns)) if there]
    return Setting(
        metric=judged_by(config, prepared.task.metrics()).name,
        inputs=" and ".join(read),
        text=bool(data.text),
        own_task=config.task not in BUILTIN["task"],
    )
