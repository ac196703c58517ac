"""A real `foldwise train` process, interrupted again and again, ends as if nothing had happened."""

from __future__ import annotations

import hashlib
import io
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from conftest import PRECISION
from foldwise import cli
from foldwise.config.load import dump_config
from foldwise.config.schema import Config
from foldwise.run import checkpoints
from foldwise.run.files import write_text
from foldwise.run.folder import FoldFolder, RunFolder
from foldwise.run.history import read_history
from foldwise.workflow import cross_validate

# SIGINT is ignored where the tests themselves run in a shell's background; a terminal's isn't.
START = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    "from foldwise.cli import main; main()"
)
PATIENCE_S = 180


@dataclass
class Story:
    """What happened to the interrupted run."""

    whole: RunFolder
    cut: RunFolder
    config: Path
    codes: dict[str, int] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)
    process: int = 0


def start(config: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", START, "train", str(config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_step(process: subprocess.Popen[str], fold: FoldFolder, step: int) -> None:
    """Wait until a fold has saved a step; that is a mark on the disk, not a guess at a duration."""
    deadline = time.monotonic() + PATIENCE_S
    while max(checkpoints.steps(fold), default=0) < step:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.002)


def command(*words: str) -> tuple[int, str]:
    """Give a command in this process, which has everything imported already.

    Returns:
        Its exit code, and what it printed.
    """
    printed = io.StringIO()
    before = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed), redirect_stderr(printed):
        patch.setattr(sys, "argv", ["foldwise", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    signal.signal(signal.SIGTERM, before)
    return ended.value.code or 0, printed.getvalue()


def sha256_of(run: RunFolder, number: int) -> dict[str, str]:
    fold = run.fold(number)
    return {
        which: hashlib.sha256(
            (checkpoints.pointed(fold, which) / "model.safetensors").read_bytes()
        ).hexdigest()
        for which in ("best", "last")
    }


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, backbone: Path, table_path: Path) -> Story:
    """One run in one go; another stopped by SIGTERM, SIGINT and SIGKILL, each in mid-epoch."""
    folder = tmp_path_factory.mktemp("resume")
    table = folder / "table.csv"
    table.write_bytes(table_path.read_bytes())

    def config(name: str) -> Config:
        values: dict[str, Any] = {
            "run": {"name": name, "dir": str(folder / "runs"), "seed": 7},
            "data": {"path": str(table), "target": "label", "text": ["text"]},
            "folds": {"n": 2, "duplicates": "identical"},
            "text": {"max_length": 16},
            "model": {"backbone": str(backbone)},
            "optimizer": {"lr": 3e-3, "head_lr": 1e-2},
            "training": {
                "epochs": 2,
                "batch_size": 2,
                "device": "cpu",
                "precision": PRECISION,
                "save_minutes": 0,
                "log_every": 3,
            },
            "trackers": [],
            "baselines": False,
        }
        return Config.model_validate(values)

    write_text(folder / "cut.yaml", dump_config(config("cut")))
    story = Story(
        cross_validate(config("whole")), RunFolder(folder / "runs" / "cut"), folder / "cut.yaml"
    )
    # 20 steps an epoch; each process dies in the middle of one.
    for number, fold, step in (
        (signal.SIGTERM, 1, 5),
        (signal.SIGINT, 1, 28),
        (signal.SIGKILL, 2, 8),
    ):
        process = start(story.config)
        wait_for_step(process, story.cut.fold(fold), step)
        if number == signal.SIGTERM:
            process.send_signal(signal.SIGSTOP)  # so that it can't finish meanwhile
            story.codes["second"], story.words["second"] = command("train", str(story.config))
            story.process = process.pid
        process.send_signal(number)
        process.send_signal(signal.SIGCONT)
        words, errors = process.communicate(timeout=PATIENCE_S)
        name = signal.Signals(number).name
        story.codes[name], story.words[name] = process.returncode, words + errors
        story.steps[name] = max(checkpoints.steps(story.cut.fold(fold)))
    story.codes["end"], story.words["end"] = command("train", str(story.config))
    return story


def test_signals_end_in_their_exit_codes_in_mid_epoch(story: Story) -> None:
    codes = {name: story.codes[name] for name in ("SIGTERM", "SIGINT", "SIGKILL", "end")}
    assert codes == {"SIGTERM": 143, "SIGINT": 130, "SIGKILL": -9, "end": 0}
    assert 5 <= story.steps["SIGTERM"] < 20
    assert 28 <= story.steps["SIGINT"] < 40
    assert 8 <= story.steps["SIGKILL"] < 20


def test_no_interruption_prints_a_traceback(story: Story) -> None:
    assert [name for name, words in story.words.items() if "Traceback" in words] == []


def test_interrupted_run_ends_with_the_same_bytes(story: Story) -> None:
    cut, whole = story.cut, story.whole
    assert cut.out_of_fold.read_bytes() == whole.out_of_fold.read_bytes()
    assert cut.metrics.read_bytes() == whole.metrics.read_bytes()
    assert cut.folds.read_bytes() == whole.folds.read_bytes()
    for number in (1, 2):
        assert sha256_of(cut, number) == sha256_of(whole, number)
        assert cut.fold(number).history.read_bytes() == whole.fold(number).history.read_bytes()
        logged = [x["step"] for x in read_history(cut.fold(number).history) if x["split"] == "step"]
        assert logged == [*range(3, 40, 3), 40]


def test_second_process_on_a_run_in_progress_exits_2_naming_the_first(story: Story) -> None:
    assert story.codes["second"] == 2
    expected = f"error: fold 1 of {story.cut.path} is in use by process {story.process} on "
    assert story.words["second"].startswith(expected)


def test_finished_run_given_again_exits_0_and_changes_no_file(story: Story) -> None:
    before = {path: path.stat().st_mtime_ns for path in story.cut.path.rglob("*")}
    code, words = command("train", str(story.config))
    assert code == 0
    assert {path: path.stat().st_mtime_ns for path in story.cut.path.rglob("*")} == before
    assert "f1_macro" in words


def test_other_config_under_the_same_name_exits_2_naming_the_key(story: Story) -> None:
    before = story.cut.config.read_bytes()
    code, words = command("train", str(story.config), "--set", "optimizer.lr=0.001")
    assert code == 2
    assert "was made with another config" in words
    assert "optimizer.lr" in words
    assert "optimizer.head_lr" not in words
    assert story.cut.config.read_bytes() == before


@pytest.fixture
def unfinished(story: Story) -> Iterator[None]:
    """The same run as it is before its scores are summed up."""
    aside = story.cut.path / "aside.json"
    story.cut.metrics.rename(aside)
    yield
    story.cut.metrics.unlink(missing_ok=True)
    aside.rename(story.cut.metrics)


@pytest.mark.usefixtures("unfinished")
def test_changed_data_exit_2_naming_it(story: Story) -> None:
    table = story.config.parent / "table.csv"
    content = table.read_bytes()
    table.write_bytes(content + b"a new row,c0,1.0,card\n")
    try:
        code, words = command("train", str(story.config))
    finally:
        table.write_bytes(content)
    assert code == 2
    assert "the table's bytes have changed" in words
    assert hashlib.sha256(content).hexdigest() in words
    assert not story.cut.metrics.exists()


@pytest.mark.usefixtures("unfinished")
def test_trained_folds_are_not_trained_again(story: Story) -> None:
    folds = [story.cut.fold(number) for number in (1, 2)]
    before = [[path.stat().st_mtime_ns for path in fold.checkpoints.rglob("*")] for fold in folds]
    assert command("train", str(story.config))[0] == 0
    after = [[path.stat().st_mtime_ns for path in fold.checkpoints.rglob("*")] for fold in folds]
    assert after == before
    assert story.cut.metrics.read_bytes() == story.whole.metrics.read_bytes()


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_with_the_same_bytes(story: Story) -> None:
    """SIGKILL after any time at all: while importing, tokenizing, training, saving or scoring."""
    text = story.config.read_text(encoding="utf-8").replace("name: cut", "name: hunted")
    config = story.config.with_name("hunted.yaml")
    write_text(config, text)
    hunted = RunFolder(story.cut.path.with_name("hunted"))
    draw = random.Random(1)
    kills = 0
    for _ in range(40):
        process = start(config)
        try:
            process.communicate(timeout=draw.uniform(3, 15))
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
    assert kills >= 3
    assert command("train", str(config))[0] == 0
    assert hunted.out_of_fold.read_bytes() == story.whole.out_of_fold.read_bytes()
    assert hunted.metrics.read_bytes() == story.whole.metrics.read_bytes()
    for number in (1, 2):
        assert sha256_of(hunted, number) == sha256_of(story.whole, number)
