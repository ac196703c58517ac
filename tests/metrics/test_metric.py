import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics as sk
from torchmetrics.functional.classification import multiclass_auroc

from foldwise.errors import FoldwiseError
from foldwise.evaluation.bootstrap import intervals
from foldwise.metrics.metric import (
    BUILTIN_METRICS,
    Metric,
    builtin_metric,
    confusion,
    per_class,
    score,
)

Rows = tuple[np.ndarray, np.ndarray, np.ndarray]


def _sklearn_average(function: Callable[..., float], average: str) -> Callable[..., float]:
    return lambda target, prediction: function(target, prediction, average=average, zero_division=0)


LABEL_BASED = {
    f"{name}_{average}": _sklearn_average(function, average)
    for name, function in (
        ("f1", sk.f1_score),
        ("precision", sk.precision_score),
        ("recall", sk.recall_score),
    )
    for average in ("micro", "weighted")
} | {"accuracy": sk.accuracy_score, "mcc": sk.matthews_corrcoef}


@st.composite
def folds(draw: st.DrawFn, unseen: int = 0) -> Rows:
    """Arrays of a fold in which classes are often absent from target, prediction or both."""
    n_classes = draw(st.integers(2, 6))
    rows = draw(st.integers(1, 40))
    target = draw(arrays(np.int64, rows, elements=st.integers(0, n_classes - 1 + unseen)))
    prediction = draw(arrays(np.int64, rows, elements=st.integers(0, n_classes - 1)))
    # Few distinct values, so that scores are often tied.
    weights = draw(arrays(np.float64, (rows, n_classes), elements=st.integers(1, 5)))
    return target, prediction, weights / weights.sum(axis=1, keepdims=True)


def value_of(name: str, fold: Rows) -> float:
    return score([builtin_metric(name)], *fold)[name]


@pytest.mark.filterwarnings("ignore::UserWarning:sklearn")
@pytest.mark.parametrize("name", LABEL_BASED)
@given(fold=folds(unseen=2))
@settings(max_examples=25, deadline=None)
def test_label_based_metrics_equal_sklearn_with_absent_and_unseen_classes(
    name: str, fold: Rows
) -> None:
    target, prediction, _ = fold
    as_strings = target.astype(str), prediction.astype(str)
    assert value_of(name, fold) == pytest.approx(LABEL_BASED[name](*as_strings), abs=1e-12)


@pytest.mark.filterwarnings("ignore::UserWarning:sklearn")
@pytest.mark.parametrize("name", ["f1", "precision", "recall"])
@given(fold=folds(unseen=2))
@settings(max_examples=25, deadline=None)
def test_macro_averages_are_sklearns_over_the_classes_that_have_rows(name: str, fold: Rows) -> None:
    target, prediction, _ = fold
    function = {"f1": sk.f1_score, "precision": sk.precision_score, "recall": sk.recall_score}[name]
    expected = function(
        target, prediction, labels=np.unique(target), average="macro", zero_division=0
    )
    assert value_of(f"{name}_macro", fold) == pytest.approx(expected, abs=1e-12)


def test_one_stray_prediction_of_a_class_that_is_never_scored_costs_one_row() -> None:
    # Five scored classes of 40 rows, six of each wrong, and a sixth that only trains.
    target = np.repeat(np.arange(5), 40)
    prediction = np.where(np.arange(200) % 40 < 6, (target + 1) % 5, target)
    whole = np.eye(6)[prediction]
    assert value_of("f1_macro", (target, prediction, whole)) == pytest.approx(0.85)
    stray = prediction.copy()
    stray[20] = 5  # it was right: class 0 loses a hit
    fold = (target, stray, np.eye(6)[stray])
    # Averaged over six classes it would be 0.706.
    f1 = (4 * 0.85 + 66 / (66 + 6 + 7)) / 5
    assert value_of("f1_macro", fold) == pytest.approx(f1)
    assert value_of("recall_macro", fold) == pytest.approx((4 * 34 + 33) / 5 / 40)
    assert value_of("precision_macro", fold) == pytest.approx((4 * 34 / 40 + 33 / 39) / 5)


def test_a_resample_that_draws_no_row_of_a_class_is_averaged_over_the_others() -> None:
    # Of class 2 there is a single row; predictions of it come from other classes' rows too.
    target = np.array([0] * 30 + [1] * 30 + [2])
    prediction = target.copy()
    prediction[[0, 30]] = 2
    (found,) = intervals(
        [builtin_metric("recall_macro")],
        target,
        prediction,
        np.eye(3)[prediction],
        np.arange(61),
        0,
    ).values()
    # 0.68 and below where a resample without that row counts its class as 0.
    assert found["low"] > 0.9


