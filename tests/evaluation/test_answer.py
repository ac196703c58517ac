"""The run's answer: made-up members in, weights out, that hang on no target of the row's fold."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from foldwise.config.schema import Config
from foldwise.ensemble.choose import Chosen
from foldwise.evaluation.answer import answer, answered, chosen_of, judged_by, mean_answer
from foldwise.parts.usercode import UserCode
from foldwise.tasks.multiclass import Multiclass
from foldwise.tasks.predictions import values_to_table
from foldwise.tasks.regression import Regression

CLASSES = ["a", "b", "c"]
N = 900


def prepared(metric: str = "f1_macro", folds: int = 3, task: str = "multiclass") -> Any:
    """A run of N rows, as far as an answer needs it."""
    values = {
        "run": {"name": "made"},
        "task": task,
        "data": {"path": "a.csv", "target": "label", "text": ["text"]},
        "folds": {"n": 3},
        "selection": {"metric": metric},
    }
    config = Config.model_validate(values)
    kind = Regression if task == "regression" else Multiclass
    made: Any = kind(config, UserCode())
    made.classes = CLASSES
    return SimpleNamespace(
        config=config,
        task=made,
        folds=list(range(1, folds + 1)),
        assignment=SimpleNamespace(groups=lambda rows: rows),
    )


def guesses(target: np.ndarray, right: float, seed: int) -> np.ndarray:
    """Probabilities whose largest is the target's in a share `right` of the rows."""
    rng = np.random.default_rng(seed)
    other = (target + rng.integers(1, 3, len(target))) % 3
    guess = np.where(rng.random(len(target)) < right, target, other)
    values = 0.2 + 0.3 * rng.random((len(target), 3))
    values[np.arange(len(target)), guess] += 0.5
    return np.asarray(values / values.sum(axis=1, keepdims=True))


def table(run: Any, target: np.ndarray, values: np.ndarray, folds: int = 3) -> pl.DataFrame:
    """A member's out-of-fold table of N rows."""
    parts = []
    for fold in range(1, folds + 1):
        rows = np.flatnonzero(np.arange(N) % folds == fold - 1)
        label = [CLASSES[i] for i in target[rows]] if target.dtype.kind == "i" else target[rows]
        frame = pl.DataFrame({"row": rows, "label": label})
        parts.append(values_to_table(run.task, frame, values[rows], 1, fold))
    return pl.concat(parts).sort("repeat", "row")


def members(run: Any, target: np.ndarray, shown: np.ndarray | None = None) -> dict[str, Any]:
    """Three members that err apart; `shown` replaces the targets that the tables tell."""
    told = target if shown is None else shown
    shares = {"model": 0.65, "linear": 0.6, "boosting": 0.6}
    return {
        name: table(run, told, guesses(target, right, seed))
        for seed, (name, right) in enumerate(shares.items())
    }


@pytest.fixture
def target() -> np.ndarray:
    """N class ids."""
    return np.random.default_rng(5).integers(0, 3, N)


def accuracy(found: pl.DataFrame) -> float:
    return float((found["target"] == found["prediction"]).mean())


def test_members_that_err_apart_are_blended_and_the_blend_is_better(target: np.ndarray) -> None:
    run = prepared()
    tables = members(run, target)
    found = answer(run, tables)
    assert found.chosen.blended
    assert found.chosen.voting == ("model", "linear", "boosting")
    assert accuracy(found.out_of_fold) > max(map(accuracy, tables.values())) + 0.02
    assert found.out_of_fold.columns == tables["model"].columns
    assert set(found.of_folds) == {1, 2, 3}
    assert all(gain > 0 for gain in found.adds.values())


def test_no_rows_answer_hangs_on_the_targets_of_its_own_fold(target: np.ndarray) -> None:
    run = prepared()
    other = target.copy()
    of_first = np.arange(N) % 3 == 0
    other[of_first] = (other[of_first] + 1) % 3
    values = pl.col("^(prediction|prob_.*)$")
    first, second = (
        answer(run, members(run, target, shown)).out_of_fold.filter(pl.col("fold") == 1)
        for shown in (target, other)
    )
    assert first["target"].to_list() != second["target"].to_list()
    assert first.select(values).equals(second.select(values))


def test_where_the_others_know_nothing_the_model_answers_to_the_last_bit(
    target: np.ndarray,
) -> None:
    run = prepared()
    sure = table(run, target, guesses(target, 0.97, 0))
    noise = table(run, target, guesses(target, 1 / 3, 1))
    found = answer(run, {"model": sure, "linear": noise})
    assert accuracy(found.out_of_fold) >= accuracy(sure) - 0.01
    if not found.chosen.blended:
        assert found.chosen.single == "model"
    # A model's logits aren't the logarithms of its probabilities, as a blend's are.
    own = sure.with_columns(pl.col("^logit_.*$") + 1)
    chosen = Chosen(("model", "linear"), np.array([1.0, 0.0]), False, {})
    assert answered({"model": own, "linear": noise}, chosen, run.task).equals(own)
    alone = answer(run, {"model": sure})
    assert alone.out_of_fold.equals(sure)
    assert alone.as_json()["weights"] == {"model": 1.0}


def test_a_run_of_one_fold_is_answered_by_parts_that_keep_their_targets_out(
    target: np.ndarray,
) -> None:
    run = prepared(folds=1)
    shares = {"model": 0.65, "linear": 0.6}
    tables = {
        name: table(run, target, guesses(target, right, seed), folds=1)
        for seed, (name, right) in enumerate(shares.items())
    }
    found = answer(run, tables)
    assert len(found.of_folds) > 1
    assert found.out_of_fold["row"].to_list() == list(range(N))


def test_numbers_are_answered_with_a_weighted_mean() -> None:
    run = prepared("rmse", task="regression")
    rng = np.random.default_rng(0)
    truth = rng.normal(10, 3, N)
    tables = {
        name: table(run, truth, (truth + rng.normal(0, 2, N))[:, None])
        for name in ("model", "linear")
    }
    found = answer(run, tables)
    errors = [
        float(((t["prediction"] - t["target"]) ** 2).mean() ** 0.5)
        for t in (found.out_of_fold, *tables.values())
    ]
    assert errors[0] < 0.8 * min(errors[1:])
    assert found.chosen.weights.sum() == pytest.approx(1)


def test_the_answer_to_new_rows_is_blended_in_each_fold_and_then_averaged(
    target: np.ndarray,
) -> None:
    run = prepared()
    chosen = answer(run, members(run, target)).chosen
    folds = [
        {
            name: table(run, target, guesses(target, 0.6, 10 * k + i))
            for i, name in enumerate(chosen.names)
        }
        for k in range(2)
    ]
    found = mean_answer(folds, chosen, run.task)
    names = [f"prob_{name}" for name in CLASSES]
    mean = np.mean(
        [answered(tables, chosen, run.task).select(names).to_numpy() for tables in folds], axis=0
    )
    np.testing.assert_allclose(found.select(names).to_numpy(), mean)
    assert found["fold"].null_count() == N


def test_a_run_from_before_there_were_members_answers_with_its_model() -> None:
    chosen = chosen_of({"oof": {}})
    assert (chosen.voting, chosen.blended) == (("model",), False)


def test_a_loss_judges_no_answer_the_first_metric_does() -> None:
    run = prepared("loss")
    assert judged_by(run.config, run.task.metrics()).name == "f1_macro"
    assert judged_by(prepared("accuracy").config, run.task.metrics()).name == "accuracy"
