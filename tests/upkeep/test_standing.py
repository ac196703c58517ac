"""Where a run stands is told by its locks and by what training has written down."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from foldwise import workflow
from foldwise.config.load import dump_config
from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError
from foldwise.run.files import append_line, write_json, write_text
from foldwise.run.folder import FAILED, NOT_FINITE, STARTS, RunFolder
from foldwise.run.lock import holder, lock
from foldwise.upkeep.standing import Standing, standing_of


@pytest.fixture
def run(make_config: Callable[..., Config]) -> RunFolder:
    """A run of three folds whose first is done and whose second is at step 6 of 20."""
    config = make_config()
    run = RunFolder(Path(config.run.dir) / config.run.name)
    run.path.mkdir(parents=True)
    write_text(run.config, dump_config(config))
    run.append_log("started", pid=1)
    for number in (1, 2):
        run.fold(number).path.mkdir()
        run.append_log(STARTS, fold=number, steps=20)
    for step in (3, 6):
        entry = f'{{"split": "step", "step": {step}, "epoch": {step / 10}}}'
        append_line(run.fold(2).history, entry)
    finish(run, 1)
    return run


def finish(run: RunFolder, number: int) -> None:
    fold = run.fold(number)
    fold.path.mkdir(exist_ok=True)
    write_json(fold.trained, {"steps": 20, "best_step": 20, "best": 0.5, "elapsed_s": 40.0})
    write_json(fold.validation, {"scores": {"f1_macro": 0.75}})


def states(standing: Standing) -> list[str]:
    return [fold.state for fold in standing.folds]


def test_a_run_without_process_or_error_is_stopped(run: RunFolder) -> None:
    standing = standing_of(run)
    assert standing.state == "stopped"
    assert states(standing) == ["done", "stopped", "waiting"]
    assert standing.share == pytest.approx((1 + 6 / 20 + 0) / 3)
    at = standing.at
    assert at is not None
    assert (at.number, at.step, at.steps, at.epoch) == (2, 6, 20, 0.6)
    assert standing.folds[0].scores == {"f1_macro": 0.75}
    assert standing.holders == ()


def test_a_run_whose_lock_is_held_is_running_and_in_the_fold_begun_last(run: RunFolder) -> None:
    with ExitStack() as held:
        for number in (1, 2, 3):
            held.enter_context(lock(run.fold(number).path / ".lock", "a fold"))
        standing = standing_of(run)
    assert standing.state == "running"
    assert states(standing) == ["done", "running", "waiting"]
    assert [who.split(" on ")[0] for who in standing.holders] == [f"process {os.getpid()}"]
    assert standing_of(run).state == "stopped"


def test_a_process_of_its_own_is_seen_and_no_longer_once_it_is_killed(run: RunFolder) -> None:
    path = run.fold(2).path / ".lock"
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom foldwise.run.lock import lock\n"
        "with lock(Path(sys.argv[1]), 'it'):\n    print('held', flush=True)\n    time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        standing = standing_of(run)
        assert (standing.state, states(standing)[1]) == ("running", "running")
        assert standing.holders[0].startswith(f"process {process.pid} on ")
    finally:
        process.kill()
        process.communicate()
    assert standing_of(run).state == "stopped"


def test_an_error_since_the_last_start_is_a_failure_and_a_new_start_ends_it(run: RunFolder) -> None:
    run.append_log(FAILED, error="RuntimeError: boom")
    standing = standing_of(run)
    assert (standing.state, standing.message) == ("failed", "RuntimeError: boom")
    assert states(standing) == ["done", "failed", "waiting"]
    run.append_log("continued", pid=2)
    assert standing_of(run).state == "stopped"
    run.append_log(NOT_FINITE, fold=2, step=7, loss="nan")
    assert standing_of(run).message == "fold 2, step 7: the loss was nan"


def test_a_run_with_scores_report_and_all_folds_is_done(run: RunFolder) -> None:
    for number in (2, 3):
        finish(run, number)
    write_json(run.metrics, {})
    assert standing_of(run).state == "stopped"  # the report is missing
    run.report.write_text("page")
    standing = standing_of(run)
    assert (standing.state, standing.share, standing.left_s, standing.at) == (
        "done",
        1.0,
        0.0,
        None,
    )


def test_time_left_goes_by_a_fold_s_own_pace_and_else_by_that_of_the_others(run: RunFolder) -> None:
    fold = run.fold(2)
    began = time.time() - 30
    events = [
        {"time": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(began)), **event}
        for event in ({"event": STARTS, "fold": n, "steps": 20} for n in (1, 2))
    ]
    run.log.write_text("".join(f"{json.dumps(event)}\n" for event in events))
    os.utime(fold.history, (began + 30, began + 30))
    with lock(fold.path / ".lock", "it"):
        standing = standing_of(run)
    first, second, third = (fold.left_s for fold in standing.folds)
    assert first == 0.0
    assert second == pytest.approx(30 / 6 * 14, rel=0.1)  # 14 steps are left of it
    assert third == pytest.approx((40 / 20 + 30 / 6) / 2 * 20, rel=0.1)
    assert standing.left_s == pytest.approx(second + third)
    # Stopped, it would begin anew: nothing was saved.
    assert standing_of(run).folds[1].left_s == pytest.approx(30 / 6 * 20, rel=0.1)


def test_an_error_in_a_fold_is_written_down_for_whoever_asks(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    def boom(*_: object) -> None:
        raise RuntimeError("boom")

    config = make_config()
    monkeypatch.setattr(workflow, "train_fold", boom)
    with pytest.raises(RuntimeError, match="boom"):
        workflow.cross_validate(config)
    standing = standing_of(RunFolder(Path(config.run.dir) / config.run.name))
    assert (standing.state, standing.message) == ("failed", "RuntimeError: boom")


def test_an_interrupted_training_is_stopped_and_names_where_it_goes_on(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    config = make_config(folds={"n": 3, "run": [1]}, training={"epochs": 1})
    monkeypatch.setattr("foldwise.charts.learning_curves.learning_curves", interrupted)
    with pytest.raises(KeyboardInterrupt):
        workflow.cross_validate(config)
    standing = standing_of(RunFolder(Path(config.run.dir) / config.run.name))
    assert standing.state == "stopped"
    (fold,) = standing.folds
    assert fold.state == "stopped"
    assert (fold.step, fold.saved_step, fold.epoch) == (fold.steps, fold.steps, 1.0)


def test_who_asks_for_a_lock_keeps_nobody_out(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    assert holder(path) is None
    assert not path.exists()
    with lock(path, "it"):
        assert str(holder(path)).startswith(f"process {os.getpid()}")
        with pytest.raises(FoldwiseError, match=r"it is in use by process \d+"):
            lock(path, "it").__enter__()
    assert holder(path) is None
    with lock(path, "it"):
        pass


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FoldwiseError, match="not a run folder"):
        standing_of(RunFolder(tmp_path))
