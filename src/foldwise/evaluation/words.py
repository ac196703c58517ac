"""What scores and models are called to a person: keys of metrics.json in, words out.

Files keep the keys, since programs read them; terminal, report and verdict all say these words.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

# Each member as a table's row names it, and as a sentence does.
_MEMBERS = {
    "model": ("model", "the model"),
    "majority": ("majority", "guessing by frequency"),
    "mean": ("mean", "predicting the mean"),
    "median": ("median", "predicting the median"),
    "lookup": ("lookup", "the lookup"),
    "linear": ("linear model", "the linear model"),
    "embedding": ("frozen backbone", "the frozen backbone"),
    "network": ("small networks", "small networks on the frozen backbone"),
    "boosting": ("boosted trees", "boosted trees"),
}
ANSWER = "answer"  # of the run, beside the members in a table
_METRICS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "subset_accuracy": "subset accuracy",
    "hamming_loss": "Hamming loss",
    "log_loss": "log loss",
    "mcc": "MCC",
    "quadratic_kappa": "quadratic kappa",
    "rmse": "RMSE",
    "mae": "MAE",
    "r2": "R2",
}
_STEMS = {"f1": "F1", "precision": "precision", "recall": "recall", "auroc": "AUROC"}


def short_name(member: str, columns: Sequence[str] = ()) -> str:
    """Name a member as a row of a table: `linear model`, `lookup of product`.

    Args:
        member: its key in metrics.json.
        columns: which it looks up, the most frequent choice of the folds first.
    """
    return _of_column(_MEMBERS.get(member, (member,))[0], columns)


def in_a_sentence(member: str, columns: Sequence[str] = (), inputs: str = "") -> str:
    """Name a member inside a sentence: `the linear model on words`, `predicting the mean`.

    Args:
        member: its key in metrics.json.
        columns: which it looks up, the most frequent choice of the folds first.
        inputs: what the linear model reads: words, columns, or both.
    """
    name = _of_column(_MEMBERS.get(member, (member, member))[1], columns)
    return f"{name} on {inputs}" if member == "linear" and inputs else name


def in_the_table(metrics_json: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """List who stands in a run's table of scores: its answer first, then the members, best first.

    Args:
        metrics_json: of any version; before there were members the model was the answer.

    Returns:
        {name: {oof, holdout, ...}}. Where one member answers every row, it stands once; where its
        labels are named by thresholds or cutoffs, twice.
    """
    members = dict(metrics_json.get("members") or metrics_json["baselines"])
    alone = "model"
    if answer := metrics_json.get("answer"):
        chosen = [answer, *answer["folds"].values()]
        names = {
            None
            if each["blended"] or each.get("thresholds") or each.get("cutoffs")
            else _largest(each["weights"])
            for each in chosen
        }
        alone = (names.pop() if len(names) == 1 else None) or ""
    first = short_name(alone, members.get(alone, {}).get("columns", ())) if alone else ANSWER
    metric = (metrics_json.get("verdict") or {}).get("metric")
    sign = -1 if metric in metrics_json.get("smaller_is_better", ()) else 1

    def worth(entry: Mapping[str, Any]) -> float:
        value = entry["oof"].get(metric, {}).get("value")
        return -math.inf if value is None or not math.isfinite(value) else sign * value

    members.pop(alone, None)
    ordered = sorted(members.items(), key=lambda item: -worth(item[1]))
    others = {short_name(n, entry.get("columns", ())): entry for n, entry in ordered}
    return {first: dict(metrics_json), **others}


def listed(names: Sequence[str]) -> str:
    """Join names as a sentence does: `a, b and c`."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def metric_name(metric: str) -> str:
    """Name a metric inside a sentence: `macro-F1`, `RMSE`; one of one's own keeps its name."""
    stem, _, mean = metric.rpartition("_")
    if stem in _STEMS:
        return f"{mean}-{_STEMS[stem]}"
    return _METRICS.get(metric, metric)


def figure(value: float | None) -> str:
    """Write a score with three decimals, or fewer where it is large; n/a where it isn't defined."""
    if value is None or not math.isfinite(value):
        return "n/a"
    size = abs(value)
    if 0 < size < 0.0005:
        return f"{value:.1e}"
    digits = ".3f" if size < 10 else ".4g" if size < 1000 else ".0f" if size < 1e6 else ".1e"
    return f"{value:{digits}}"


def signed(value: float | None) -> str:
    """Write a difference of scores with its sign: `+0.021`; a dash where it isn't known."""
    if value is None or not math.isfinite(value):
        return "-"
    return figure(value) if value < 0 else f"+{figure(value)}"


def duration(seconds: float | None) -> str:
    """Return a time as one reads it: `12 s`, `3 min`; a dash for what isn't known."""
    if seconds is None:
        return "-"
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.1f} h"


def _largest(weights: Mapping[str, float]) -> str:
    return max(weights, key=weights.__getitem__)


def _of_column(name: str, columns: Sequence[str]) -> str:
    return f"{name} of {columns[0]}" if columns else name
