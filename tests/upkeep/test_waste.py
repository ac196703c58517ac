"""What can go goes; what a finished run needs, or a running one holds, stays."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from foldwise.config.load import load_config
from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError
from foldwise.run.files import write_json
from foldwise.run.folder import RunFolder
from foldwise.run.lock import lock
from foldwise.upkeep.waste import remove, waste_of
from made_runs import make_run, noisy


@pytest.fixture
def run(make_config: Callable[..., Config]) -> RunFolder:
    """A finished run of three folds, with a token store beside it."""
    target = np.arange(30) % 3
    run = make_run(make_config(), target, noisy(target, 0.8, 0), np.arange(30) % 3 + 1)
    for number in (1, 2, 3):
        put(run.fold(number).checkpoints / "step-000010" / "model.safetensors")
        write_json(run.fold(number).validation, {"scores": {"f1_macro": 0.5}})
    run.report.write_text("page")
    put(run.tensorboard / "fold-1" / "events")
    put(run.token_stores / ("a" * 64) / "ids.bin")
    return run


@pytest.fixture(scope="module")
def dead() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def put(path: Path, content: str = "x" * 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def files(run: RunFolder) -> set[Path]:
    found = {path for path in run.path.parent.rglob("*") if path.is_file()}
    return {path for path in found if path.name != ".lock"}


def test_what_can_go_is_listed_with_its_size_removed_and_nothing_else_is(
    run: RunFolder, dead: int
) -> None:
    store = run.token_stores / ("a" * 64)
    kept = files(run) - {store / "ids.bin"}
    damaged = run.fold(1).checkpoints / "damaged-1-step-000005"
    put(damaged / "model.safetensors")
    put(damaged / "state.json")
    half = put(run.path / f".metrics.json.{dead}.tmp")
    waste = waste_of(run)
    assert {item.path: item.size_bytes for item in waste} == {damaged: 200, half: 100, store: 100}
    assert remove(run, waste) == waste
    assert files(run) == kept
    assert waste_of(run) == []


def test_a_damaged_checkpoint_of_an_unfinished_fold_stays(run: RunFolder) -> None:
    put(run.fold(1).checkpoints / "damaged-1-step-000005" / "model.safetensors")
    run.fold(1).validation.unlink()
    run.metrics.unlink()
    assert waste_of(run) == []


def test_token_stores_stay_while_a_run_beside_is_unfinished_or_unreadable(run: RunFolder) -> None:
    other = put(run.path.parent / "other" / "config.yaml", run.config.read_text())
    assert waste_of(run) == []
    other.write_text("?: [")
    assert waste_of(run) == []
    other.unlink()
    assert [item.path for item in waste_of(run)] == [run.token_stores / ("a" * 64)]


def test_near_duplicates_that_are_kept_go_as_token_stores_do(run: RunFolder) -> None:
    path = put(run.token_stores / f"{'b' * 64}.groups")
    told = "near-duplicates; no run beside it is unfinished, and it can be made again"
    assert [item.why for item in waste_of(run) if item.path == path] == [told]
    assert path in {item.path for item in remove(run, waste_of(run))}
    assert not path.exists()


@pytest.mark.parametrize("place", ["", "fold-2"])
def test_a_run_at_work_is_refused_before_and_after_the_question(run: RunFolder, place: str) -> None:
    waste = waste_of(run)
    before = files(run)
    with lock(run.path / place / ".lock", "it"):
        with pytest.raises(FoldwiseError, match=f"in use by process {os.getpid()}"):
            waste_of(run)
        with pytest.raises(FoldwiseError, match=f"in use by process {os.getpid()}"):
            remove(run, waste)
    assert files(run) == before


def test_what_has_changed_since_it_was_listed_stays(run: RunFolder) -> None:
    waste = waste_of(run)
    put(run.path.parent / "other" / "config.yaml", run.config.read_text())
    assert remove(run, waste) == []
    assert (run.token_stores / ("a" * 64) / "ids.bin").exists()


def test_a_run_is_as_readable_after_as_before(run: RunFolder) -> None:
    before = load_config(run.config)
    remove(run, waste_of(run))
    assert load_config(run.config) == before
    assert run.finished
