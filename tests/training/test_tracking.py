"""metrics.jsonl, TensorBoard and the bar hold each step once, with the numbers of the loop."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from foldwise.progress.shown import Bar, show_progress
from foldwise.run.history import read_history
from foldwise.training.tracking import NumberTracker, TensorBoard, Tracker


class Told:
    """A tracker that notes what it is told, and fails on request."""

    def __init__(self, step: int = 0, failing: str = "") -> None:
        self.since, self.failing, self.closed = step, failing, 0
        self.numbers: list[tuple[int, dict[str, float], str]] = []

    def log(self, step: int, values: dict[str, float], split: str) -> None:
        if self.failing == "log":
            raise ConnectionError("no route")
        self.numbers.append((step, values, split))

    def close(self) -> None:
        if self.failing == "close":
            raise OSError("gone")
        self.closed += 1


def tracker(folder: Path, console: Console | None = None, **options: object) -> Tracker:
    defaults = {"opening": None, "sizes": None}
    shown = show_progress(console, "fold 1 of 3", 4, 2, "f1_macro")
    return Tracker(folder / "metrics.jsonl", shown=shown, **{**defaults, **options})


def test_lines_hold_what_the_loop_has(tmp_path: Path) -> None:
    track = tracker(tmp_path)
    track.start(0)
    track.log_step(1, 0.5, 0.7, 1e-3, 2.0)
    scores = {"training": {"loss": 0.4}, "validation": {"loss": 0.5, "f1_macro": 0.8}}
    track.log_scores(2, 1.0, scores, improved=True)
    track.finish()
    assert read_history(track.history) == [
        {"split": "step", "step": 1, "epoch": 0.5, "loss": 0.7, "lr": 1e-3, "grad_norm": 2.0},
        {"split": "training", "step": 2, "epoch": 1.0, "loss": 0.4},
        {
            "split": "validation",
            "step": 2,
            "epoch": 1.0,
            "loss": 0.5,
            "f1_macro": 0.8,
            "best": True,
        },
    ]


def test_number_that_is_not_finite_is_null(tmp_path: Path) -> None:
    track = tracker(tmp_path)
    track.start(0)
    track.log_scores(1, 1.0, {"validation": {"loss": float("nan")}}, improved=False)
    assert "NaN" not in track.history.read_text()
    assert read_history(track.history)[0]["loss"] is None


def test_start_drops_what_was_logged_past_the_checkpoint_and_half_a_line(tmp_path: Path) -> None:
    first = tracker(tmp_path)
    first.start(0)
    for step in (1, 2, 3):
        first.log_step(step, step / 4, 1 / 3, 1e-3, 1.0)
    whole = first.history.read_bytes()
    with first.history.open("a") as file:
        file.write('{"split": "step", "st')
    again = tracker(tmp_path)
    again.start(2)
    assert [line["step"] for line in read_history(again.history)] == [1, 2]
    again.log_step(3, 3 / 4, 1 / 3, 1e-3, 1.0)
    assert again.history.read_bytes() == whole


def test_absent_history_is_empty(tmp_path: Path) -> None:
    assert read_history(tmp_path / "metrics.jsonl") == []


@pytest.mark.parametrize(("sizes", "unit"), [(None, "rows"), (np.array([3, 5, 7]), "tokens")])
def test_tensorboard_has_losses_scores_and_speed(
    tmp_path: Path, sizes: np.ndarray | None, unit: str
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def opening(step: int) -> list[NumberTracker]:
        return [TensorBoard(tmp_path / "tb", step)]

    track = tracker(tmp_path, opening=opening, sizes=sizes)
    track.start(0)
    track.advance(1, [np.array([0, 2])])
    assert track.seen == (2 if sizes is None else 10)
    track.log_step(1, 0.5, 0.75, 1e-3, 2.0)
    track.log_scores(1, 0.5, {"validation": {"f1_macro": 0.5}}, improved=True)
    track.finish()
    events = EventAccumulator(str(tmp_path / "tb")).Reload()
    tags = {"step/loss", "step/lr", "step/grad_norm", f"step/{unit}_per_s", "validation/f1_macro"}
    assert set(events.Tags()["scalars"]) == tags
    assert [(e.step, e.value) for e in events.Scalars("step/loss")] == [(1, 0.75)]


def test_a_tracker_is_told_steps_and_scores_by_split(tmp_path: Path) -> None:
    told = Told()
    track = tracker(tmp_path, opening=lambda step: [told])
    track.start(0)
    track.log_step(1, 0.5, 0.75, 1e-3, 2.0)
    track.log_scores(2, 1.0, {"training": {"loss": 0.4}, "validation": {"f1": 0.5}}, improved=True)
    track.finish()
    (step, values, split), *scores = told.numbers
    assert values.pop("rows_per_s") >= 0
    assert (step, values, split) == (1, {"loss": 0.75, "lr": 1e-3, "grad_norm": 2.0}, "step")
    assert scores == [(2, {"loss": 0.4}, "training"), (2, {"f1": 0.5}, "validation")]
    assert told.closed == 1


def test_a_tracker_is_told_the_step_it_goes_on_after(tmp_path: Path) -> None:
    track = tracker(tmp_path, opening=lambda step: [Told(step)])
    track.start(7)
    (told,) = track.trackers
    assert isinstance(told, Told)
    assert told.since == 7


@pytest.mark.parametrize(
    ("failing", "error"), [("log", "ConnectionError: no route"), ("close", "OSError: gone")]
)
def test_a_tracker_that_fails_costs_neither_the_training_nor_the_others(
    tmp_path: Path, failing: str, error: str
) -> None:
    bad, good = Told(failing=failing), Told()
    track = tracker(tmp_path, opening=lambda step: [bad, good])
    track.start(0)

    def train() -> None:
        track.log_step(1, 0.5, 0.75, 1e-3, 2.0)
        track.log_step(2, 1.0, 0.70, 1e-3, 2.0)
        track.finish()

    with pytest.warns(UserWarning, match=rf"Told\.{failing} fails \({error}\)") as warned:
        train()
    assert len(warned) == 1  # and then it is left alone
    assert [step for step, _, _ in good.numbers] == [1, 2]
    assert good.closed == 1
    assert [line["step"] for line in read_history(track.history)] == [1, 2]


def test_bar_shows_fold_steps_and_loss(tmp_path: Path) -> None:
    screen = io.StringIO()
    track = tracker(tmp_path, console=Console(file=screen, force_terminal=True, width=120))
    track.start(1)
    track.advance(2, [np.array([0])])
    track.log_step(2, 0.5, 0.7312, 1e-3, 2.0)
    assert isinstance(track.shown, Bar)
    track.shown.bar.refresh()
    track.finish()
    assert "fold 1" in screen.getvalue()
    assert "2/4" in screen.getvalue()
    assert "loss 0.731" in screen.getvalue()
