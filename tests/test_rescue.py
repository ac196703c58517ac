"""A fold that stopped on a loss that isn't finite goes on by another rate, and it is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foldwise.config.load import load_config
from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError, RunInterrupted
from foldwise.run import checkpoints
from foldwise.run.folder import RunFolder
from foldwise.run.history import read_history
from foldwise.run.lock import lock
from foldwise.training.schedules import factor
from foldwise.workflow import cross_validate

FRAGILE = """
import os
from torch import nn

class Fragile(nn.CrossEntropyLoss):
    def __init__(self):
        super().__init__(reduction="none")
        self.steps = 0
    def forward(self, logits, target):
        loss = super().forward(logits, target)
        if logits.requires_grad:
            self.steps += 1
        broken = logits.requires_grad and self.steps == int(os.environ.get("BREAK_AT", 0))
        return loss * float("nan") if broken else loss
"""
CHANGES = ["optimizer.lr: 0.003 -> 0.001", "training.clip: 1.0 -> 0.5"]


@pytest.fixture
def fragile(backbone: Path, table_path: Path, tmp_path: Path) -> Callable[..., Config]:
    """A run whose sixth loss isn't a number, as long as BREAK_AT says so; saved at every step."""
    (tmp_path / "my_parts.py").write_text(FRAGILE)

    def make(name: str, lr: float = 3e-3, clip: float = 1.0, **others: Any) -> Config:
        values: dict[str, Any] = {
            "run": {"name": name, "dir": str(tmp_path / "runs"), "seed": 7},
            "code": [str(tmp_path / "my_parts.py")],
            "data": {"path": str(table_path), "target": "label", "text": ["text"]},
            "folds": {"n": 2, "duplicates": "identical"},
            "selection": {"rows": "inner"},
            "text": {"max_length": 16},
            "model": {"backbone": str(backbone)},
            "loss": {"name": "my_parts.Fragile", "class_weights": "none"},
            "optimizer": {"lr": lr, "head_lr": 1e-2},
            "training": {
                "epochs": 2,
                "batch_size": 8,
                "device": "cpu",
                "precision": "float32",
                "save_minutes": 0,
                "clip": clip,
                "log_every": 1,
            },
            "trackers": [],
            "baselines": False,
            "ensemble": "model",
            **others,
        }
        return Config.model_validate(values)

    return make


def stop(config: Config, monkeypatch: pytest.MonkeyPatch, at: int = 6) -> RunFolder:
    with monkeypatch.context() as patch:
        patch.setenv("BREAK_AT", str(at))
        with pytest.raises(
            RunInterrupted, match=r"step 6: the loss is nan .* --set optimizer\.lr="
        ):
            cross_validate(config, only=[1])
    return RunFolder(Path(config.run.dir) / config.run.name)


class Killed(BaseException):
    """Like a kill: no handler may turn it into something else."""


