"""What was begun is finished: the same command after any end does what is left, and no more."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from foldwise.config.load import dump_config
from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError, RunInterrupted
from foldwise.predictor import Predictor
from foldwise.run import checkpoints
from foldwise.run.files import write_text
from foldwise.run.folder import RunFolder
from foldwise.run.readers import read_json
from foldwise.workflow import cross_validate

SAME = ("oof.parquet", "metrics.json", "folds.parquet", "classes.json")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, backbone: Path, table_path: Path) -> Config:
    folder = tmp_path_factory.mktemp("finish")
    values: dict[str, Any] = {
        "run": {"name": "whole", "dir": str(folder / "runs"), "seed": 7},
        "data": {"path": str(table_path), "target": "label", "text": ["text"]},
        "folds": {"n": 2, "duplicates": "identical"},
        "selection": {"rows": "inner"},
        "text": {"max_length": 16},
        "model": {"backbone": str(backbone)},
        "optimizer": {"lr": 3e-3, "head_lr": 1e-2},
        "training": {"epochs": 2, "batch_size": 8, "device": "cpu", "precision": "float32"},
        "trackers": [],
        "baselines": False,
        "ensemble": "model",
    }
    return Config.model_validate(values)


@pytest.fixture(scope="module")
def whole(config: Config) -> RunFolder:
    return cross_validate(config)


@pytest.fixture
def copy(whole: RunFolder, config: Config, tmp_path: Path) -> tuple[RunFolder, Config]:
    """The finished run elsewhere, and the config that goes on with it there."""
    shutil.copytree(whole.path, tmp_path / "runs" / "whole")
    run = config.run.model_copy(update={"dir": str(tmp_path / "runs")})
    return RunFolder(tmp_path / "runs" / "whole"), config.model_copy(update={"run": run})


def times(run: RunFolder) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in run.path.rglob("*")}


def assert_same(run: RunFolder, whole: RunFolder) -> None:
    for name in SAME:
        assert (run.path / name).read_bytes() == (whole.path / name).read_bytes(), name
    for number in (1, 2):
        left, right = (checkpoints.pointed(r.fold(number)) for r in (run, whole))
        assert left.name == right.name
        name = "model.safetensors"
        assert (left / name).read_bytes() == (right / name).read_bytes()


def test_killed_before_its_report_the_same_command_draws_it_and_nothing_else(
    copy: tuple[RunFolder, Config],
) -> None:
    run, config = copy
    run.report.unlink()
    (run.path / ".report.html.999999999.tmp").write_text("half")
    before = times(run)
    cross_validate(config)
    assert run.report.read_text(encoding="utf-8").count("<h2") > 5
    after = times(run)
    changed = {p.name for p in {*before, *after} if before.get(p) != after.get(p)}
    assert changed == {"report.html", ".lock", ".report.html.999999999.tmp"}


def test_finished_run_is_told_from_the_disk_alone_in_a_blink(
    copy: tuple[RunFolder, Config], tmp_path: Path
) -> None:
    run, config = copy
    write_text(tmp_path / "config.yaml", dump_config(config))
    before = times(run)
    program = (
        "import sys; sys.argv = ['foldwise', 'train', 'config.yaml']\n"
        "from foldwise.cli import main\n"
        "try: main()\n"
        "finally: print([n for n in ('torch', 'transformers', 'sklearn', 'polars', 'numpy')"
        " if n in sys.modules], file=sys.stderr)"
    )
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    then = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert then.ru_utime + then.ru_stime - used.ru_utime - used.ru_stime < 3  # of the processor
    assert done.stderr == "[]\n"
    assert "f1_macro" in done.stdout
    assert times(run) == before


def test_a_finished_fold_keeps_its_best_weights_and_no_optimizer_state(whole: RunFolder) -> None:
    for number in (1, 2):
        fold = whole.fold(number)
        (folder,) = fold.checkpoints.iterdir()
        assert folder == checkpoints.pointed(fold)
        names = {path.name for path in folder.iterdir()}
        assert names == {"model.safetensors", "state.json", "manifest.json"}
        assert checkpoints.pointed(fold, "last") == folder


def test_kill_between_the_end_of_training_and_the_deletion_is_completed(
    config: Config, whole: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    run = config.run.model_copy(update={"dir": str(tmp_path)})
    moved = config.model_copy(update={"run": run})
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "settle", killed)
        with pytest.raises(Killed):
            cross_validate(moved)
    fold = RunFolder(tmp_path / "whole").fold(1)
    assert fold.trained.exists()
    assert fold.last.exists()
    stamp = fold.trained.stat().st_mtime_ns
    (fold.path / ".predictions.parquet.999999999.tmp").write_text("half")
    assert_same(cross_validate(moved), whole)
    assert fold.trained.stat().st_mtime_ns == stamp
    assert checkpoints.pointed(fold, "last") == checkpoints.pointed(fold)
    assert len(list(fold.checkpoints.iterdir())) == 1
    assert not (fold.path / ".predictions.parquet.999999999.tmp").exists()


def test_best_pointer_that_is_gone_is_found_again_and_a_flipped_one_refused(
    copy: tuple[RunFolder, Config],
) -> None:
    run, _ = copy
    best = run.fold(1).best
    content = best.read_text()
    best.unlink()
    Predictor(run.path)
    step = read_json(run.fold(2).best)["step"]
    best.write_text(content.replace(f"{step:06d}", f"{step + 1:06d}"))
    with pytest.raises(
        FoldwiseError, match=r"^\S+fold-1/best\.json: has changed since it was sealed"
    ):
        Predictor(run.path)


def test_fold_with_damaged_best_weights_comes_back_as_the_message_says(
    copy: tuple[RunFolder, Config], whole: RunFolder
) -> None:
    run, config = copy
    path = checkpoints.pointed(run.fold(2)) / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(FoldwiseError, match=f"or remove {run.fold(2).path} and give the train "):
        Predictor(run.path)
    kept = run.fold(1).trained.stat().st_mtime_ns
    shutil.rmtree(run.fold(2).path)
    assert_same(cross_validate(config), whole)
    assert run.fold(1).trained.stat().st_mtime_ns == kept
    assert [e["folds"] for e in run.events() if e["event"] == "reopened"] == [[2]]


def test_training_json_that_is_gone_is_named_and_nothing_is_trained(
    copy: tuple[RunFolder, Config],
) -> None:
    run, config = copy
    run.fold(1).trained.unlink()
    with pytest.raises(FoldwiseError, match=r"fold-1/training\.json is gone, though"):
        cross_validate(config)
    checkpoints.load_best(run.fold(1))


def test_training_is_not_begun_where_it_cannot_end(
    config: Config, whole: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = config.model_copy(
        update={"run": config.run.model_copy(update={"dir": str(tmp_path / "runs")})}
    )
    asked: list[Path] = []

    def little(path: Path) -> int:
        asked.append(path)
        return 1_000

    with monkeypatch.context() as patch:
        patch.setattr("foldwise.training.fold.free_bytes", little)
        patch.setattr("foldwise.run.space.free_bytes", little)
        with pytest.raises(RunInterrupted) as stopped:
            cross_validate(moved)
    fold = RunFolder(tmp_path / "runs" / "whole").fold(1)
    events = whole.events()
    size = next(event for event in events if event["event"] == "training starts")
    need = 3 * (2 * size["checkpoint_bytes"] + size["state_bytes"]) + size["checkpoint_bytes"]
    assert str(stopped.value) == (
        f"fold 1 isn't begun: {fold.path}: no space left on the disk: {need:,} bytes are needed, "
        "1,000 bytes are free; free some and give the same command again"
    )
    assert set(asked) == {fold.path}
    assert not fold.checkpoints.exists()
    whole_bytes = sum(f.stat().st_size for f in whole.fold(1).checkpoints.rglob("*.safetensors"))
    assert size["checkpoint_bytes"] == pytest.approx(whole_bytes, rel=0.05)
    assert_same(cross_validate(moved), whole)
