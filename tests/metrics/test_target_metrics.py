"""Metrics of numbers, ranks and sets of labels equal scikit-learn's and scipy's."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn import metrics as sk

from foldwise.config.grammar import METRICS
from foldwise.metrics.labels import multilabel_metric, per_label
from foldwise.metrics.numbers import number_metric, ordinal_metric


def sets(rows: int = 40, labels: int = 5, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Label 4 is never there, label 3 never predicted, some rows have no label."""
    rng = np.random.default_rng(seed)
    target = (rng.random((rows, labels)) < 0.3).astype(np.int64)
    probabilities = np.clip(0.3 * target + 0.7 * rng.random((rows, labels)), 0, 1)
    target[:, 4], probabilities[:, 3] = 0, 0.4
    return target, (probabilities >= 0.5).astype(np.int64), probabilities


@pytest.mark.parametrize("name", ["f1", "precision", "recall"])
def test_macro_averages_of_label_sets_are_scikit_learns_over_labels_that_rows_have(
    name: str,
) -> None:
    target, prediction, probabilities = sets()
    assert prediction[:, 4].any()
    expected = getattr(sk, f"{name}_score")(
        target, prediction, labels=range(4), average="macro", zero_division=0
    )
    found = multilabel_metric(f"{name}_macro").compute(target, prediction, probabilities)
    assert found == pytest.approx(expected)
    none = np.zeros_like(target)
    assert multilabel_metric(f"{name}_macro").compute(none, prediction, probabilities) == 0


@pytest.mark.parametrize("average", ["micro", "weighted", "samples"])
@pytest.mark.parametrize("name", ["f1", "precision", "recall"])
def test_scores_of_label_sets_are_scikit_learns(name: str, average: str) -> None:
    arrays = sets()
    expected = getattr(sk, f"{name}_score")(*arrays[:2], average=average, zero_division=0)
    assert multilabel_metric(f"{name}_{average}").compute(*arrays) == pytest.approx(expected)


def test_other_metrics_of_label_sets_are_scikit_learns() -> None:
    target, prediction, probabilities = sets()
    values = {
        n: multilabel_metric(n).compute(target, prediction, probabilities)
        for n in ("subset_accuracy", "hamming_loss", "auroc_macro", "auroc_weighted")
    }
    defined = target[:, :4], probabilities[:, :4]
    assert values == pytest.approx(
        {
            "subset_accuracy": sk.accuracy_score(target, prediction),
            "hamming_loss": sk.hamming_loss(target, prediction),
            "auroc_macro": sk.roc_auc_score(*defined, average="macro"),
            "auroc_weighted": sk.roc_auc_score(*defined, average="weighted"),
        }
    )


def test_scores_by_label_are_scikit_learns() -> None:
    target, prediction, _ = sets()
    expected = sk.precision_recall_fscore_support(target, prediction, zero_division=0)
    found = per_label(target, prediction, list("abcde"))
    assert [row["label"] for row in found] == list("abcde")
    for name, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        np.testing.assert_allclose([row[name] for row in found][:4], values[:4])
    assert found[4] == {"label": "e", "support": 0} | {
        name: pytest.approx(math.nan, nan_ok=True) for name in ("precision", "recall", "f1")
    }


def test_label_new_to_the_model_counts_as_missed() -> None:
    target, prediction, probabilities = sets()
    known = probabilities[:, :4]
    value = multilabel_metric("recall_macro").compute(target, prediction, known)
    by_label = sk.recall_score(target, prediction, average=None, zero_division=0)
    assert value == pytest.approx(by_label[:4].mean())  # label 4 has no rows
    target[:8, 4], prediction[:, 4] = 1, 0
    value = multilabel_metric("recall_macro").compute(target, prediction, known)
    assert value == pytest.approx(by_label[:4].sum() / 5)
    areas = multilabel_metric("auroc_macro").compute(target, prediction, known)
    assert areas == pytest.approx(sk.roc_auc_score(target[:, :4], known))


def test_metrics_of_numbers_are_scikit_learns_and_scipys() -> None:
    rng = np.random.default_rng(0)
    target = rng.normal(size=50).round(1)  # with ties
    prediction = target + rng.normal(size=50)
    none = np.empty((50, 0))
    values = {
        name: number_metric(name).compute(target, prediction, none)
        for name in METRICS["regression"]
    }
    assert values == pytest.approx(
        {
            "rmse": sk.root_mean_squared_error(target, prediction),
            "mae": sk.mean_absolute_error(target, prediction),
            "r2": sk.r2_score(target, prediction),
            "spearman": spearmanr(target, prediction).statistic,
            "pearson": pearsonr(target, prediction).statistic,
        }
    )


def test_metrics_of_ranks_are_scikit_learns_and_scipys() -> None:
    rng = np.random.default_rng(1)
    target = rng.integers(0, 4, 60)
    prediction = np.clip(target + rng.integers(-1, 2, 60), 0, 4)
    five = np.empty((60, 5))
    values = {
        n: ordinal_metric(n).compute(target, prediction, five)
        for n in ("mae", "quadratic_kappa", "spearman", "accuracy")
    }
    assert values == pytest.approx(
        {
            "mae": sk.mean_absolute_error(target, prediction),
            "quadratic_kappa": sk.cohen_kappa_score(target, prediction, weights="quadratic"),
            "spearman": spearmanr(target, prediction).statistic,
            "accuracy": sk.accuracy_score(target, prediction),
        }
    )


def test_where_nothing_can_be_explained_the_score_is_nan() -> None:
    same, values, none = np.ones(4), np.arange(4.0), np.empty((4, 0))
    assert math.isnan(number_metric("r2").compute(same, values, none))
    for name in ("spearman", "pearson"):
        assert math.isnan(number_metric(name).compute(values, same, none))
        assert math.isnan(number_metric(name).compute(values, same * 0.1, none))
    ones = np.ones(4, dtype=np.int64)
    assert math.isnan(ordinal_metric("quadratic_kappa").compute(ones, ones, np.empty((4, 3))))


def test_numbers_of_any_size_are_correlated() -> None:
    values, none = np.array([1.0, 2.0, 4.0]), np.empty((3, 0))
    for factor in (1e-200, 1.0, 1e200):
        assert number_metric("pearson").compute(values * factor, values, none) == pytest.approx(1)


@pytest.mark.parametrize(
    ("task", "smaller"),
    [
        ("multilabel", ["hamming_loss"]),
        ("ordinal", ["log_loss", "mae"]),
        ("regression", ["rmse", "mae"]),
    ],
)
def test_errors_are_better_when_they_are_smaller(task: str, smaller: list[str]) -> None:
    look_up = {
        "multilabel": multilabel_metric,
        "ordinal": ordinal_metric,
        "regression": number_metric,
    }[task]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = [name for name in METRICS[task] if not look_up(name).greater_is_better]
    assert found == smaller