def test_a_class_without_rows_has_no_scores_of_its_own() -> None:
    target, prediction = np.array([0, 0, 1, 1]), np.array([0, 2, 1, 1])
    rows = per_class(target, prediction, ["a", "b", "c"])
    assert [row["recall"] for row in rows[:2]] == [0.5, 1.0]
    assert rows[2]["support"] == 0
    assert all(math.isnan(rows[2][name]) for name in ("precision", "recall", "f1"))


@pytest.mark.filterwarnings("ignore::UserWarning:sklearn")
@given(fold=folds(unseen=2))
@settings(max_examples=50, deadline=None)
def test_balanced_accuracy_equals_sklearn(fold: Rows) -> None:
    target, prediction, _ = fold
    expected = sk.balanced_accuracy_score(target, prediction)
    assert value_of("balanced_accuracy", fold) == pytest.approx(expected)


@given(fold=folds())
@settings(max_examples=50, deadline=None)
def test_log_loss_equals_sklearn(fold: Rows) -> None:
    target, _, probabilities = fold
    expected = sk.log_loss(target, probabilities, labels=range(probabilities.shape[1]))
    assert value_of("log_loss", fold) == pytest.approx(expected)


def test_log_loss_of_an_impossible_class_is_finite_as_in_sklearn() -> None:
    target, probabilities = np.array([0, 1]), np.array([[0.0, 1.0], [0.5, 0.5]])
    expected = sk.log_loss(target, probabilities)
    assert value_of("log_loss", (target, target, probabilities)) == pytest.approx(expected)


@pytest.mark.parametrize("average", ["macro", "weighted"])
@given(fold=folds())
@settings(max_examples=50, deadline=None)
def test_auroc_averages_sklearns_over_classes_with_positives_and_negatives(
    average: str, fold: Rows
) -> None:
    target, _, probabilities = fold
    areas, supports = [], []
    for i in range(probabilities.shape[1]):
        if 0 < (target == i).sum() < len(target):
            areas.append(sk.roc_auc_score(target == i, probabilities[:, i]))
            supports.append((target == i).sum())
    weights = supports if average == "weighted" else None
    expected = np.average(areas, weights=weights) if areas else math.nan
    assert value_of(f"auroc_{average}", fold) == pytest.approx(expected, nan_ok=True)


def test_auroc_equals_torchmetrics_where_every_class_occurs() -> None:
    random = np.random.default_rng(0)
    target, probabilities = random.integers(0, 4, 300), random.dirichlet(np.ones(4), 300)
    for average in ("macro", "weighted"):
        expected = multiclass_auroc(
            torch.tensor(probabilities), torch.tensor(target), num_classes=4, average=average
        )
        fold = (target, target, probabilities)
        assert value_of(f"auroc_{average}", fold) == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.parametrize("name", ["log_loss", "auroc_macro", "auroc_weighted"])
@given(fold=folds(unseen=2))
@settings(max_examples=50, deadline=None)
def test_probability_metrics_leave_unseen_labels_out(name: str, fold: Rows) -> None:
    target, prediction, probabilities = fold
    known = target < probabilities.shape[1]
    without = (target[known], prediction[known], probabilities[known])
    assert value_of(name, fold) == pytest.approx(value_of(name, without), nan_ok=True)


def test_mcc_keeps_its_digits_on_many_unbalanced_rows() -> None:
    target = np.zeros(100_000, dtype=np.int64)
    target[:10] = 1
    prediction = target.copy()
    prediction[5:12] = 1 - prediction[5:12]
    value = value_of("mcc", (target, prediction, np.full((100_000, 2), 0.5)))
    assert value == pytest.approx(sk.matthews_corrcoef(target, prediction), abs=1e-9)


def test_f1_of_batches_averaged_is_not_the_f1_of_the_fold() -> None:
    target = np.array([0, 0, 0, 1, 1, 2, 2, 2])
    prediction = np.array([0, 0, 1, 1, 1, 2, 0, 2])
    probabilities = np.eye(3)[prediction]
    f1 = builtin_metric("f1_macro")
    batches = [slice(0, 4), slice(4, 8)]
    averaged = np.mean(
        [f1.compute(target[b], prediction[b], probabilities[b]) for b in batches],
    )
    whole = f1.compute(target, prediction, probabilities)
    assert whole == pytest.approx((4 / 6 + 4 / 5 + 4 / 5) / 3)
    # First half: F1 of 4/5 and 2/3. Second half: 1 and 4/5; class 0 is predicted, but has no row.
    assert averaged == pytest.approx(((4 / 5 + 2 / 3) / 2 + (1 + 4 / 5) / 2) / 2)
    assert abs(whole - averaged) > 0.05


