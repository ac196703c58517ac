"""What decisions are worth: calibration, thresholds, sets, abstaining; out of fold and on holdouts.

    python benchmarks/decisions.py RUN ...            # finished runs, from their tables alone
    python benchmarks/decisions.py --tables DATA      # small public tables, the linear member alone

Of a run the answer and each member alone are judged, as the run would if it had no other. Of each
table of DATA/small and DATA/women_clothing 3,000 rows are drawn; 40% of them are the holdout.
Nothing is trained but the linear members. Where a run has a refit, and of each table, the sets of
one model fitted on all rows are judged too. It prints the tables of docs/experiments.md.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl

from foldwise.condense.rows import of_all_rows
from foldwise.config.load import load_config, load_stored
from foldwise.config.members import MODEL, answering
from foldwise.decisions.decision import AS_IT_IS
from foldwise.decisions.temperature import log_loss
from foldwise.evaluation.answer import Answer, answer, answered, mean_answer, probabilities_of
from foldwise.evaluation.calibration import confidence_of
from foldwise.evaluation.deciding import ONE, confidence_and_right
from foldwise.evaluation.diagnostics import calibration, chance_error, coverage
from foldwise.evaluation.sets import known_rows, sets_json
from foldwise.hardware.device import build_accelerator
from foldwise.members.fold import Members
from foldwise.metrics.metric import evaluate
from foldwise.parts.usercode import UserCode
from foldwise.preparation.build import build_task, holds, load_target
from foldwise.preparation.prepare import prepare
from foldwise.run.folder import REFIT, RunFolder
from foldwise.split.assignment import read_assignment
from foldwise.tasks.predictions import read_predictions, values_of

ROWS = 3000
LEVELS = (0.8, 0.9, 0.95)
TABLES: dict[str, dict[str, Any]] = {
    "banking77": {"path": "small/banking77.csv", "target": "category", "text": ["text"]},
    "alexa": {"path": "small/alexa.tsv", "target": "rating", "text": ["verified_reviews"]},
    "clothing": {
        "path": "women_clothing/train.parquet",
        "target": "Rating",
        "text": ["Title", "Review Text"],
        "task": "ordinal",
    },
    "netflix": {
        "path": "small/netflix.csv",
        "target": "listed_in",
        "text": ["title", "descriptions"],
        "task": "multilabel",
        "separator": ", ",
    },
    "ramen": {
        "path": "small/ramen.csv",
        "target": "stars",
        "text": ["brand", "variety", "style", "country"],
        "task": "regression",
    },
}
Tables = dict[str, pl.DataFrame]


def main() -> None:
    """Judge what the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--tables", type=Path)
    asked = parser.parse_args()
    for path in asked.runs:
        prepared, tables, held = of_run(path)
        judge(path.name, prepared, tables, held)
        run = RunFolder(path)
        if run.one(REFIT).holdout.exists():
            paths = run.out_of_fold, run.one(REFIT).holdout
            known, refitted = (read_predictions(each, prepared.task) for each in paths)
            judge_refit(path.name, prepared, known, refitted)
    for name, table in TABLES.items() if asked.tables else ():
        with tempfile.TemporaryDirectory() as folder:
            prepared, tables, held = of_table(name, dict(table), asked.tables, Path(folder))
            judge(name, prepared, tables, held)
            if holds(prepared.task) != "labels":
                found = answer(prepared, tables)
                refitted = answered({MODEL: refit_linear(prepared)}, found.chosen, prepared.task)
                judge_refit(name, prepared, found.out_of_fold, refitted)


def of_run(path: Path) -> tuple[Any, Tables, list[Tables]]:
    """Read what the members of a finished run predicted."""
    run = RunFolder(path)
    config = load_stored(run.config)
    task = build_task(config, UserCode([]), run=run)
    load_target(task, config, run)
    assignment = read_assignment(pl.read_parquet(run.folds))
    folds = [n for n in range(1, assignment.n_folds + 1) if run.fold(n).predictions.exists()]
    names = [part.name for part in answering(config)]
    read = {name: _sources(run, folds, name) for name in names}
    prepared = SimpleNamespace(config=config, task=task, folds=folds, assignment=assignment)
    return prepared, *_tables(read, folds)


