"""The same command given again: what it does to a run that was stopped, is going on, or is done."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.draws import phases_of
from chaos.plays import RUN
from chaos.stage import Stage, outcome
from foldwise.run.folder import RunFolder
from foldwise.run.history import read_history


@pytest.fixture
def begun(stage: Stage) -> Iterator[Path]:
    with stage.scene("train") as root:
        yield root


@pytest.fixture
def finished(stage: Stage) -> Iterator[Path]:
    with stage.scene("evaluate") as root:
        yield root


@pytest.fixture
def unfinished(finished: Path) -> Path:
    """A run as it is before its scores are summed up."""
    (finished / RUN / "metrics.json").unlink()
    return finished


def in_mid_epoch(stage: Stage, share: float) -> int:
    """Return the number of a file operation while a fold trains."""
    numbers = phases_of("train", stage.traces["train"])["train"]
    return numbers[int(share * len(numbers))]


def test_signals_end_in_their_exit_codes_and_the_next_call_goes_on(
    stage: Stage, begun: Path
) -> None:
    codes = {}
    for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGKILL"):
        fate = {"at": in_mid_epoch(stage, 0.15), "signals": [name], "delay_s": 0.0}
        [call] = stage.call(begun, "train", fate)
        codes[name] = call.code
        assert "Traceback" not in call.words
    assert codes == {"SIGTERM": 143, "SIGINT": 130, "SIGHUP": -1, "SIGKILL": -9}
    [last] = stage.call(begun, "train")
    assert last.code == 0
    assert outcome(begun, "train", last) == stage.expected["train"]


@pytest.mark.parametrize(("kind", "at_least"), [("fsync", 100), ("tensors", 0), ("table", 1)])
def test_disk_that_fails_is_one_message_and_the_next_call_goes_on(
    stage: Stage, begun: Path, kind: str, at_least: int
) -> None:
    numbers = [n for n, event in enumerate(stage.traces["train"], 1) if event.kind == kind]
    [call] = stage.call(begun, "train", {"at": numbers[at_least], "error": "EIO"})
    assert call.code == 1
    assert "stopped: the disk fails" in call.words
    assert "give the same command again" in call.words
    assert "Traceback" not in call.words
    [last] = stage.call(begun, "train")
    assert last.code == 0
    assert outcome(begun, "train", last) == stage.expected["train"]


def test_no_step_is_logged_twice_or_left_out(stage: Stage) -> None:
    # The bytes of metrics.jsonl are compared in every draw; here they are right in themselves.
    for number in (1, 2):
        history = read_history(RunFolder(stage.whole / RUN).fold(number).history)
        assert [line["step"] for line in history if line["split"] == "step"] == [3, 6, 9, 10]


def test_second_process_on_a_run_in_progress_exits_2_naming_the_first(
    stage: Stage, begun: Path
) -> None:
    fate = {"at": in_mid_epoch(stage, 0.1), "signals": ["SIGSTOP"], "delay_s": 0.0}
    first, second = stage.call(begun, "train", fate, meanwhile="train")
    assert second.code == 2
    assert second.words.startswith(f"error: fold 1 of {RUN} is in use by process ")
    assert first.code == 0
    assert outcome(begun, "train", first) == stage.expected["train"]


def test_finished_run_given_again_exits_0_and_changes_no_file(stage: Stage, finished: Path) -> None:
    before = times(finished)
    [call] = stage.call(finished, "train")
    assert call.code == 0
    assert times(finished) == before
    assert "f1_macro" in call.words


def test_other_config_under_the_same_name_exits_2_naming_the_key(
    stage: Stage, finished: Path
) -> None:
    before = times(finished)
    [call] = stage.call(finished, "train", more=("--set", "optimizer.lr=0.001"))
    assert call.code == 2
    assert "was made with another config" in call.words
    assert "optimizer.lr" in call.words
    assert "optimizer.head_lr" not in call.words
    assert times(finished) == before


def test_changed_data_exit_2_naming_it(stage: Stage, unfinished: Path) -> None:
    table = unfinished / "table.csv"
    content = table.read_bytes()
    table.write_bytes(content + b"a new row,c0,1.0,card\n")
    [call] = stage.call(unfinished, "train")
    assert call.code == 2
    assert "the table's bytes have changed" in call.words
    assert hashlib.sha256(content).hexdigest() in call.words
    assert not (unfinished / RUN / "metrics.json").exists()


def test_trained_folds_are_not_trained_again(stage: Stage, unfinished: Path) -> None:
    weights = [unfinished / RUN / f"fold-{number}" / "checkpoints" for number in (1, 2)]
    before = [times(folder) for folder in weights]
    [call] = stage.call(unfinished, "train")
    assert call.code == 0
    assert [times(folder) for folder in weights] == before
    assert outcome(unfinished, "train", call) == stage.expected["train"]


def times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