def test_only_log_loss_is_better_when_smaller() -> None:
    assert [n for n in BUILTIN_METRICS if not builtin_metric(n).greater_is_better] == ["log_loss"]


def test_label_based_metrics_use_nothing_of_the_probabilities_but_their_shape() -> None:
    target, prediction = np.array([0, 1, 2, 2]), np.array([0, 1, 1, 2])
    for name in BUILTIN_METRICS:
        if builtin_metric(name).needs == "prediction":
            with_nan = value_of(name, (target, prediction, np.full((4, 3), np.nan)))
            assert with_nan == value_of(name, (target, prediction, np.eye(3)[prediction]))


def test_read_only_arrays_are_scored_without_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    target = np.array([0, 1, 1])
    target.setflags(write=False)
    assert value_of("f1_macro", (target, target, np.eye(2)[target])) == 1.0
    assert len(recwarn) == 0


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(FoldwiseError) as error:
        builtin_metric("f1")
    assert str(error.value) == (
        "unknown metric 'f1': choose from f1_macro, f1_micro, f1_weighted, precision_macro, "
        "precision_micro, precision_weighted, recall_macro, recall_micro, recall_weighted, "
        "accuracy, balanced_accuracy, log_loss, auroc_macro, auroc_weighted, mcc, "
        "or write your own as `my_parts.metric`"
    )


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (
            math.nan,
            "metric my_parts.cost returned nan on 2 rows: let it return a finite float, or take "
            "it off `metrics`",
        ),
        (
            -math.inf,
            "metric my_parts.cost returned -inf on 2 rows: let it return a finite float, or take "
            "it off `metrics`",
        ),
        (
            np.array([0.1, 0.2]),
            "metric my_parts.cost returned ndarray: let it return one float for all rows, "
            "e.g. `float(value)`",
        ),
        (
            None,
            "metric my_parts.cost returned NoneType: let it return one float for all rows, "
            "e.g. `float(value)`",
        ),
        (
            True,
            "metric my_parts.cost returned bool: let it return one float for all rows, "
            "e.g. `float(value)`",
        ),
    ],
)
def test_a_users_metric_that_returns_no_finite_float_is_named(
    returned: object, message: str
) -> None:
    metric = Metric("my_parts.cost", lambda *_: returned, True, "prediction")  # type: ignore[arg-type,return-value]
    with pytest.raises(FoldwiseError) as error:
        score([metric], np.array([0, 1]), np.array([0, 1]), np.eye(2))
    assert str(error.value) == message


def test_a_users_numpy_float_becomes_a_float() -> None:
    metric = Metric("my_parts.cost", lambda *_: np.float32(0.5), True, "prediction")  # type: ignore[arg-type,return-value]
    values = score([metric], np.array([0, 1]), np.array([0, 1]), np.eye(2))
    assert values == {"my_parts.cost": 0.5}
    assert type(values["my_parts.cost"]) is float


@pytest.mark.filterwarnings("ignore::UserWarning:sklearn")
@given(fold=folds(unseen=2))
@settings(max_examples=50, deadline=None)
def test_per_class_and_confusion_equal_sklearn(fold: Rows) -> None:
    target, prediction, probabilities = fold
    n = probabilities.shape[1]
    ids = list(range(n))
    report = sk.precision_recall_fscore_support(target, prediction, labels=ids, zero_division=0)
    rows = per_class(target, prediction, [f"class {i}" for i in ids])
    assert [row["label"] for row in rows] == [f"class {i}" for i in ids]
    there = report[3] > 0
    for name, column in zip(("precision", "recall", "f1", "support"), report, strict=True):
        of_classes = np.array([row[name] for row in rows])
        assert of_classes[there] == pytest.approx(column[there], abs=1e-6)
    all_ids = list(range(n + 2))
    expected = sk.confusion_matrix(target, prediction, labels=all_ids)
    np.testing.assert_array_equal(confusion(target, prediction, n + 2), expected)
    np.testing.assert_array_equal(confusion(target, prediction, n), expected[:n, :n])
