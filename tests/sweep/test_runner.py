from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from foldwise.config.load import dump_config
from foldwise.config.schema import Config
from foldwise.places.place import Call
from foldwise.sweep.runner import Outcome, ranked, run_all
from foldwise.sweep.variants import Variant, expand
from made_runs import make_run, noisy

TARGET = np.arange(60) % 3
FOLD = np.arange(60) % 5 + 1


@pytest.fixture
def variants(make_config: Callable[..., Config], tmp_path: Path) -> list[Variant]:
    text = dump_config(make_config(folds={"n": 5})).replace("sweep: null\n", "")
    path = tmp_path / "base.yaml"
    path.write_text(text + "sweep: {grid: {optimizer.lr: [0.1, 0.2, 0.3]}}")
    return expand([path])


class Pretended:
    """A place where runs are made up: finished with a score, or failed where none is given."""

    def __init__(self, variants: list[Variant], right: dict[str, float], room: int = 1) -> None:
        self.variants, self.right, self.room = variants, right, room
        self.started: list[str] = []

    def start(self, call: Call) -> Done:
        (variant,) = (v for v in self.variants if f"run.name={v.name}" in call.arguments)
        self.started.append(variant.name)
        if variant.name not in self.right:
            call.tell("reading")
            call.tell("error: the table is gone")
            return Done(2)
        make_run(variant.config, TARGET, noisy(TARGET, self.right[variant.name], 0), FOLD)
        return Done(0)


class Done:
    def __init__(self, code: int) -> None:
        self.code = code

    def ended(self) -> int:
        return self.code

    def stop(self) -> None: ...

    def wait(self) -> None: ...


def test_a_failure_is_recorded_and_the_rest_goes_on(
    variants: list[Variant], tmp_path: Path
) -> None:
    names = [variant.name for variant in variants]
    seen: list[list[Outcome]] = []
    right = {names[0]: 0.5, names[2]: 0.9}
    folder = tmp_path / "sweep"
    outcomes = run_all(
        variants, folder, lambda now: seen.append(list(now)), Pretended(variants, right)
    )
    assert [o.state for o in outcomes] == ["finished", "failed", "finished"]
    assert outcomes[1].message == "exit code 2: error: the table is gone"
    assert outcomes[0].message.startswith("f1_macro 0.")
    assert [o.state for o in seen[1]] == ["running", "waiting", "waiting"]
    kept = json.loads((folder / "sweep.json").read_text())
    assert [entry["state"] for entry in kept] == ["finished", "failed", "finished"]
    assert [variant.name for variant in ranked(variants)] == [names[2], names[0]]


def test_finished_runs_are_skipped_and_failed_ones_tried_again(
    variants: list[Variant], tmp_path: Path
) -> None:
    names = [variant.name for variant in variants]
    first = Pretended(variants, {names[0]: 0.5})
    run_all(variants, tmp_path / "sweep", lambda now: None, first)
    second = Pretended(variants, {names[1]: 0.6, names[2]: 0.7}, room=2)
    outcomes = run_all(variants, tmp_path / "sweep", lambda now: None, second)
    assert second.started == names[1:]
    assert [o.state for o in outcomes] == ["skipped", "finished", "finished"]
