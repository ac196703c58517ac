from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.trial import TrialState

from foldwise.config.load import dump_config
from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError
from foldwise.sweep.tuning import Folds, search
from foldwise.sweep.variants import Variant

BEST = 3e-3


@pytest.fixture
def path(make_config: Callable[..., Config], tmp_path: Path) -> Path:
    text = dump_config(make_config(folds={"n": 4})).replace("sweep: null\n", "")
    made = tmp_path / "base.yaml"
    space = "{optimizer.lr: {low: 1.0e-5, high: 1.0, log: true}, model.pooling: [mean, cls]}"
    made.write_text(f"{text}sweep: {{random: {space}, trials: 25, seed: 3}}\n")
    return made


def valley(variant: Variant, number: int) -> float:
    """A made-up score with one best rate, and folds that differ a little."""
    rate = variant.config.optimizer.rate
    return 1 - abs(float(np.log10(rate / BEST))) / 5 + 0.01 * number


def each(fold: Callable[[Variant, int], float]) -> Folds:
    """Do folds one after the other."""

    def one(variant: Variant, number: int) -> float | Exception:
        try:
            return fold(variant, number)
        except FoldwiseError as error:
            return error

    return lambda asked: [one(variant, number) for variant, number in asked]


def test_the_search_finds_the_best_rate_and_gives_up_early(path: Path) -> None:
    folds: list[int] = []

    def fold(variant: Variant, number: int) -> float:
        folds.append(number)
        return valley(variant, number)

    study = search(path, [], True, each(fold), lambda line: None)
    assert len(study.trials) == 25
    states = [trial.state for trial in study.trials]
    assert states.count(TrialState.PRUNED) >= 3
    assert len(folds) < 25 * 4  # what was given up was not trained to the end
    assert abs(np.log10(study.best_params["optimizer.lr"] / BEST)) < 0.5
    assert study.best_trial.user_attrs["run"].startswith(str(path.parent))


def test_it_goes_on_where_it_was_stopped(path: Path) -> None:
    names: list[str] = []

    def stopped(variant: Variant, number: int) -> float:
        if len(names) >= 6 and number == 2:
            raise KeyboardInterrupt
        if number == 1:
            names.append(variant.name)
        return valley(variant, number)

    with pytest.raises(KeyboardInterrupt):
        search(path, [], True, each(stopped), lambda line: None)
    cut = names[-1]
    resumed: list[str] = []

    def fold(variant: Variant, number: int) -> float:
        if number == 1:
            resumed.append(variant.name)
        return valley(variant, number)

    study = search(path, [], True, each(fold), lambda line: None)
    assert resumed[0] == cut  # the run that was cut off is continued
    assert len(set(names) | set(resumed)) >= 20
    ended = [t for t in study.trials if t.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    assert len(ended) == 25
    search(path, [], True, each(fold), lambda line: pytest.fail("nothing is left to do"))


def test_a_failed_trial_counts_and_the_rest_go_on(path: Path) -> None:
    said: list[str] = []

    def fold(variant: Variant, number: int) -> float:
        if variant.config.model.pooling.name == "cls":
            raise FoldwiseError("no such thing")
        return valley(variant, number)

    study = search(path, ["sweep.trials=8"], True, each(fold), said.append)
    failed = [t for t in study.trials if t.state == TrialState.FAIL]
    assert 0 < len(failed) < 8
    assert len(study.trials) == 8
    assert failed[0].user_attrs["error"] == "no such thing"
    assert any("failed: no such thing" in line for line in said)


def test_a_grid_is_not_searched(path: Path) -> None:
    grid = ["sweep.random=null", "sweep.grid={optimizer.lr: [0.1]}"]
    with pytest.raises(FoldwiseError, match="tune needs a section sweep with random"):
        search(path, grid, True, each(valley), print)


def test_rounds_hang_on_how_many_there_are_and_not_on_which_is_done_first(
    path: Path,
) -> None:
    together: list[int] = []

    def shuffled(asked: Sequence[tuple[Variant, int]]) -> list[float | Exception]:
        together.append(len(asked))
        scores = {v.name: valley(v, n) for v, n in reversed(asked)}
        return [scores[variant.name] for variant, _ in asked]

    def tried(name: str, folds: Folds, at_once: int) -> list[Any]:
        settings = ["sweep.trials=14", f"run.name={name}"]
        study = search(path, settings, True, folds, lambda line: None, at_once)
        return [(trial.params, trial.state, trial.value) for trial in study.trials]

    assert tried("a", each(valley), 3) == tried("b", shuffled, 3)
    assert max(together) == 3
    assert len({str(params) for params, _, _ in tried("c", shuffled, 4)}) > 10
