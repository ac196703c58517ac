"""What won: from the scores of the answer and its members, with resamples made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from foldwise.evaluation.bootstrap import Resampled, resample
from foldwise.evaluation.verdict import Setting, verdict
from foldwise.metrics.metric import builtin_metric

MACRO = Setting(metric="f1_macro", inputs="words", text=True, own_task=False)
RMSE = Setting(metric="rmse", inputs="columns", text=False, own_task=False)


def drawn(value: float, *, spread: float = 0.01, groups: int = 200, seed: int = 0) -> Resampled:
    draws = value + spread * np.random.default_rng(seed).standard_normal((400, 1))
    return Resampled(("score",), np.array([value]), draws, groups)


def judged(
    values: dict[str, float],
    setting: Setting = MACRO,
    *,
    holdout: dict[str, float] | None = None,
    groups: int = 200,
    spread: float = 0.01,
    columns: list[str] | None = None,
    weights: dict[str, float] | None = None,
    adds: dict[str, float] | None = None,
    answer_held: float | None = None,
    **changed: Any,
) -> dict[str, Any]:
    """Judge models whose differences have a standard deviation of `spread` times root two.

    With an answer among the values the run answers with a blend, by these weights.
    """
    name = setting.metric
    scores = {
        model: drawn(value, groups=groups, seed=i, spread=spread)
        for i, (model, value) in enumerate(values.items())
    }
    scores = {
        model: Resampled((name,), each.values, each.draws, each.groups)
        for model, each in scores.items()
    }

    def entry(model: str) -> dict[str, Any]:
        held = None if holdout is None else {name: {"value": holdout[model]}}
        return {"oof": scores[model].intervals(), "holdout": held}

    members = {model: entry(model) for model in values if model != "answer"}
    if "lookup" in members:
        members["lookup"]["columns"] = columns or ["product"]
    blended = "answer" in values
    answer = {"weights": weights or {"model": 1.0}, "blended": blended, "adds": adds or {}}
    if not blended:
        scores["answer"] = scores["model"]
    metrics_json = {
        **entry("answer" if blended else "model"),
        "answer": answer,
        "members": members,
        "selection": "inner",
        "smaller_is_better": ["rmse"],
    }
    if answer_held is not None:
        metrics_json["holdout"] = {name: {"value": answer_held}}
    return verdict(metrics_json | changed, scores, setting)


def test_of_a_member_that_answers_alone_the_holdout_is_that_of_the_answer() -> None:
    found = judged(
        {"model": 0.5, "linear": 0.7},
        holdout={"model": 0.5, "linear": 0.656},
        weights={"model": 0.0, "linear": 1.0},
        answer_held=0.659,
    )
    assert "The holdout agrees: 0.659 against 0.500." in found["told"]


def test_a_linear_model_that_is_clearly_better_wins() -> None:
    found = judged({"model": 0.701, "majority": 0.015, "lookup": 0.398, "linear": 0.782})
    assert (found["winner"], found["runner_up"], found["sure"]) == ("linear", "model", True)
    assert found["ahead"]["value"] == pytest.approx(0.081)
    assert 0 < found["ahead"]["low"] < 0.081 < found["ahead"]["high"]
    low, high = (f"{found['ahead'][end]:.3f}" for end in ("low", "high"))
    assert found["told"] == (
        "The linear model on words wins: macro-F1 0.782 against 0.701 of the model, "
        f"+0.081 [{low}, {high}] on the same rows; the language model does not earn its cost here."
    )
    assert found["next"].endswith("or use the simpler model.")


def test_the_runner_up_of_a_model_that_wins_is_its_strongest_baseline() -> None:
    found = judged({"model": 0.8, "majority": 0.1, "lookup": 0.6, "linear": 0.5})
    assert (found["winner"], found["runner_up"], found["sure"]) == ("model", "lookup", True)
    assert found["told"].startswith(
        "The model wins: macro-F1 0.800 against 0.600 of the lookup of product, +0.200 ["
    )
    assert "foldwise compare" in found["next"]


def test_a_difference_that_rows_can_explain_has_no_winner() -> None:
    found = judged({"model": 0.71, "linear": 0.70})
    assert (found["winner"], found["sure"]) == ("model", False)
    assert found["ahead"]["low"] < 0 < found["ahead"]["high"]
    assert found["told"].startswith(
        "No clear winner: the model has macro-F1 0.710 against 0.700 of the linear"
    )
    assert "the interval includes zero" in found["told"]
    assert "run.seed" in found["next"]


def test_of_equals_the_simpler_is_ahead_and_nothing_is_sure() -> None:
    found = judged({"model": 0.7, "linear": 0.7})
    assert (found["winner"], found["sure"]) == ("linear", False)


def test_less_is_better_for_rmse_and_the_difference_is_said_so() -> None:
    found = judged({"model": 4.2, "mean": 9.0, "median": 9.1, "linear": 5.0}, RMSE)
    assert (found["winner"], found["runner_up"], found["sure"]) == ("model", "linear", True)
    assert found["ahead"]["value"] == pytest.approx(0.8)
    assert found["told"].startswith(
        "The model wins: RMSE 4.200 against 5.000 of the linear model on columns, 0.800 lower ["
    )
    worse = judged({"model": 6.0, "mean": 9.0, "linear": 5.0}, RMSE)
    assert worse["winner"] == "linear"
    assert "; the model does not earn its cost here." in worse["told"]


def test_a_model_behind_the_mean_is_told_to_train_longer() -> None:
    found = judged({"model": 9.5, "mean": 9.0, "median": 9.2}, RMSE)
    assert found["told"].startswith("Predicting the mean wins: RMSE 9.000 against 9.500 of the")
    assert "learnt nothing of use" in found["told"]
    assert "training.epochs" in found["next"]


def test_a_lookup_that_wins_raises_the_question_of_a_leak() -> None:
    found = judged({"model": 0.6, "lookup": 0.9}, columns=["issue"])
    assert found["told"].startswith("The lookup of issue wins: macro-F1 0.900")
    assert found["next"].startswith("ask whether issue is known before the target is.")


def test_scores_by_rows_that_picked_the_epoch_make_no_sure_winner_of_the_model() -> None:
    found = judged({"model": 0.8, "linear": 0.7}, selection="fold")
    assert (found["winner"], found["sure"], found["optimistic"]) == ("model", False, True)
    assert found["told"].startswith("The model is ahead, not surely: ")
    assert "optimistic: the scored rows picked its epoch (selection.rows: fold)" in found["told"]
    assert "selection.rows: inner" in found["next"]
    assert judged({"model": 0.7, "linear": 0.8}, selection="fold")["sure"]


def test_the_holdout_is_said_beside_it() -> None:
    values = {"model": 0.8, "linear": 0.7}
    agrees = judged(values, holdout={"model": 0.78, "linear": 0.69})
    assert agrees["told"].endswith(" The holdout agrees: 0.780 against 0.690.")
    other = judged(values, holdout={"model": 0.68, "linear": 0.69})
    assert other["told"].endswith(" The holdout says otherwise: 0.680 against 0.690.")
    unsure = judged({"model": 0.71, "linear": 0.70}, holdout={"model": 0.68, "linear": 0.69})
    assert unsure["told"].endswith(" On the holdout: 0.680 against 0.690.")
    fewer = judged({"model": 4.0, "linear": 5.0}, RMSE, holdout={"model": 4.1, "linear": 5.2})
    assert fewer["told"].endswith(" The holdout agrees: 4.100 against 5.200.")


def test_without_baselines_nothing_wins() -> None:
    found = judged({"model": 0.7})
    assert (found["winner"], found["ahead"], found["sure"]) == (None, None, False)
    assert found["told"].startswith("The model's macro-F1 is 0.700 [0.6")
    assert found["told"].endswith("] out of fold, with nothing beside it to win against.")
    assert "baselines: true" in found["next"]
    own = Setting(metric="my_parts.cost", inputs="", text=False, own_task=True)
    assert "foldwise compare" in judged({"model": 0.7}, own)["next"]


WEIGHTS = {"model": 0.4, "linear": 0.5, "embedding": 0.0, "boosting": 0.2}
BOTH = {"model": 0.4, "linear": 0.5}


def test_a_blend_that_wins_is_named_by_its_parts_and_told_what_the_model_adds() -> None:
    values = {"answer": 0.8, "model": 0.6, "linear": 0.7, "embedding": 0.6, "boosting": 0.5}
    found = judged(values, weights=WEIGHTS, adds={"model": 0.021})
    assert (found["winner"], found["runner_up"], found["sure"]) == ("answer", "linear", True)
    assert found["told"].startswith(
        "The blend of the language model, the linear model and boosted trees wins: macro-F1 0.800 "
        "against 0.700 of the linear model alone, +0.100 ["
    )
    assert found["told"].endswith(" To its macro-F1 the language model adds +0.021.")
    left_out = judged(values, weights=WEIGHTS, adds={"model": -0.001})
    assert left_out["told"].endswith(" The language model adds nothing to it.")


def test_what_thresholds_add_is_told_apart_from_the_blends_merit() -> None:
    answer = {"weights": {"model": 1.0, "linear": 1.0}, "blended": True, "adds": {}}
    values = {"answer": 0.8, "model": 0.7, "linear": 0.6}
    told = judged(values, answer=answer | {"thresholds_add": 0.05})["told"]
    assert told.endswith(
        "Of the answer's macro-F1 +0.050 are its thresholds' (each member alone names labels from "
        "a half)."
    )
    told = judged(values, answer=answer | {"class_weights_add": 0.02})["told"]
    assert told.endswith(
        "Of the answer's macro-F1 +0.020 are its class weights' (each member alone names the most "
        "probable class)."
    )
    plain = judged(values, answer=answer)["told"]
    assert "thresholds" not in plain
    assert "class weights" not in plain


def test_a_member_that_is_ahead_of_the_blend_is_said_to_be() -> None:
    found = judged({"answer": 0.70, "model": 0.705, "linear": 0.6}, weights=BOTH)
    assert (found["winner"], found["runner_up"], found["sure"]) == ("model", "answer", False)
    assert found["told"].startswith(
        "No clear winner: the language model has macro-F1 0.705 against"
    )


def test_a_blend_of_a_model_whose_epoch_the_scored_rows_picked_is_never_sure() -> None:
    found = judged({"answer": 0.8, "model": 0.6, "linear": 0.5}, weights=BOTH, selection="fold")
    assert (found["winner"], found["sure"]) == ("answer", False)
    assert "ahead, not surely" in found["told"]


def test_a_run_that_answers_with_another_member_alone_says_so() -> None:
    found = judged({"model": 0.6, "linear": 0.7}, weights={"model": 0.0, "linear": 1.0})
    assert found["winner"] == "linear"
    assert " The run answers with the linear model on words." in found["told"]


def test_a_metric_that_is_not_defined_judges_nothing() -> None:
    found = judged({"model": np.nan, "linear": 0.7})
    assert (found["winner"], found["ahead"]) == (None, None)
    assert found["told"] == "No verdict: macro-F1 isn't defined on the rows that were scored."
    alone = judged({"model": 0.7, "majority": np.nan})
    assert "the metric isn't defined for any baseline" in alone["told"]
    # A constant has no rank correlation: the others still stand beside the model.
    assert judged({"model": 0.7, "mean": np.nan, "linear": 0.5})["runner_up"] == "linear"


def test_too_few_groups_of_rows_decide_nothing() -> None:
    found = judged({"model": 0.9, "linear": 0.5}, groups=9)
    assert (found["winner"], found["sure"]) == ("model", False)
    assert np.isnan(found["ahead"]["low"])
    assert found["told"].endswith("too few rows to tell.")


def test_constant_predictions_are_said() -> None:
    constant = {"1": {"prediction": "card", "share": 1.0}, "3": {"prediction": "card", "share": 1}}
    found = judged({"model": 0.2, "linear": 0.7}, constant_predictions=constant)
    assert found["told"].endswith(" In folds 1, 3 it predicts the same for nearly every row.")
    assert "training.epochs" in found["next"]


def test_models_of_the_same_rows_are_compared_row_by_row() -> None:
    # Two models that are right on the same rows but for a few: apart, their intervals overlap.
    n = 400
    target = np.random.default_rng(0).integers(2, size=n)
    wrong = np.arange(n) % 3 == 0
    better = np.where(wrong, 1 - target, target)
    worse = np.where(wrong | (np.arange(n) % 20 == 1), 1 - target, target)
    accuracy = [builtin_metric("accuracy")]
    scores = {
        name: resample(accuracy, target, p, np.eye(2)[p], np.arange(n), seed=0, resamples=300)
        for name, p in (("model", better), ("linear", worse))
    }
    entries = {name: {"oof": each.intervals(), "holdout": None} for name, each in scores.items()}
    metrics_json = {
        **entries["model"],
        "answer": {"weights": {"model": 1.0}, "blended": False, "adds": {}},
        "members": entries,
        "selection": "inner",
        "smaller_is_better": [],
    }
    scores["answer"] = scores["model"]
    found = verdict(metrics_json, scores, Setting("accuracy", "words", True, False))
    own, other = (entry["oof"]["accuracy"] for entry in entries.values())
    assert own["low"] < other["high"]
    assert found["sure"]
    gap = float((worse != better).mean())
    assert found["ahead"]["value"] == pytest.approx(gap, abs=1e-6)
    half_width = 1.96 * np.sqrt(gap * (1 - gap) / n)
    assert found["ahead"]["high"] - gap == pytest.approx(half_width, rel=0.15)
