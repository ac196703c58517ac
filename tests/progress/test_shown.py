"""Without a terminal a training is told in plain lines, with one it is drawn as a bar."""

from __future__ import annotations

import io
import re
from collections.abc import Callable

import pytest
import rich
from rich.console import Console

from foldwise.config.schema import Config
from foldwise.progress import shown
from foldwise.progress.shown import Bar, Lines, rows_shown, show_progress
from foldwise.workflow import cross_validate

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00 "


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that pass only when a test says so."""
    seconds = [0.0]
    monkeypatch.setattr(shown.time, "monotonic", lambda: seconds[0])
    return seconds


def plain(file: io.StringIO) -> list[str]:
    """Return the lines, each of which must begin with its time, without it."""
    lines = file.getvalue().splitlines()
    assert all(re.match(TIME, line) for line in lines), lines
    return [re.sub(TIME, "", line) for line in lines]


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({"force_terminal": True}, Bar),
        ({"force_jupyter": True}, Bar),
        ({}, Lines),
        ({"force_terminal": True, "_environ": {"TERM": "dumb"}}, Lines),
    ],
)
def test_a_bar_is_drawn_only_where_it_can_be(settings: dict[str, object], kind: type) -> None:
    console = Console(file=io.StringIO(), **settings)  # type: ignore[arg-type]
    assert isinstance(show_progress(console, "fold 1", 4), kind)


def test_a_line_comes_once_a_minute_with_step_loss_speed_and_time_left(clock: list[float]) -> None:
    file = io.StringIO()
    shown = show_progress(Console(file=file), "fold 1 of 3", 40, 4, "f1_macro")
    shown.start(0)
    for step in range(1, 21):
        clock[0] += 10
        shown.log_step(1 / step, 1e-3, "55 rows/s")
        shown.advance(step)
    shown.stop()
    assert plain(file) == [
        "fold 1 of 3: starts, 40 steps in 4 epochs",
        "fold 1 of 3: epoch 0.6 of 4, step 6 of 40, loss 0.167, 55 rows/s, 0:05:40 left",
        "fold 1 of 3: epoch 1.2 of 4, step 12 of 40, loss 0.083, 55 rows/s, 0:04:40 left",
        "fold 1 of 3: epoch 1.8 of 4, step 18 of 40, loss 0.056, 55 rows/s, 0:03:40 left",
    ]


def test_time_left_counts_only_the_steps_since_the_training_went_on(clock: list[float]) -> None:
    file = io.StringIO()
    shown = show_progress(Console(file=file), "fold 1 of 3", 40, 4, "f1_macro")
    shown.start(20)
    clock[0] += 100
    shown.advance(30)
    assert plain(file) == [
        "fold 1 of 3: goes on after step 20 of 40 steps in 4 epochs",
        "fold 1 of 3: epoch 3 of 4, step 30 of 40, 0:01:40 left",
    ]


def test_each_evaluation_is_a_line_and_long_lines_stay_whole(clock: list[float]) -> None:
    file = io.StringIO()
    shown = show_progress(Console(file=file, width=40), "fold 1 of 3", 4, 2, "f1_macro")
    shown.start(0)
    clock[0] += 3
    shown.advance(2)
    shown.log_step(0.5, 1e-3, "55 rows/s")
    shown.log_scores(1.0, {"loss": 0.75, "accuracy": 0.1, "f1_macro": 0.5}, True)
    clock[0] += 3
    shown.advance(4)
    shown.log_scores(2.0, {"loss": 0.8, "accuracy": 0.1, "f1_macro": 0.4}, False)
    first, second = plain(file)[1:]
    assert first == (
        "fold 1 of 3: epoch 1 of 2, step 2 of 4, evaluated: f1_macro 0.500, loss 0.750, "
        "best so far, training loss 0.500, 55 rows/s, 0:00:03 left"
    )
    assert second == (
        "fold 1 of 3: epoch 2 of 2, step 4 of 4, evaluated: f1_macro 0.400, loss 0.800, "
        "training loss 0.500, 55 rows/s"
    )


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Callable[..., io.StringIO]:
    """Make rich's own console write to a file, as a command makes it stderr's."""

    def make(**settings: object) -> io.StringIO:
        file = io.StringIO()
        console = Console(**{"file": file, "stderr": True, **settings})  # type: ignore[arg-type]
        monkeypatch.setattr(rich, "get_console", lambda: console)
        return file

    return make


def test_long_work_over_rows_is_told_after_some_seconds_and_once_a_minute(
    clock: list[float], told: Callable[..., io.StringIO]
) -> None:
    file = told()
    with rows_shown("tokenizing", 40_000) as advance:
        for done in range(2_000, 40_001, 2_000):
            clock[0] += 4
            advance(done)
    assert plain(file) == [
        "tokenizing: row 4,000 of 40,000, 0:01:12 left",
        "tokenizing: row 34,000 of 40,000, 0:00:12 left",
    ]


@pytest.mark.parametrize(
    ("seconds", "title", "settings"),
    [
        (0.2, "tokenizing", {}),
        (90, None, {}),
        (90, "tokenizing", {"quiet": True}),
        (90, "tokenizing", {"stderr": False}),
        (0.2, "tokenizing", {"force_terminal": True}),
    ],
    ids=["quick", "no title", "quiet", "a script's", "quick, on a terminal"],
)
def test_what_is_quick_or_nobody_s_business_shows_nothing(
    clock: list[float],
    told: Callable[..., io.StringIO],
    seconds: float,
    title: str | None,
    settings: dict[str, object],
) -> None:
    file = told(**settings)
    with rows_shown(title, 40) as advance:
        for done in range(1, 21):
            clock[0] += seconds
            advance(done)
    assert file.getvalue() == ""


def test_long_work_over_rows_is_a_bar_on_a_terminal_that_goes(
    clock: list[float], told: Callable[..., io.StringIO]
) -> None:
    file = told(force_terminal=True, width=80, _environ={"TERM": "xterm"})
    with rows_shown("tokenizing", 40) as advance:
        clock[0] += 4
        advance(10)
        assert file.getvalue() == ""
        clock[0] += 4
        advance(20)
        assert "tokenizing" in file.getvalue()
    assert file.getvalue().endswith("\x1b[2K")


def test_a_run_s_file_has_lines_and_each_fold_s_score_and_a_terminal_keeps_the_scores(
    make_config: Callable[..., Config],
) -> None:
    file, screen = io.StringIO(), io.StringIO()
    config = make_config(folds={"n": 3, "run": [1, 3]}, training={"epochs": 1})
    cross_validate(config, [1], Console(file=file, width=60))
    told = [line for line in file.getvalue().splitlines() if re.match(TIME, line)]
    assert [re.sub(TIME, "", line).split(",")[0] for line in told[:2]] == [
        "fold 1 of 3: starts",
        "fold 1 of 3: epoch 1 of 1",
    ]
    fold = r"fold {} of 3: f1_macro [01]\.\d{{3}}, best epoch 1 of 1, \d+ s"
    assert re.fullmatch(TIME + fold.format(1), told[-1])
    cross_validate(config, None, Console(file=screen, force_terminal=True, color_system=None))
    for number in (1, 3):
        assert re.search(f"{fold.format(number)}$", screen.getvalue(), re.M)
