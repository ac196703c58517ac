"""The verdict: every model's score and its resamples in; what won, how surely, and what next, out.

The question is whether the model was worth its training, so it is set against the strongest of its
baselines, whatever comes first in the table. All were scored on the same rows and resampled alike,
so their differences are paired. The strongest was picked by the scores that are compared here: the
interval holds for all pairs of models together (simultaneous.py). It sees that other rows would
be scored differently, and nothing of training: `foldwise compare` with two seeds does.

Computed once, when a run is summarized, and kept in metrics.json: whoever shows it says the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from foldwise.evaluation.bootstrap import Resampled
from foldwise.evaluation.simultaneous import Difference, row_differences
from foldwise.evaluation.slices import FEWEST
from foldwise.evaluation.words import figure, in_a_sentence, metric_name

MODEL = "model"
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
    """Set the model against its strongest baseline.

    Args:
        metrics_json: what metrics.json holds, the verdict aside.
        scores: by `model` and each baseline's name, the metrics of the same out-of-fold rows.
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
    if MODEL not in defined:
        return found | _undefined(setting)
    rivals = [name for name in defined if name != MODEL]
    if not rivals:
        return found | _alone(metrics_json, bool(len(scores) > 1), setting)
    rival = max(rivals, key=defined.__getitem__)
    # Of equals the simpler one is ahead.
    pair = (MODEL, rival) if defined[MODEL] > defined[rival] else (rival, MODEL)
    ahead = _ahead([*pair, *(name for name in rivals if name != rival)], scores, setting, sign)
    sure = ahead.clear and not (found["optimistic"] and pair[0] == MODEL)
    found |= {"winner": pair[0], "runner_up": pair[1], "sure": sure}
    found["ahead"] = {"value": ahead.value, "low": ahead.low, "high": ahead.high}
    told = _Words(metrics_json, setting, rival, sign, found)
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
    """Puts the model against its strongest baseline into words."""

    metrics_json: dict[str, Any]
    setting: Setting
    rival: str
    sign: int
    found: dict[str, Any]

    @property
    def _simple(self) -> str:
        columns = self.metrics_json["baselines"][self.rival].get("columns", ())
        return in_a_sentence(self.rival, columns, self.setting.inputs)

    @property
    def _model(self) -> str:
        return "the language model" if self.setting.text else "the model"

    @property
    def _constant(self) -> dict[str, Any]:
        found: dict[str, Any] = self.metrics_json.get("constant_predictions", {})
        return found

    def sentence(self) -> str:
        """Say what won and by how much, and what stands against believing it."""
        name = metric_name(self.setting.metric)
        own, simple = (figure(self._value(self._scores(who), "oof")) for who in (MODEL, self.rival))
        if self.found["winner"] == MODEL:
            who, scores = "The model", f"{name} {own} against {simple} of {self._simple}"
        else:
            who = self._simple[0].upper() + self._simple[1:]
            scores = f"{name} {simple} against the model's {own}"
        if self.found["sure"]:
            told = f"{who} wins: {scores}, {self._ahead()} on the same rows{self._cost()}."
        elif math.isnan(self.found["ahead"]["low"]):
            told = f"No clear winner: {scores}, {self._ahead()}: too few rows to tell."
        elif self.found["ahead"]["low"] > 0:
            told = f"{who} is ahead, not surely: {scores}, {self._ahead()} on the same rows."
        else:
            told = (
                f"No clear winner: {scores}; {self._ahead()} on the same rows can be chance, for "
                "the interval includes zero."
            )
        return told + self._holdout() + _optimism(self.metrics_json) + self._same()

    def advice(self) -> str:
        """Say what to do next."""
        if self._constant or (self.rival in _CONSTANT and not self._model_wins):
            return f"{_MORE_STEPS}."
        if self.found["optimistic"]:
            return "train with selection.rows: inner, under another run.name, for an honest score."
        if self._model_wins:
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
            column = self.metrics_json["baselines"]["lookup"]["columns"][0]
            return (
                f"ask whether {column} is known before the target is. If it is, a table of its "
                "values does the job; if not, leave the column out."
            )
        return f"{_MORE_STEPS}; or use the simpler model."

    @property
    def _model_wins(self) -> bool:
        return bool(self.found["sure"] and self.found["winner"] == MODEL)

    def _scores(self, who: str) -> dict[str, Any]:
        entry: dict[str, Any] = (
            self.metrics_json if who == MODEL else self.metrics_json["baselines"][who]
        )
        return entry

    def _value(self, entry: dict[str, Any], estimate: str) -> float | None:
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
        if self.found["winner"] == MODEL:
            return ""
        if self.rival in _CONSTANT:
            return f"; {self._model} has learnt nothing of use"
        return f"; {self._model} does not earn its cost here"

    def _holdout(self) -> str:
        first, second = (
            self._value(self._scores(self.found[who]), "holdout") for who in ("winner", "runner_up")
        )
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
        return (
            f" In fold{'s' if len(self._constant) > 1 else ''} {folds} it predicts the same for "
            "nearly every row."
        )
