"""The verdict: every member's score and its resamples in; what won, how surely, and what next, out.

Where the run answers with a blend the question is whether it was worth its parts, so it is set
against the strongest of them alone. Otherwise it is whether the model was worth its training, and
the model is set against the strongest of the others. All were scored on the same rows and resampled
alike, so their differences are paired. The strongest was picked by the scores that are compared
here: the interval holds for all pairs of models together (simultaneous.py). It sees that other rows
would be scored differently, and nothing of training: `foldwise compare` with two seeds does.

Computed once, when a run is summarized, and kept in metrics.json: whoever shows it says the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from foldwise.config.members import MODEL
from foldwise.evaluation.bootstrap import Resampled
from foldwise.evaluation.simultaneous import Difference, row_differences
from foldwise.evaluation.slices import FEWEST
from foldwise.evaluation.words import (
    ANSWER,
    figure,
    in_a_sentence,
    listed,
    metric_name,
    signed,
)

_CONSTANT = ("majority", "mean", "median")
_MORE_STEPS = (
    "see in report.html whether the learning curves still fall; raise training.epochs or find "
    "another optimizer.lr (foldwise lr-find), and train again"
)


@dataclass(frozen=True)
class Setting:
    """What of the config the words hang on.

    Attributes:
        metric: name of the one to judge by.
        inputs: what the linear model reads: words, columns, or both; empty for an own task.
        text: whether the model reads text.
        own_task: whether the task is the user's, for which there are no baselines.
    """

    metric: str
    inputs: str
    text: bool
    own_task: bool


def verdict(
    metrics_json: dict[str, Any], scores: Mapping[str, Resampled], setting: Setting
) -> dict[str, Any]:
    """Set the blend, or else the model, against the strongest of the others.

    Args:
        metrics_json: what metrics.json holds, the verdict aside.
        scores: by `answer` and each member's name, the metrics of the same out-of-fold rows.
        setting: what the words hang on.

    Returns:
        {metric, winner, runner_up, ahead: {value, low, high}, sure, optimistic, told, next}.
        `ahead` is winner minus runner-up, turned so that positive is better; `winner` is who is
        ahead, and None where nothing can be compared. `told` and `next` are the words.
    """
    found = {
        "metric": setting.metric,
        "winner": None,
        "runner_up": None,
        "ahead": None,
        "sure": False,
        "optimistic": metrics_json["selection"] == "fold",
    }
    sign = -1 if setting.metric in metrics_json["smaller_is_better"] else 1
    values = {name: sign * each.value_of(setting.metric) for name, each in scores.items()}
    defined = {name: value for name, value in values.items() if math.isfinite(value)}
    own = ANSWER if metrics_json["answer"]["blended"] else MODEL
    if own not in defined:
        return found | _undefined(setting)
    rivals = [name for name in defined if name not in (own, ANSWER)]
    if not rivals:
        return found | _alone(metrics_json, len(metrics_json["members"]) > 1, setting)
    rival = max(rivals, key=defined.__getitem__)
    # Of equals the simpler one is ahead.
    pair = (own, rival) if defined[own] > defined[rival] else (rival, own)
    ahead = _ahead([*pair, *(name for name in rivals if name != rival)], scores, setting, sign)
    sure = ahead.clear and not (found["optimistic"] and pair[0] in (own, MODEL))
    found |= {"winner": pair[0], "runner_up": pair[1], "sure": sure}
    found["ahead"] = {"value": ahead.value, "low": ahead.low, "high": ahead.high}
    told = _Words(metrics_json, setting, own, rival, sign, found)
    return found | {"told": told.sentence(), "next": told.advice()}


def _ahead(
    names: list[str], scores: Mapping[str, Resampled], setting: Setting, sign: int
) -> Difference:
    """Return how far the first is ahead of the second, of all that were scored."""
    chosen = [scores[name] for name in names]
    values = sign * np.array([each.value_of(setting.metric) for each in chosen])
    if chosen[0].groups < FEWEST:
        return Difference(float(values[0] - values[1]), math.nan, math.nan)
    draws = sign * np.stack([each.draws_of(setting.metric) for each in chosen], axis=1)
    return row_differences(values, draws, [1] * len(names), None)[0]


def _undefined(setting: Setting) -> dict[str, str]:
    name = metric_name(setting.metric)
    return {
        "told": f"No verdict: {name} isn't defined on the rows that were scored.",
        "next": "name another metric in selection.metric, and train under another run.name.",
    }


def _alone(metrics_json: dict[str, Any], has_baselines: bool, setting: Setting) -> dict[str, str]:
    entry = metrics_json["oof"][setting.metric]
    value, low, high = (figure(entry[key]) for key in ("value", "low", "high"))
    told = (
        f"The model's {metric_name(setting.metric)} is {value} [{low}, {high}] out of fold, with "
        "nothing beside it to win against."
    )
    if has_baselines:
        told = f"{told[:-1]}: the metric isn't defined for any baseline."
        advice = "judge by another metric (selection.metric) under another run.name."
    elif setting.own_task:
        advice = "train a simple model as a second config and set the two against each other with "
        advice += "foldwise compare."
    else:
        advice = "train once with baselines: true, under another run.name, to see what simple "
        advice += "models score."
    return {"told": told + _optimism(metrics_json), "next": advice}


def _optimism(metrics_json: dict[str, Any]) -> str:
    if metrics_json["selection"] != "fold":
        return ""
    return (
        " The model's score is optimistic: the scored rows picked its epoch (selection.rows: fold)."
    )


@dataclass(frozen=True)
class _Words:
    """Puts what a run stands for against the strongest of the others into words."""

    metrics_json: dict[str, Any]
    setting: Setting
    own: str
    rival: str
    sign: int
    found: dict[str, Any]

    def sentence(self) -> str:
        """Say what won and by how much, and what stands against believing it."""
        name = metric_name(self.setting.metric)
        first, second = self.found["winner"], self.found["runner_up"]
        values = {who: figure(self._value(who, "oof")) for who in (first, second)}
        who = self._name(first)
        alone = " alone" if second != ANSWER and first == ANSWER else ""
        scores = f"{name} {values[first]} against {values[second]} of {self._name(second)}{alone}"
        if self.found["sure"]:
            told = f"{who} wins: {scores}, {self._ahead()} on the same rows{self._cost()}."
        elif math.isnan(self.found["ahead"]["low"]):
            told = f"No clear winner: {who} has {scores}, {self._ahead()}: too few rows to tell."
        elif self.found["ahead"]["low"] > 0:
            told = f"{who} is ahead, not surely: {scores}, {self._ahead()} on the same rows."
        else:
            told = (
                f"No clear winner: {who} has {scores}; {self._ahead()} on the same rows can be "
                "chance, for the interval includes zero."
            )
        told = told[0].upper() + told[1:]
        told += self._holdout() + self._share() + self._naming()
        return told + _optimism(self.metrics_json) + self._same()

    def advice(self) -> str:
        """Say what to do next."""
        ahead = self.found["sure"] and self.found["winner"] == self.own
        if self._constant or (self.rival in _CONSTANT and not ahead):
            return f"{_MORE_STEPS}."
        if self.found["optimistic"]:
            return "train with selection.rows: inner, under another run.name, for an honest score."
        if ahead:
            return (
                "read its most confident mistakes in report.html; change one thing, and set the "
                "runs against each other with foldwise compare."
            )
        if not self.found["sure"]:
            return (
                "more rows or folds.repeats narrow the interval, and a second run.seed shows the "
                "noise of training (foldwise compare). Until then the simpler model is cheaper."
            )
        if self.rival == "lookup":
            column = self.metrics_json["members"]["lookup"]["columns"][0]
            return (
                f"ask whether {column} is known before the target is. If it is, a table of its "
                "values does the job; if not, leave the column out."
            )
        return f"{_MORE_STEPS}; or use the simpler model."

    @property
    def _constant(self) -> dict[str, Any]:
        found: dict[str, Any] = self.metrics_json.get("constant_predictions", {})
        return found

    @property
    def _model(self) -> str:
        return "the language model" if self.setting.text else "the model"

    def _name(self, who: str) -> str:
        if who == ANSWER:
            weights = self.metrics_json["answer"]["weights"]
            voting = [self._short(name) for name, weight in weights.items() if weight > 0]
            return f"the blend of {listed(voting)}"
        return self._short(who)

    def _short(self, who: str) -> str:
        if who == MODEL:
            return self._model if self.own == ANSWER else "the model"
        columns = self.metrics_json["members"][who].get("columns", ())
        return in_a_sentence(who, columns, "" if self.own == ANSWER else self.setting.inputs)

    @property
    def _single(self) -> str:
        weights = self.metrics_json["answer"]["weights"]
        return str(max(weights, key=weights.__getitem__))

    def _value(self, who: str, estimate: str) -> float | None:
        entry = self.metrics_json if who == ANSWER else self.metrics_json["members"][who]
        value: float | None = (entry[estimate] or {}).get(self.setting.metric, {}).get("value")
        return value

    def _ahead(self) -> str:
        value, low, high = (self.found["ahead"][key] for key in ("value", "low", "high"))
        if math.isnan(low):
            return f"{figure(value)} {'better' if self.sign > 0 else 'lower'}"
        if self.sign < 0:
            return f"{figure(value)} lower [{figure(low)}, {figure(high)}]"
        return f"+{figure(value)} [{figure(low)}, {figure(high)}]"

    def _cost(self) -> str:
        if self.found["winner"] in (self.own, ANSWER):
            return ""
        if self.rival in _CONSTANT:
            return f"; {self._model} has learnt nothing of use"
        return f"; {self._model} does not earn its cost here" if self.own == MODEL else ""

    def _share(self) -> str:
        answer = self.metrics_json["answer"]
        if self.own == MODEL:
            single = self._single
            return "" if single == MODEL else f" The run answers with {self._short(single)}."
        added = answer["adds"].get(MODEL)
        if added is None or not math.isfinite(added):
            return ""
        if added <= 0:
            return f" {self._model[0].upper()}{self._model[1:]} adds nothing to it."
        name = metric_name(self.setting.metric)
        gain = f"+{figure(added)}" if self.sign > 0 else f"{figure(added)} lower"
        return f" To its {name} {self._model} adds {gain}."

    def _naming(self) -> str:
        # Nobody but the answer has thresholds, class weights or cutoffs: what they bring isn't the
        # blend's merit.
        ways = {
            "thresholds": "thresholds' (each member alone names labels from a half)",
            "class_weights": "class weights' (each member alone names the most probable class)",
            "cutoffs": "cutoffs' (each member alone names the median label)",
        }
        metric = metric_name(self.setting.metric)
        for way, told in ways.items():
            added = self.metrics_json["answer"].get(f"{way}_add")
            if added is not None and math.isfinite(added):
                return f" Of the answer's {metric} {signed(added)} are its {told}."
        return ""

    def _holdout(self) -> str:
        # A member that answers alone is tempered, which may move the mean of the folds' answers: it
        # has the scores that stand in the table.
        pair = [self.found["winner"], self.found["runner_up"]]
        if self.own == MODEL:
            pair = [ANSWER if who == self._single else who for who in pair]
        first, second = (self._value(who, "holdout") for who in pair)
        if first is None or second is None or not math.isfinite(first + second):
            return ""
        scores = f"{figure(first)} against {figure(second)}"
        if not self.found["sure"] or first == second:
            return f" On the holdout: {scores}."
        agrees = self.sign * (first - second) > 0
        return f" The holdout {'agrees' if agrees else 'says otherwise'}: {scores}."

    def _same(self) -> str:
        if not self._constant:
            return ""
        folds = ", ".join(self._constant)
        who = "it" if self.own == MODEL else self._model
        return (
            f" In fold{'s' if len(self._constant) > 1 else ''} {folds} {who} predicts the same for "
            "nearly every row."
        )
