"""The report's section on decisions, from what metrics.json says."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from foldwise.decisions.temperature import temper
from foldwise.report.decisions import before_tempering, decision_sections

ANSWER: dict[str, Any] = {
    "temperature": 1.5,
    "calibration": {
        "log_loss": {"before": 0.9, "after": 0.7},
        "ece": {"before": 0.11, "after": 0.031, "by_chance": 0.025},
        "bins": 15,
    },
    "folds": {"1": {"temperature": 1.4}, "2": {"temperature": 1.6}},
}
JUDGED: dict[str, Any] = {
    "rows": 40,
    "coverage": 0.9,
    "size": 1.25,
    "empty": 0.05,
    "classes": [{"label": "<b>", "rows": 40, "coverage": 0.9, "size": 1.25}],
}


def test_temperature_abstaining_and_sets_are_told() -> None:
    sets = {"level": 0.9, "oof": JUDGED | {"by_class": JUDGED}, "holdout": None}
    confidence, right = np.array([0.55, 0.65, 0.95, 0.95]), np.array([False, True, True, True])
    (section,) = decision_sections({"answer": ANSWER | {"sets": sets}}, confidence, right)
    body = str(section.body)
    for told in ("1.500", "0.900, 0.700", "0.110, 0.031; by chance alone 0.025", "1.25"):
        assert told in body
    assert "&lt;b&gt;" in body
    assert "<b>" not in body
    cells = [re.findall(r">([^<>]+)</t[dh]>", row) for row in body.split("<tr")]
    assert ["0.90", "0.500", "1.000", "500", "0"] in cells


def test_intervals_and_thresholds_are_told() -> None:
    judged = {"rows": 40, "coverage": 0.9, "size": 12.5}
    answer = {"sets": {"level": 0.9, "oof": judged, "holdout": judged | {"coverage": 0.875}}}
    (numbers,) = decision_sections({"answer": answer}, None, None)
    assert "median width" in str(numbers.body)
    assert "0.875" in str(numbers.body)
    named = {"thresholds": {"card": 0.21}, "thresholds_add": 0.0891}
    (labels,) = decision_sections({"answer": named}, None, None)
    assert "0.089" in str(labels.body)
    assert "card" in str(labels.body)
    weighed = {"class_weights": {"card": 2.25, "loan": 1.0}, "class_weights_add": 0.0123}
    (classes,) = decision_sections({"answer": weighed}, None, None)
    assert "largest probability times weight" in str(classes.body)
    assert "0.012" in str(classes.body)
    assert "2.25" in str(classes.body)
    cut = {"cutoffs": {"good": 0.75, "best": 1.5}, "cutoffs_add": 0.0345}
    (order,) = decision_sections({"answer": cut}, None, None)
    assert "mean rank" in str(order.body)
    assert "0.034" in str(order.body) or "0.035" in str(order.body)
    assert "0.750" in str(order.body)


def test_a_run_from_before_there_were_decisions_has_no_section_of_nothing() -> None:
    assert decision_sections({"oof": {}}, None, None) == []


class Task:
    holds = "label"


def test_a_temperature_is_undone_fold_by_fold() -> None:
    rng = np.random.default_rng(0)
    raw = rng.dirichlet(np.ones(3), 6)
    fold = np.array([1, 1, 1, 2, 2, 2])
    made = np.concatenate([temper(raw[:3], 1.4, "class"), temper(raw[3:], 1.6, "class")])
    found = before_tempering(ANSWER, made, fold, Task())
    assert found == pytest.approx(raw)
    assert before_tempering(ANSWER, made, fold + 5, Task()) is None
    assert before_tempering({}, made, fold, Task()) is None