def of_table(name: str, table: dict[str, Any], data: Path, folder: Path) -> tuple[Any, Any, Any]:
    """Fit the linear member of five folds of a table."""
    task_name = table.pop("task", "multiclass")
    values = {
        "run": {"name": name, "dir": str(folder)},
        "task": task_name,
        "data": {**table, "path": str(data / table["path"]), "sample": ROWS},
        "holdout": {"fraction": 0.4},
        "ensemble": ["linear"],
        "baselines": False,
        "training": {"device": "cpu", "precision": "float32"},
    }
    values["data"]["missing"] = {"target": "drop"}
    if task_name != "regression":
        values["data"]["rare_classes"] = "drop"
    config, code = load_config(values), UserCode([])
    run = RunFolder(folder / name)
    prepared = prepare(config, code, run, build_task(config, code), online=False)
    members = Members(prepared, build_accelerator(config.training), only={"linear"})
    for number in prepared.folds:
        run.fold(number).path.mkdir(parents=True)
        members.fit(number)
    read = {MODEL: _sources(run, prepared.folds, "linear")}
    return prepared, *_tables(read, prepared.folds)


def refit_linear(prepared: Any) -> pl.DataFrame:
    """Fit the linear member on the rows of all folds, and let it answer the holdout."""
    one = prepared.run.one(REFIT)
    single = replace(of_all_rows(prepared, one, 0), holdout=prepared.holdout)
    one.path.mkdir()
    Members(single, build_accelerator(prepared.config.training), only={"linear"}).fit(1)
    return read_predictions(one.member("linear").holdout, prepared.task)


def judge_refit(name: str, prepared: Any, known: pl.DataFrame, refitted: pl.DataFrame) -> None:
    """Print what sets hold of a refitted answer to the holdout, beside folds that never saw it."""
    task, seed = prepared.task, prepared.config.folds.seed
    rows = known_rows(known, task, np.asarray(prepared.assignment.groups(known["row"].to_numpy())))
    # As `predict --model refit` has it: the one answer stands for every fold's.
    alike = replace(rows, fold=np.full_like(rows.fold, ONE))
    print(f"\n{name}, refit: {refitted.height} rows of the holdout")
    for level in LEVELS:
        each = sets_json(alike, {ONE: refitted}, task, seed=seed, level=level)["holdout"]
        print(f"  {level:.0%} {_in_words(each)}")


def judge(name: str, prepared: Any, tables: Tables, held: list[Tables]) -> None:
    """Print what decisions change of the answer, and of each member alone."""
    alone = {member: [member] for member in tables} if len(tables) > 1 else {}
    for who, members in {"answer": list(tables), **alone}.items():
        single = len(members) == 1
        called = {MODEL if single else member: member for member in members}
        mine = {key: tables[member] for key, member in called.items()}
        mine_held = [{key: fold[member] for key, member in called.items()} for fold in held]
        found = answer(prepared, mine)
        _print(f"{name}, {who}", prepared, found, mine, mine_held, detailed=who == "answer")


def _print(
    who: str, prepared: Any, found: Answer, tables: Tables, held: list[Tables], *, detailed: bool
) -> None:
    task, told, of = prepared.task, found.as_json(), probabilities_of(prepared.task)
    print(f"\n{who}: {found.out_of_fold.height} rows")
    if changed := told["calibration"]:
        losses, errors = changed["log_loss"], changed["ece"]
        print(
            f"  out of fold: T {told['temperature']:.2f}, log loss {losses['before']:.4f} -> "
            f"{losses['after']:.4f}, ECE {errors['before']:.4f} -> {errors['after']:.4f} "
            f"(by chance {errors['by_chance']:.4f})"
        )
    if (added := told["thresholds_add"]) is not None:
        metric = task.metrics()[0]
        reached = evaluate(metric, *task.to_arrays(found.out_of_fold))
        print(f"  thresholds: {metric.name} {reached:.3f}, of which they add {added:+.3f}")
        if held:
            half = replace(found.chosen, decision=AS_IT_IS)
            both = [mean_answer(held, each, task) for each in (half, found.chosen)]
            scores = [evaluate(metric, *task.to_arrays(each)) for each in both]
            print(f"  holdout: {metric.name} {scores[0]:.3f} at a half, {scores[1]:.3f} with them")
    if held and changed:
        _print_holdout(found, held, task, of)
    if holds(task) != "labels":
        _print_sets(found, prepared, held, detailed=detailed)