def kill_after(config: Config, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    save = checkpoints.save

    def dying(fold: Any, checkpoint: checkpoints.Checkpoint, **named: Any) -> None:
        save(fold, checkpoint, **named)
        if checkpoint.step == step:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", dying)
        with pytest.raises(Killed):
            cross_validate(config)


def rates(run: RunFolder) -> list[float]:
    return [x["lr"] for x in read_history(run.fold(1).history) if x["split"] == "step"]


def test_a_stopped_fold_goes_on_by_another_rate_and_every_file_says_so(
    fragile: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = stop(fragile("a"), monkeypatch)
    assert read_history(run.fold(1).history)[-1]["loss"] is None
    (stopped,) = [e for e in run.events() if e["event"] == "not finite"]
    assert (stopped["step"], stopped["loss"], stopped["grad_norm"]) == (6, "nan", "nan")

    rescued = fragile("a", lr=1e-3, clip=0.5)
    kill_after(rescued, 7, monkeypatch)
    # The second interruption: what runs is what config.yaml says, and nothing else goes on.
    assert load_config(run.config).optimizer.lr == 1e-3
    with pytest.raises(FoldwiseError, match=r"another config; .* optimizer\.lr: 0\.001 -> 0\.003"):
        cross_validate(fragile("a"))
    cross_validate(rescued)

    (changed,) = [e for e in run.events() if e["event"] == "config changed"]
    assert changed["changes"] == CHANGES
    assert changed["after_step"] == {"1": 5, "2": 0}
    told = f"Changed after step 5 of fold 1, step 0 of fold 2: {'; '.join(CHANGES)}"
    assert run.config.read_text("utf-8").splitlines()[0] == f"# {told}"
    assert told.replace(">", "&gt;") in run.report.read_text("utf-8")
    steps = [x for x in read_history(run.fold(1).history) if x["split"] == "step"]
    assert [line["step"] for line in steps] == list(range(1, len(steps) + 1))
    assert None not in [line["loss"] for line in steps]
    # The head's rate stands; the cosine goes on where it was, under another peak.
    curve = factor("cosine", 0.1, len(steps))
    assert rates(run) == pytest.approx([1e-2 * curve(step + 1) for step in range(len(steps))])


def test_a_rescued_fold_ends_with_the_same_bytes_however_often_it_is_killed(
    fragile: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []
    for name, kills in (("a", ()), ("b", (6, 8))):
        stop(fragile(name), monkeypatch)
        rescued = fragile(name, lr=1e-3)
        for step in kills:
            kill_after(rescued, step, monkeypatch)
        runs.append(cross_validate(rescued))
    plain = cross_validate(fragile("c"))
    a, b, c = (
        (checkpoints.pointed(r.fold(1)) / "model.safetensors").read_bytes() for r in (*runs, plain)
    )
    assert a == b
    assert a != c
    assert runs[0].out_of_fold.read_bytes() == runs[1].out_of_fold.read_bytes()
    assert runs[0].fold(1).history.read_bytes() == runs[1].fold(1).history.read_bytes()


def test_another_schedule_takes_over_at_the_step_it_would_be_at(
    fragile: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = stop(fragile("a", optimizer={"lr": 3e-3, "head_lr": None}), monkeypatch)
    before = rates(run)[:5]
    cross_validate(
        fragile("a", optimizer={"lr": 3e-3, "head_lr": None}, schedule={"name": "linear"})
    )
    after = rates(run)
    curve = factor("linear", 0.1, len(after))
    assert after[:5] == before
    assert after[5:] == pytest.approx([3e-3 * curve(step + 1) for step in range(5, len(after))])


@pytest.mark.parametrize(
    "others",
    [
        {"optimizer": {"lr": 1e-3, "head_lr": 1e-2, "weight_decay": 0.1}},
        {"text": {"max_length": 12}},
        {"run": {"name": "a", "seed": 8}},
    ],
)
def test_nothing_else_may_change(
    fragile: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, others: dict[str, Any]
) -> None:
    run = stop(fragile("a"), monkeypatch)
    if "run" in others:
        others["run"]["dir"] = str(run.path.parent)
    before = run.config.read_bytes()
    with pytest.raises(FoldwiseError, match="was made with another config"):
        cross_validate(fragile("a", **others))
    assert run.config.read_bytes() == before


def test_a_run_that_was_only_killed_is_not_changed(
    fragile: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_after(fragile("a"), 3, monkeypatch)
    with pytest.raises(FoldwiseError, match="was made with another config"):
        cross_validate(fragile("a", lr=1e-3))


def test_killed_between_the_log_and_the_config_the_same_change_is_completed(
    fragile: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = stop(fragile("a"), monkeypatch)
    with monkeypatch.context() as patch:

        def dies(*_: object) -> None:
            raise Killed

        patch.setattr("foldwise.preparation.ownership.replace", dies)
        with pytest.raises(Killed):
            cross_validate(fragile("a", lr=1e-3))
    with pytest.raises(FoldwiseError, match="was made with another config"):
        cross_validate(fragile("a", lr=2e-3))
    kill_after(fragile("a", lr=1e-3), 6, monkeypatch)
    assert load_config(run.config).optimizer.lr == 1e-3
    assert [e["event"] for e in run.events()].count("config changed") == 1


def test_no_config_is_changed_under_another_process_at_work_on_the_run(
    fragile: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = stop(fragile("a"), monkeypatch)
    before = run.config.read_bytes()
    with (
        lock(run.fold(2).path / ".lock", "fold 2"),
        pytest.raises(FoldwiseError, match=r"^fold 2 of \S+ is in use by process"),
    ):
        cross_validate(fragile("a", lr=1e-3), only=[1])
    assert run.config.read_bytes() == before
