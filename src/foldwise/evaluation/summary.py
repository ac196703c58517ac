"""From the folds' files to the run's: `oof.parquet`, `holdout.parquet`, `metrics.json`.

In: what validation and the members wrote for every fold. Out: the run's answer and each member:
scores per fold, their mean and standard deviation, the pooled out-of-fold scores with intervals,
the holdout's. Every score is computed over whole folds or all rows at once; a mean of per-batch F1
is another and wrong number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from foldwise.config.grammar import BUILTIN
from foldwise.config.members import MODEL, answering, baseline_names, beside_the_model
from foldwise.evaluation.bootstrap import Resampled, resample
from foldwise.evaluation.words import ANSWER
from foldwise.members.roster import reads_embedding
from foldwise.metrics.metric import score
from foldwise.preparation.build import holds
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
Scores = Mapping[str, float | None]


def summarize(prepared: Prepared) -> dict[str, Any]:
    """Write the tables of the run's answer and of its members and, last of all, the metrics.

    Returns:
        What `metrics.json` holds.
    """
    # Imported only now: scipy and transformers are slow to import.
    from foldwise.evaluation.answer import answer
    from foldwise.evaluation.verdict import verdict
    from foldwise.members.frozen import keep_backbone

    run, task = prepared.run, prepared.task
    folds = [run.fold(number) for number in prepared.folds]
    for fold in folds:
        check(fold.path, "validated", "members")
    constant = {str(f.number): c for f in folds if (c := _validation(f).get("constant"))}
    names = [MODEL, *(part.name for part in beside_the_model(prepared.config))]
    members = {name: _member(prepared, name) for name in names}
    voters = [part.name for part in answering(prepared.config)]
    found = answer(prepared, {name: members[name].table for name in voters})
    if any(_embeds(prepared, name) for name in found.chosen.voting):
        keep_backbone(prepared)
    own = members.get(_alone(found) or "") or _blend(prepared, found, members)
    write_parquet(run.out_of_fold, own.table)
    if own.held is not None:
        write_parquet(run.holdout, own.held)
    entries = {name: each.entry() for name, each in members.items()}
    metrics: dict[str, Any] = {
        **own.entry(),
        "answer": found.as_json() | {"sets": _sets(prepared, found, own.table, members)},
        "members": {name: entry | _size(folds, name) for name, entry in entries.items()},
        "baselines": {name: entries[name] for name in baseline_names(prepared.config)},
        "selection": prepared.config.selection.rows,
        "constant_predictions": constant,
        "smaller_is_better": [m.name for m in task.metrics() if not m.greater_is_better],
        "rows": {
            "oof": own.table.height,
            "holdout": 0 if own.held is None else own.held.height,
        },
    }
    scores = {ANSWER: own.scores, **{name: each.scores for name, each in members.items()}}
    metrics["verdict"] = verdict(metrics, scores, _setting(prepared))
    if prepared.online:
        tell_trackers(prepared.config, prepared.code, run, metrics)
    left = [run.out_of_fold, *([run.holdout] if own.held is not None else [])]
    left += [*files_of(run.path / "members"), run.log, *(fold.path / SEAL for fold in folds)]
    commit(run.path, "finished", left, run.metrics, to_json(metrics))
    return read_metrics(run)


@dataclass(frozen=True)
class _Scored:
    """A member's predictions over all folds, or the answer's, and what they score.

    Attributes:
        table: of the scored rows, ascending by repeat and row.
        held: of the holdout's rows, the mean of the folds; None where there is none.
        held_folds: the same, a table a fold.
        by_fold: the scores of each fold.
        scores: of all rows together.
        held_scores: of the holdout.
    """

    table: pl.DataFrame
    held: pl.DataFrame | None
    held_folds: list[pl.DataFrame]
    by_fold: Mapping[str, Scores]
    scores: Resampled
    held_scores: Resampled | None

    def entry(self) -> dict[str, Any]:
        """Return what metrics.json says of it."""
        names = list(next(iter(self.by_fold.values())))
        columns = {name: [scores[name] for scores in self.by_fold.values()] for name in names}
        values = {k: np.array([np.nan if v is None else v for v in c]) for k, c in columns.items()}
        return {
            "folds": self.by_fold,
            "mean": {name: float(column.mean()) for name, column in values.items()},
            "std": {
                name: float(column.std(ddof=1)) if len(column) > 1 else None
                for name, column in values.items()
            },
            "oof": self.scores.intervals(),
            "holdout": None if self.held_scores is None else self.held_scores.intervals(),
        }


def _member(prepared: Prepared, name: str) -> _Scored:
    """Read what a member has predicted in each fold, score it, and write its tables."""
    folds = [prepared.run.fold(number) for number in prepared.folds]
    sources: list[Any] = folds if name == MODEL else [fold.member(name) for fold in folds]
    table = pl.concat([read_predictions(s.predictions, prepared.task) for s in sources])
    table, held, held_folds = table.sort("repeat", "row"), None, []
    if prepared.holdout is not None:
        held_folds = [read_predictions(source.holdout, prepared.task) for source in sources]
        held = mean_of_models(held_folds, prepared.task)
    by_fold = {str(f.number): _validation(f)["scores"] for f in folds} if name == MODEL else None
    folder = prepared.run.member(name)
    folder.path.mkdir(parents=True, exist_ok=True)
    write_parquet(folder.out_of_fold, table)
    if held is not None:
        write_parquet(folder.holdout, held)
    return _scored(prepared, table, held, held_folds, by_fold)


def _blend(prepared: Prepared, found: Answer, members: Mapping[str, _Scored]) -> _Scored:
    """Score the answer where it isn't one member's."""
    from foldwise.evaluation.answer import mean_answer

    folds = _held_folds(prepared, found, members)
    held = mean_answer(folds, found.chosen, prepared.task) if folds else None
    return _scored(prepared, found.out_of_fold, held, [], None)


def _held_folds(
    prepared: Prepared, found: Answer, members: Mapping[str, _Scored]
) -> list[dict[str, pl.DataFrame]]:
    # By fold, what each member says of the holdout's rows.
    if prepared.holdout is None:
        return []
    return [
        {name: members[name].held_folds[i] for name in found.chosen.names}
        for i in range(len(prepared.folds))
    ]


def _sets(
    prepared: Prepared, found: Answer, table: pl.DataFrame, members: Mapping[str, _Scored]
) -> dict[str, Any] | None:
    from foldwise.evaluation.answer import answered
    from foldwise.evaluation.sets import known_rows, sets_json

    task = prepared.task
    if holds(task) == "labels" or not hasattr(task, "from_probabilities"):
        return None
    known = known_rows(table, task, prepared.assignment.groups(table["row"].to_numpy()))
    folds = _held_folds(prepared, found, members)
    held = {
        number: answered(tables, found.chosen, task)
        for number, tables in zip(prepared.folds, folds, strict=False)
    }
    return sets_json(known, held, task, seed=prepared.config.folds.seed)


def _scored(
    prepared: Prepared,
    table: pl.DataFrame,
    held: pl.DataFrame | None,
    held_folds: list[pl.DataFrame],
    by_fold: Mapping[str, Scores] | None,
) -> _Scored:
    groups = prepared.assignment.groups
    held_scores = None
    if held is not None:
        held_scores = _resampled(prepared, held, holdout_groups(prepared))
    return _Scored(
        table,
        held,
        held_folds,
        by_fold or _by_fold(prepared, table),
        _resampled(prepared, table, groups),
        held_scores,
    )


def _validation(fold: FoldFolder) -> dict[str, Any]:
    return dict(read_json(fold.validation, Validation))


def _embeds(prepared: Prepared, name: str) -> bool:
    parts = {part.name: part for part in answering(prepared.config)}
    return reads_embedding(parts[name], prepared.config, prepared.code)


def _alone(found: Answer) -> str | None:
    # The member that answers every row, where it is one and the same.
    chosen = [found.chosen, *found.of_folds.values()]
    own = [not each.blended and each.decision.plain for each in chosen]
    names = {each.single if is_own else None for each, is_own in zip(chosen, own, strict=True)}
    return names.pop() if len(names) == 1 else None


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


def holdout_groups(prepared: Prepared) -> Groups:
    """Return what gives the holdout's rows, by number, their groups of near-duplicates."""
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
