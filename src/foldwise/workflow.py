"""The workflow, top to bottom: one config in; fold models, logs and scores out.

INPUT: YAML config            OUTPUT: model checkpoints, training log, report
1. load the config   2. split the data into cross-validation folds
3. for each fold:
   a. train: dataloader with preprocessing, custom PyTorch model, optimizer, checkpoints, metrics
   b. validate: dataloader with preprocessing, weights loaded back from 3a, inference, metrics
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Literal

from rich.console import Console

from foldwise.config.load import load_config
from foldwise.config.schema import Config
from foldwise.config.training import Precision
from foldwise.errors import FoldwiseError
from foldwise.evaluation.summary import summarize
from foldwise.evaluation.validate import validate_fold
from foldwise.hardware import team
from foldwise.hardware.device import build_accelerator, placement, resolve_device, set_deterministic
from foldwise.members.fold import Members
from foldwise.members.roster import check_members
from foldwise.parts.usercode import UserCode
from foldwise.preparation.build import build_task, load_target, open_run
from foldwise.preparation.ownership import (
    all_folds_done,
    change_config,
    differs,
    folds_of,
    is_complete,
    same_or_new,
)
from foldwise.preparation.prepare import encode_rows, prepare
from foldwise.preparation.provenance import (
    check_continues,
    failures_told,
    start_record,
    stop_record,
)
from foldwise.preparation.resolve import resolve_stored
from foldwise.preparation.rows import columns_of
from foldwise.report.source import Source, source_of
from foldwise.report.terminal import facts, interactive_console
from foldwise.run import checkpoints
from foldwise.run.folder import RunFolder
from foldwise.run.leftovers import clear_leftovers
from foldwise.run.lock import lock
from foldwise.run.readers import read_parquet
from foldwise.run.seal import check, check_finished, is_done, read_metrics, trained_folds
from foldwise.split.assignment import SCHEMA, read_assignment
from foldwise.storage.mirror import local_run, mirrored, push, push_fold
from foldwise.storage.outputs import sent_table
from foldwise.storage.places import run_of
from foldwise.table.frames import Rows, kept_table
from foldwise.training.check import check_training
from foldwise.training.fold import tell_fold, train_fold
from foldwise.training.lr_finder import find_rate, with_optimizer
from foldwise.training.together import told_shares

_OTHER_INPUTS = "put them back, or choose another run.name"


def cross_validate(
    config: Config | str | os.PathLike[str] | Mapping[str, Any],
    only: Sequence[int] | None = None,
    console: Console | Literal["auto"] | None = "auto",
    *,
    data: Rows | None = None,
    overrides: Sequence[str] | Mapping[str, Any] = (),
) -> RunFolder:
    """Train and validate a model for each fold, and sum up once all folds are done.

    Called again on an interrupted run it goes on where that one stopped, and on a finished run it
    changes nothing.

    Args:
        config: a YAML file, the same as a dict, or a `Config`.
        only: folds to work on in this call; None for all the run consists of.
        console: where progress and scores are shown; "auto" for a notebook's cell or an interactive
            session, and silence in a script; None for silence.
        data: the table, instead of data.path: a polars or pandas frame, or a list of dicts. It is
            kept in `<run.dir>/.tables`, named by its content, and that is the run's data.path. A
            pandas frame's index is no column.
        overrides: values that replace the config's, as for `load_config`.

    Returns:
        The run's folder; `metrics.json` is there once every fold is done.

    Raises:
        FoldwiseError: the input doesn't allow the run; nothing was written.
        RunInterrupted: training stopped on a loss that isn't finite; the run can be continued.
    """
    shown = interactive_console() if console == "auto" else console
    if data is None:
        return _cross_validate(load_config(config, overrides), only, shown)
    config = load_config(config, overrides, table="data")
    run = run_of(config.run.dir, config.run.name)
    with kept_table(data, run, columns_of(config)) as path:
        placed = config.data.model_copy(update={"path": sent_table(path)})
        return _cross_validate(config.model_copy(update={"data": placed}), only, shown)


def _cross_validate(
    config: Config, only: Sequence[int] | None, console: Console | None
) -> RunFolder:
    run = run_of(config.run.dir, config.run.name)
    if config.sweep is not None:
        raise FoldwiseError(
            f"{run.path}: the config has a sweep section, so it describes several runs; use "
            "foldwise sweep or foldwise tune, or --set sweep=null for the config as it stands"
        )
    with mirrored(run, [run.fold(number) for number in folds_of(config, only)]):
        return _train_and_sum_up(config, run, only, console)


def _train_and_sum_up(
    config: Config, run: RunFolder, only: Sequence[int] | None, console: Console | None
) -> RunFolder:
    config = same_or_new(config, run)
    if is_complete(config, run):
        read_metrics(run)
        return run
    set_deterministic(config.run.deterministic, resolve_device(config.training.device))
    every, todo = folds_of(config), folds_of(config, only)
    if run.finished and all_folds_done(config, run):  # killed before the report was drawn
        with lock(run.path / ".lock", f"{run.path}", wait=True):
            clear_leftovers(run, [])
        draw_report(config, UserCode(config.code), run, online=True)
        return run
    new = not run.path.exists()  # it is made only once the input is known to be good
    with ExitStack() as held:
        for number in [] if new else todo:
            held.enter_context(_claim(run, number))

        code = UserCode(config.code)
        task = build_task(config, code, stores=run.token_stores)
        prepared = prepare(config, code, run, task, online=True)
        check_training(config, code)
        check_members(config, code, task)
        check_continues(prepared, _OTHER_INPUTS)
        prepared = encode_rows(prepared)
        accelerator = build_accelerator(config.training)
        found = None
        if prepared.config.optimizer.lr == "range_test":
            prepared, found = find_rate(prepared, accelerator, console)

        if new:
            run.create()
            for number in todo:
                held.enter_context(_claim(run, number))
        with lock(run.path / ".lock", f"{run.path}", wait=True):
            if new and run.config.exists():  # another process has begun it since
                prepared = with_optimizer(prepared, same_or_new(config, run).optimizer)
                check_continues(prepared, _OTHER_INPUTS)
            if not new:
                clear_leftovers(run, [run.fold(number) for number in todo])
                _reopen(run, every)
            if not new and run.config.exists():
                _change(config, run, every, todo)
            start_record(prepared)
            if found is not None:
                run.append_log("learning rate found", **found)
        push(run, *(run.fold(number) for number in todo))
        if console is not None:
            told = [*facts(prepared.counts), *told_shares(prepared.config)]
            console.print("\n".join(told), highlight=False, markup=False)

        held.enter_context(failures_told(run))
        # Others that train along read the run from its folder.
        team.tell({"run": str(run.path.resolve()), "shard": prepared.config.training.shard})
        members = Members(prepared, accelerator)
        for number in todo:
            train_fold(prepared, number, accelerator, console)
            push_fold(run.fold(number))
            scores = validate_fold(prepared, number, accelerator)
            members.fit(number)
            push_fold(run.fold(number))
            tell_fold(prepared, number, scores, console)

        with lock(run.path / ".lock", f"{run.path}", wait=True):
            if all(is_done(run.fold(number)) for number in prepared.folds):
                stop_record(prepared)
                summarize(prepared)
                _write_report(source_of(prepared))
    return run


def validate(
    path: str | os.PathLike[str],
    *,
    trust_code: bool = False,
    online: bool = False,
    precision: Precision | None = None,
) -> dict[str, Any]:
    """Validate every trained fold of a run again from its checkpoints, and sum up.

    Args:
        path: the run folder; its table must still be where the config says.
        trust_code: run the Python files that lie in the run folder.
        online: ask the hub for what is needed, and tell the trackers.
        precision: float32, bf16 or fp16; None: the run's, where the device computes in it.

    Returns:
        The scores: what `metrics.json` holds, or {"folds": ...} while folds are missing.

    Raises:
        FoldwiseError: not a run folder, other data, or code that isn't trusted.
    """
    run = RunFolder(local_run(path).resolve())  # "." has its token stores beside it too
    with mirrored(run, [run.fold(number) for number in run.fold_numbers()]):
        return _validate_again(run, str(path), trust_code, online, precision)


def _validate_again(
    run: RunFolder, named: str, trust_code: bool, online: bool, precision: Precision | None
) -> dict[str, Any]:
    stored, code = open_run(run, trust_code=trust_code)
    set_deterministic(stored.run.deterministic, placement(stored.training)[0])
    config = resolve_stored(stored, precision=precision)
    every = folds_of(config)
    trained = [number for number in trained_folds(run) if number in every]
    if not trained:
        raise FoldwiseError(f"{named}: no fold is trained yet; run: foldwise train")
    for number in trained:
        check(run.fold(number).path, "trained")
    with ExitStack() as held:
        task = build_task(config, code, run=run, stores=run.token_stores, online=online)
        prepared = prepare(config, code, run, task, online=online)
        check_training(stored if online else stored.model_copy(update={"trackers": []}), code)
        check_continues(prepared)
        prepared = encode_rows(prepared)
        accelerator = build_accelerator(config.training)
        for number in trained:
            held.enter_context(_claim(run, number))
            checkpoints.mend(run.fold(number))
        scores = {str(n): validate_fold(prepared, n, accelerator) for n in trained}
        members = Members(prepared, accelerator)
        for number in trained:
            members.fit(number)
        if trained != every:
            return {"folds": scores}
        with lock(run.path / ".lock", f"{run.path}", wait=True):
            scores = summarize(prepared)
            _write_report(source_of(prepared))
            return scores


def draw_report(config: Config, code: UserCode, run: RunFolder, *, online: bool = False) -> None:
    """Draw a finished run's report.html from its files.

    Without its table, or with another one than the run was made from, it shows no texts and no
    scores by column, and says why.

    Args:
        config: as it ran.
        code: the run's.
        run: finished.
        online: ask the hub for what is needed.
    """
    check_finished(run)
    task = build_task(config, code, run=run, stores=run.token_stores, online=online)
    try:
        prepared = prepare(config, code, run, task, online=online)
        check_continues(prepared)
        source = source_of(encode_rows(prepared))
    except FoldwiseError as error:
        load_target(task, config, run)
        assignment = read_assignment(read_parquet(run.folds, SCHEMA))
        source = Source(run, config, task, assignment, None, None, str(error))
    with lock(run.path / ".lock", f"{run.path}", wait=True):
        _write_report(source)


def _write_report(source: Source) -> None:
    # Imported only now: its charts and statistics take as long to import as the rest of a run.
    from foldwise.report.run_report import write_report

    write_report(source)


def _reopen(run: RunFolder, every: Sequence[int]) -> None:
    # Scores without a fold that they are of: someone has removed it, to have it trained anew.
    if run.finished:
        lacking = [number for number in every if not run.fold(number).validation.exists()]
        run.metrics.unlink()
        run.append_log("reopened", folds=lacking)


def _change(config: Config, run: RunFolder, every: Sequence[int], todo: Sequence[int]) -> None:
    # A change is the whole run's, so no other process may be at work on another of its folds.
    with ExitStack() as others:
        if differs(config, run):
            for number in sorted(set(every) - set(todo)):
                others.enter_context(_claim(run, number))
            change_config(config, run, every)


def _claim(run: RunFolder, number: int) -> Any:
    return lock(run.fold(number).path / ".lock", f"fold {number} of {run.path}")
