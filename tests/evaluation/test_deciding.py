"""What predict does beyond labels: columns by hand, promises from out-of-fold rows, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from foldwise.config.schema import Config
from foldwise.decisions.asked import Asked
from foldwise.errors import FoldwiseError
from foldwise.evaluation.deciding import ONE, Deciding, confidence_and_right, deciding
from foldwise.parts.usercode import UserCode
from foldwise.tasks.multiclass import Multiclass
from foldwise.tasks.multilabel import Multilabel
from foldwise.tasks.predictions import values_to_table
from foldwise.tasks.regression import Regression

CLASSES = ["a", "b", "c"]
N = 60


def task_of(name: str = "multiclass", classes: list[str] = CLASSES) -> Any:
    config = Config.model_validate(
        {
            "run": {"name": "made"},
            "task": name,
            "data": {"path": "a.csv", "target": "label", "text": ["text"]},
        }
    )
    kinds = {"regression": Regression, "multilabel": Multilabel}
    made: Any = kinds.get(name, Multiclass)(config, UserCode())
    made.classes = classes
    return made


def table(task: Any, label: Any, values: np.ndarray) -> pl.DataFrame:
    rows = pl.DataFrame({"row": np.arange(len(values)), "label": label})
    half = len(values) // 2
    parts = [
        values_to_table(task, rows[own], values[own], 1, fold)
        for fold, own in ((1, slice(0, half)), (2, slice(half, None)))
    ]
    return pl.concat(parts)


def out_of_fold(task: Any) -> pl.DataFrame:
    """N rows: two thirds are sure and right, a third says .6 and is wrong."""
    target = np.arange(N) % 3
    values = np.full((N, 3), 0.05)
    values[np.arange(N), target] = 0.9
    unsure = np.arange(N) % 9 < 3
    values[unsure] = 0.2
    values[unsure, (target[unsure] + 1) % 3] = 0.6
    return table(task, [task.classes[i] for i in target], values)


def made(asked: Asked, task: Any | None = None) -> Deciding:
    task = task or task_of()
    return deciding(asked, task, out_of_fold(task), np.arange(N))


NEW = np.array([[0.9, 0.05, 0.05], [0.5, 0.4, 0.1], [0.3, 0.3, 0.4]])


def new_rows() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "row": [0, 1, 2],
            "prediction": ["a", "a", "c"],
            **{f"prob_{name}": NEW[:, i] for i, name in enumerate(CLASSES)},
        }
    )


def test_rows_below_the_confidence_have_no_prediction_and_the_promise_is_out_of_folds() -> None:
    found = made(Asked(abstain=0.7))
    frame = found.columns(new_rows(), {1: NEW, 2: NEW})
    assert frame["prediction"].to_list() == ["a", None, None]
    assert frame["confidence"].to_list() == [0.9, 0.5, 0.4]
    assert found.told(3, 2) == [
        "33.3% of the rows have a confidence of 0.7 or more and keep their prediction; out of fold "
        "65.0% have, and 100.0% of them are right"
    ]


def test_the_cheapest_decision_stands_beside_the_label(tmp_path: Path) -> None:
    path = tmp_path / "costs.csv"
    path.write_text("true,a,b,c,abstain\na,0,1,1,.2\nb,1,0,1,.2\nc,1,1,0,.2\n")
    found = made(Asked(costs=str(path)))
    frame = found.columns(new_rows(), {1: NEW, 2: NEW})
    assert frame["decision"].to_list() == ["a", "abstain", "abstain"]
    assert frame["expected_cost"].to_list() == pytest.approx([0.1, 0.2, 0.2])
    assert frame["prediction"].to_list() == ["a", "a", "c"]
    # 21 of 60 rows are wrong at .6: they abstain, at .2; taking each label they cost 1.
    assert found.paid == pytest.approx((21 / 60 * 0.2, 21 / 60))


def test_sets_are_labels_and_their_number() -> None:
    found = made(Asked(sets=0.6))
    frame = found.columns(new_rows(), {1: NEW, 2: NEW})
    assert frame["set"].to_list() == ["a", "a;b", "a;b;c"] or frame["set_size"][0] == 1
    assert frame["set_size"].to_list() == [
        len(cell.split(";")) if cell else 0 for cell in frame["set"]
    ]
    assert frame["set"][0] == "a"
    alone = found.columns(new_rows(), {ONE: NEW})
    assert alone["set"].to_list() == frame["set"].to_list()  # both folds said the same


def test_a_separator_is_none_that_a_class_has() -> None:
    task = task_of(classes=["a;b", "b", "c"])
    found = made(Asked(sets=0.6), task)
    rows = new_rows().rename({"prob_a": "prob_a;b"}).with_columns(prediction=pl.lit("b"))
    assert found.columns(rows, {1: NEW, 2: NEW})["set"][0] == "a;b"
    wide = found.columns(rows, {1: np.full((3, 3), 1.0), 2: np.full((3, 3), 1.0)})
    assert wide["set"][0] == "a;b|b|c"


def test_numbers_have_intervals() -> None:
    task = task_of("regression")
    truth = np.arange(N, dtype=np.float64)
    error = np.where(np.arange(N) % 10 == 0, 5.0, 1.0)
    known = table(task, truth, (truth + error)[:, None])
    found = deciding(Asked(sets=0.8), task, known, np.arange(N))
    new = pl.DataFrame({"row": [0, 1], "prediction": [10.0, 20.0]})
    both = np.array([[10.0], [20.0]])
    frame = found.columns(new, {1: both, 2: both + 1})
    assert frame["low"].to_list() == pytest.approx([9.0, 19.0])
    assert frame["high"].to_list() == pytest.approx([12.0, 22.0])


def test_a_set_of_labels_is_as_sure_as_its_most_doubtful_label() -> None:
    task = task_of("multilabel")
    values = np.array([[0.9, 0.2, 0.1], [0.9, 0.3, 0.1]])
    known = table(task, ["a", "a;b"], values)
    named = known.with_columns(pl.Series("prediction", ["a", "a;b"]))  # .3 was enough for b
    sure, right = confidence_and_right(named, task)
    assert sure.tolist() == pytest.approx([0.8, 0.3])
    assert right.tolist() == [True, True]
    assert confidence_and_right(known, task)[1].tolist() == [True, False]


@pytest.mark.parametrize(
    ("asked", "task", "told"),
    [
        (Asked(abstain=0.5), "regression", "--abstain: the run predicts numbers"),
        (Asked(costs="x.csv"), "regression", "--costs: the run predicts numbers"),
        (Asked(sets=0.9), "multilabel", "--sets: is for one label a row"),
        (Asked(sets=0.9, by_class=True), "regression", "--by-class: the run predicts numbers"),
        (Asked(sets=0.99), "multiclass", "can't tell more than a level of 0.984"),
    ],
)
def test_what_a_run_cant_do_is_told(asked: Asked, task: str, told: str) -> None:
    kind = task_of(task)
    known = out_of_fold(task_of())
    with pytest.raises(FoldwiseError, match=told):
        deciding(asked, kind, known, np.arange(N))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"abstain": 1.2}, "--abstain 1.2: a confidence is above 0 and at most 1"),
        ({"sets": 90.0}, "--sets 90.0: a share of rows is above 0 and below 1"),
        ({"abstain": 0.5, "by_class": True}, "--by-class: only goes with --sets"),
    ],
)
def test_what_isnt_a_share_is_refused(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(FoldwiseError, match=told):
        Asked(**wrong)
