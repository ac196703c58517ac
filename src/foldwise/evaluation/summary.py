"""From the folds' files to the run's: `oof.parquet`, `holdout.parquet`, `metrics.json`.

In: what validation wrote for every fold. Out: scores per fold, their mean and standard deviation,
the pooled out-of-fold scores with intervals, and the same for the baselines. Every score is
computed over whole folds or all rows at once; a mean of per-batch F1 is another and wrong number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from foldwise.config.grammar import BUILTIN
from foldwise.evaluation.bootstrap import Resampled, resample
from foldwise.preparation.build import holds
from foldwise.preparation.prepare import Prepared
from foldwise.preparation.rows import row_groups
from foldwise.run.contents import Validation
from foldwise.run.files import to_json, write_parquet
from foldwise.run.readers import read_json, read_parquet
from foldwise.run.seal import SEAL, add, check, commit, intact, read_metrics
from foldwise.tasks.predictions import read_predictions
from foldwise.training.tracking import tell_trackers

if TYPE_CHECKING:
    from foldwise.evaluation.verdict import Setting

Groups = Callable[[np.ndarray], np.ndarray]  # rows by number -> the group of each


def score_baselines(prepared: Prepared, number: int) -> None:
    """Fit the baselines on a fold's training rows and write their predictions of its scored rows.

    They need no rows to pick an epoch, so they train on the inner rows too.
    """
    rows = prepared.assignment
    train = np.sort(np.concatenate([rows.training(number), rows.inner(number)]))
    scored = prepared.part(rows.scored(number))
    fold = prepared.run.fold(number)
    sound, written = intact(fold.path, "baselines"), []
    for name in _names(prepared):
        path = fold.path / f"baseline-{name}.parquet"
        if path not in sound:
            table = _baseline(prepared, name, prepared.part(train), scored)
            fixed = {"repeat": rows.repeat(number), "fold": number}
            write_parquet(
                path, table.with_columns(pl.lit(v, pl.Int32).alias(k) for k, v in fixed.items())
            )
        written.append(path)
    add(fold.path, "baselines", written)


def summarize(prepared: Prepared) -> dict[str, Any]:
    """Write the run's out-of-fold table, holdout table and, last of all, its metrics.

    Returns:
        What `metrics.json` holds.
    """
    # Imported only now: scipy.stats is slow to import.
    from foldwise.evaluation.verdict import MODEL, verdict

    run, task = prepared.run, prepared.task
    folds = [run.fold(number) for number in prepared.folds]
    for fold in folds:
        check(fold.path, "validated", "baselines")
    tables = [read_predictions(fold.predictions, task) for fold in folds]
    out_of_fold = pl.concat(tables).sort("repeat", "row")
    write_parquet(run.out_of_fold, out_of_fold)
    validations = {str(f.number): read_json(f.validation, Validation) for f in folds}
    per_fold = {number: found["scores"] for number, found in validations.items()}
    names = list(next(iter(per_fold.values())))
    columns = {name: [scores[name] for scores in per_fold.values()] for name in names}
    columns = {k: [np.nan if v is None else v for v in values] for k, values in columns.items()}
    scores = {MODEL: _resampled(prepared, out_of_fold, prepared.assignment.groups)}
    metrics: dict[str, Any] = {
        "folds": per_fold,
        "mean": {name: float(np.mean(values)) for name, values in columns.items()},
        "std": {
            name: float(np.std(values, ddof=1)) if len(values) > 1 else None
            for name, values in columns.items()
        },
        "oof": scores[MODEL].intervals(),
        "holdout": None,
        "baselines": {},
        "selection": prepared.config.selection.rows,
        "constant_predictions": {
            number: found["constant"]
            for number, found in validations.items()
            if "constant" in found
        },
        "smaller_is_better": [m.name for m in task.metrics() if not m.greater_is_better],
        "rows": {"oof": out_of_fold.height, "holdout": 0},
    }
    held_groups = _holdout_groups(prepared)
    if prepared.holdout is not None:
        held = mean_of_models([read_predictions(f.holdout, task) for f in folds], task)
        write_parquet(run.holdout, held)
        metrics["holdout"] = _resampled(prepared, held, held_groups).intervals()
        metrics["rows"]["holdout"] = held.height
    for name in _names(prepared):
        scored = pl.concat([read_parquet(f.path / f"baseline-{name}.parquet") for f in folds])
        scored = scored.sort("repeat", "row")
        scores[name] = _resampled(prepared, scored, prepared.assignment.groups)
        entry: dict[str, Any] = {"oof": scores[name].intervals(), "holdout": None}
        if prepared.holdout is not None:
            held = _baseline(prepared, name, prepared.frame, prepared.holdout)
            entry["holdout"] = _resampled(prepared, held, held_groups).intervals()
        if "column" in scored.columns:  # the lookup's choice, fold by fold, most frequent first
            entry["columns"] = scored["column"].value_counts(sort=True)["column"].to_list()
        metrics["baselines"][name] = entry
    metrics["verdict"] = verdict(metrics, scores, _setting(prepared, names))
    if prepared.online:
        tell_trackers(prepared.config, prepared.code, run, metrics)
    left = [run.out_of_fold, *([run.holdout] if prepared.holdout is not None else [])]
    left += [run.log, *(fold.path / SEAL for fold in folds)]
    commit(run.path, "finished", left, run.metrics, to_json(metrics))
    return read_metrics(run)


def _names(prepared: Prepared) -> tuple[str, ...]:
    data = prepared.config.data
    task = prepared.config.task
    if not prepared.config.baselines or task not in BUILTIN["task"]:
        return ()
    # Imported only now: scikit-learn takes as long to import as torch.
    from foldwise.evaluation.baselines import baseline_names

    return tuple(baseline_names(data.text, data.categorical, data.numeric, task))


def _baseline(
    prepared: Prepared, name: Any, train: pl.DataFrame, scored: pl.DataFrame
) -> pl.DataFrame:
    from foldwise.evaluation import baselines

    data, task = prepared.config.data, prepared.task
    target = str(data.target)
    fill = data.missing.numeric if data.missing.numeric != "drop" else "mean"
    columns = data.text, data.categorical, data.numeric, fill
    seed = prepared.config.folds.seed
    values: np.ndarray = task.target_values(train)  # type: ignore[attr-defined]
    chosen: dict[str, str] = {}
    if holds(task) == "label":
        n_classes = len(task.classes)  # type: ignore[attr-defined]
        predicted = baselines.baseline_predictions(
            name, train, scored, values, n_classes, *columns, seed
        )
        if name == "lookup":
            chosen["column"] = baselines.lookup_column(
                train, values, n_classes, data.categorical, seed
            )
    else:
        labels = holds(task) == "labels"
        # Not through float32: numbers are scored in the table's own precision.
        values = values.astype(np.float64) if labels else train[target].to_numpy()[:, None]
        predicted = baselines.baseline_values(name, train, scored, values, labels, *columns, seed)
        if name == "lookup":
            chosen["column"] = baselines.value_column(train, values, data.categorical, seed)
    if holds(task) == "number":
        written: dict[str, Any] = {"prediction": predicted[:, 0]}
    else:
        made = task.from_probabilities(predicted)  # type: ignore[attr-defined]
        written = {k: v for k, v in made.items() if not k.startswith("logit_")}
    return pl.DataFrame({"row": scored["row"], "target": scored[target], **written}).with_columns(
        pl.lit(column).alias(key) for key, column in chosen.items()
    )


def mean_of_models(tables: list[pl.DataFrame], task: Any = None) -> pl.DataFrame:
    """Average several models' probabilities of the same rows, or the numbers they predict.

    Args:
        tables: one a model, with prob_* and logit_* columns and rows in the same order.
        task: says by `from_probabilities` which label follows from probabilities, and which
            logits; without it, the largest, and their logarithms.

    Returns:
        The first table with the mean probabilities, and the label and logits that follow.
    """
    first = tables[0].with_columns(pl.lit(None, pl.Int32).alias("fold"))
    if first["prediction"].dtype.is_float():
        values = np.mean([table["prediction"].to_numpy() for table in tables], axis=0)
        return first.with_columns(pl.Series("prediction", values))
    names = [name.removeprefix("prob_") for name in first.columns if name.startswith("prob_")]
    mean = np.mean([t.select(f"prob_{n}" for n in names).to_numpy() for t in tables], axis=0)
    if hasattr(task, "from_probabilities"):
        columns = task.from_probabilities(mean)
        return first.with_columns(pl.Series(name, values) for name, values in columns.items())
    log = np.log(np.maximum(mean, np.finfo(np.float64).tiny))
    return first.with_columns(
        pl.Series("prediction", [names[i] for i in mean.argmax(axis=1)]),
        *(pl.Series(f"prob_{name}", mean[:, i]) for i, name in enumerate(names)),
        *(pl.Series(f"logit_{name}", log[:, i]) for i, name in enumerate(names)),
    )


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


def _setting(prepared: Prepared, metrics: list[str]) -> Setting:
    from foldwise.evaluation.verdict import Setting

    config = prepared.config
    selects, data = config.selection.metric, config.data
    columns = bool(data.categorical or data.numeric)
    read = [name for name, there in (("words", bool(data.text)), ("columns", columns)) if there]
    return Setting(
        metric=selects if selects in metrics else metrics[0],  # `loss` isn't among them
        inputs=" and ".join(read),
        text=bool(data.text),
        own_task=config.task not in BUILTIN["task"],
    )