def _print_holdout(found: Answer, held: list[Tables], task: Any, of: Any) -> None:
    raw = replace(found.chosen, decision=AS_IT_IS)
    tables = [mean_answer(held, each, task) for each in (raw, found.chosen)]
    losses, errors = [], []
    for table in tables:
        target, values = task.to_arrays(table)[0], values_of(table)
        losses.append(log_loss(values, target, of))
        errors.append(calibration(*confidence_of(table, task, of))[1])
    single = [answered(fold, found.chosen, task) for fold in held]
    of_one = np.mean([calibration(*confidence_of(table, task, of))[1] for table in single])
    chance = chance_error(confidence_of(tables[1], task, of)[0])
    print(
        f"  holdout, mean of folds: log loss {losses[0]:.4f} -> {losses[1]:.4f}, ECE "
        f"{errors[0]:.4f} -> {errors[1]:.4f} (by chance {chance:.4f}; one fold alone {of_one:.4f})"
    )
    points = np.array([0.5, 0.7, 0.9])
    known = coverage(*confidence_and_right(found.out_of_fold, task), points)
    new = coverage(*confidence_and_right(tables[1], task), points)
    for one, two in zip(known, new, strict=True):
        print(
            f"  abstain below {one[0]}: promised {one[1]:.3f} kept, {one[2]:.3f} right; holdout "
            f"{two[1]:.3f} kept, {two[2]:.3f} right"
        )


def _print_sets(found: Answer, prepared: Any, held: list[Tables], *, detailed: bool) -> None:
    task, seed = prepared.task, prepared.config.folds.seed
    rows = found.out_of_fold["row"].to_numpy()
    known = known_rows(found.out_of_fold, task, np.asarray(prepared.assignment.groups(rows)))
    of_folds = dict(
        zip(prepared.folds, [answered(fold, found.chosen, task) for fold in held], strict=False)
    )
    for level in LEVELS:
        judged = sets_json(known, of_folds, task, seed=seed, level=level)
        for estimate in ("oof", "holdout"):
            if not (each := judged[estimate]):
                continue
            print(f"  {level:.0%} {estimate}: {_in_words(each)}")
            if detailed and estimate == "holdout" and level == 0.9 and "classes" in each:
                for one, two in zip(each["classes"], each["by_class"]["classes"], strict=True):
                    print(
                        f"    {one['label'][:60]:60} {one['rows']:4} {one['coverage']:.3f} "
                        f"{one['size']:.2f} | {two['coverage']:.3f} {two['size']:.2f}"
                    )


def _in_words(each: dict[str, Any]) -> str:
    told = f"cover {each['coverage']:.3f}, size {each['size']:.2f}"
    if by := each.get("by_class"):
        told += f", empty {each['empty']:.3f}; by class {by['coverage']:.3f}, {by['size']:.2f}"
    return told


def _sources(run: RunFolder, folds: list[int], name: str) -> list[Any]:
    return [run.fold(n) if name == MODEL else run.fold(n).member(name) for n in folds]


def _tables(read: dict[str, list[Any]], folds: list[int]) -> tuple[Tables, list[Tables]]:
    tables = {
        name: pl.concat([pl.read_parquet(each.predictions) for each in sources]).sort(
            "repeat", "row"
        )
        for name, sources in read.items()
    }
    if not next(iter(read.values()))[0].holdout.exists():
        return tables, []
    held = [
        {name: pl.read_parquet(sources[i].holdout) for name, sources in read.items()}
        for i in range(len(folds))
    ]
    return tables, held


if __name__ == "__main__":
    main()
