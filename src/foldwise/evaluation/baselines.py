"""Baselines: training rows and rows to score in, predictions of a simple model out.

A fine-tuned model's score says little by itself: these stand beside it, on the same folds, so that
a column that gives the answer away (`lookup`), or a task that words alone solve (`tfidf`), is seen.
Everything is fitted on the training rows, and classes absent from them get probability 0. Sets of
labels and numbers have the same baselines: means for frequencies, a regression a label or a ridge
regression for the logistic one.

The settings of `tfidf` were measured on consumer complaints of 14 classes (the smallest with 3
rows), three folds, one draw of the rows, one thread; out-of-fold macro-F1 / accuracy / seconds a
fold (below 0.01, differences of macro-F1 are noise: another draw of 3,000 rows turns them round):

    features                            C   3,000 rows          9,152 rows
    words and pairs, alike              1   0.438 / 0.646 / 2
    words and pairs, alike              5   0.433 / 0.679 / 3
    words                              10   0.455 / 0.665 / 1   0.523 / 0.699 / 3
    words, pairs at half weight        10   0.459 / 0.672 / 3   0.527 / 0.711 / 9
    with two category columns          10   0.659 / 0.850 / 2   0.720 / 0.874 / 8

Without the words inside categories, macro-F1 fell from 0.648 to 0.612 (words, C=5, 3,000 rows).
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal

import numpy as np
import polars as pl
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import KFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_limits

from foldwise.evaluation.lookup import Floats, Ids, frequencies, lookup, lookup_means
from foldwise.metrics.metric import builtin_metric

BaselineName = Literal["majority", "mean", "median", "lookup", "tfidf"]

_MISSING = "missing"


def baseline_names(
    text: list[str], categorical: list[str], numeric: list[str], task: str = "multiclass"
) -> tuple[BaselineName, ...]:
    """List the baselines that these columns allow for a task, the simplest first."""
    constant: dict[str, list[BaselineName]] = {
        "ordinal": ["median"],
        "regression": ["mean", "median"],
    }
    names = list(constant.get(task, ["majority"]))
    if categorical:
        names.append("lookup")
    if text or categorical or numeric:
        names.append("tfidf")
    return tuple(names)


def baseline_predictions(
    name: BaselineName,
    train: pl.DataFrame,
    score: pl.DataFrame,
    target: Ids,
    n_classes: int,
    text: list[str],
    categorical: list[str],
    numeric: list[str],
    numeric_fill: str,
    seed: int,
) -> Floats:
    """Fit a baseline on the training rows and predict the rows to score.

    `majority` (for ordered classes: `median`) gives everyone the class frequencies; `lookup` the
    frequencies among the training rows with the same value of `lookup_column`; `tfidf` is a
    logistic regression on words, categories and numbers.

    Args:
        name: one of `baseline_names`.
        train: the rows to fit on.
        score: the rows to predict, with the same columns.
        target: (training rows,) class ids.
        n_classes: columns of the result.
        text: text columns; null is an empty text.
        categorical: category columns; null is a category.
        numeric: number columns.
        numeric_fill: what null numbers become: mean or median of the training rows, or zero.
        seed: of the three folds inside the training rows that choose the lookup's column.

    Returns:
        Probabilities (scored rows, n_classes); rows sum to 1.
    """
    if name in ("majority", "median"):
        return np.tile(frequencies(target, n_classes), (len(score), 1))
    if name == "lookup":
        column = lookup_column(train, target, n_classes, categorical, seed)
        return lookup(train[column], target, score[column], n_classes)
    return _tfidf(train, score, target, n_classes, text, categorical, numeric, numeric_fill)


def lookup_column(
    train: pl.DataFrame, target: Ids, n_classes: int, categorical: list[str], seed: int
) -> str:
    """Choose the category that predicts best across three folds of the training rows.

    Across folds, because inside its own rows a column with a value a row is always right. Best is
    the highest macro-F1; among equals, the first in `categorical`.
    """
    if len(categorical) == 1 or len(train) < 2:
        return categorical[0]
    folds = list(KFold(min(3, len(train)), shuffle=True, random_state=seed).split(target))
    f1_macro = builtin_metric("f1_macro").compute

    def score_of(column: str) -> float:
        values = train[column]
        probabilities = np.empty((len(train), n_classes))
        for fit, held_out in folds:
            probabilities[held_out] = lookup(values[fit], target[fit], values[held_out], n_classes)
        return f1_macro(target, probabilities.argmax(axis=1), probabilities)

    return max(categorical, key=score_of)


def baseline_values(
    name: BaselineName,
    train: pl.DataFrame,
    score: pl.DataFrame,
    target: Floats,
    labels: bool,
    text: list[str],
    categorical: list[str],
    numeric: list[str],
    numeric_fill: str,
    seed: int,
) -> Floats:
    """Fit a baseline of numbers, or of labels that a row may have several of.

    `mean`, `median` and `majority` (the share of rows with each label) give everyone the same;
    `lookup` the mean of the training rows with the same value of `value_column`; `tfidf` is a ridge
    regression, or a logistic one a label, on words, categories and numbers.

    Args:
        name: one of `baseline_names`.
        train: the rows to fit on.
        score: the rows to predict, with the same columns.
        target: (training rows, k): one number a row, or 0 and 1 for each label.
        labels: whether these are labels.
        text: text columns; null is an empty text.
        categorical: category columns; null is a category.
        numeric: number columns.
        numeric_fill: what null numbers become: mean or median of the training rows, or zero.
        seed: of the three folds inside the training rows that choose the lookup's column.

    Returns:
        Numbers, or probabilities of labels (scored rows, k).
    """
    if name in ("majority", "mean"):
        return np.tile(target.mean(axis=0), (len(score), 1))
    if name == "median":
        return np.tile(np.median(target, axis=0), (len(score), 1))
    if name == "lookup":
        column = value_column(train, target, categorical, seed)
        return lookup_means(train[column], target, score[column])
    train, score = (_filled(frame, text, categorical, numeric) for frame in (train, score))
    features = _features(train, text, categorical, numeric, numeric_fill)
    values: Floats = np.tile(target.mean(axis=0), (len(score), 1))
    if not features.transformers:
        return values
    with threadpool_limits(limits=1):
        fitted, scored = features.fit_transform(train), features.transform(score)
        for k in range(target.shape[1]):
            if np.ptp(target[:, k]) == 0:
                continue  # nothing to tell apart: the mean it is
            if labels:
                model = LogisticRegression(C=10, class_weight="balanced", max_iter=1000)
                values[:, k] = model.fit(fitted, target[:, k]).predict_proba(scored)[:, 1]
            else:
                values[:, k] = Ridge().fit(fitted, target[:, k]).predict(scored)
    return values


def value_column(train: pl.DataFrame, target: Floats, categorical: list[str], seed: int) -> str:
    """Choose the category with the least squared error across three folds of the training rows."""
    if len(categorical) == 1 or len(train) < 2:
        return categorical[0]
    folds = list(KFold(min(3, len(train)), shuffle=True, random_state=seed).split(target))

    def error_of(column: str) -> float:
        values = train[column]
        return sum(
            float(((lookup_means(values[fit], target[fit], values[out]) - target[out]) ** 2).sum())
            for fit, out in folds
        )

    return min(categorical, key=error_of)


def _tfidf(
    train: pl.DataFrame,
    score: pl.DataFrame,
    target: Ids,
    n_classes: int,
    text: list[str],
    categorical: list[str],
    numeric: list[str],
    numeric_fill: str,
) -> Floats:
    train, score = (_filled(frame, text, categorical, numeric) for frame in (train, score))
    features = _features(train, text, categorical, numeric, numeric_fill)
    if not features.transformers or len(np.unique(target)) == 1:
        return np.tile(frequencies(target, n_classes), (len(score), 1))
    model = make_pipeline(
        features, LogisticRegression(C=10, class_weight="balanced", max_iter=1000)
    )
    # One thread: sums in another order on another machine would be other scores.
    with threadpool_limits(limits=1):
        model.fit(train, target)
        predicted = model.predict_proba(score)
    probabilities = np.zeros((len(score), n_classes))
    probabilities[:, model.classes_] = predicted
    return probabilities


def _features(
    train: pl.DataFrame,
    text: list[str],
    categorical: list[str],
    numeric: list[str],
    numeric_fill: str,
) -> ColumnTransformer:
    """Build the unfitted map from columns to features, without those that would be empty."""
    words = [(f"words of {column}", column, _ngrams(1, 1, min_df=2)) for column in text]
    # The number of pairs is bounded: time and memory grow with features times classes.
    words += [
        (f"pairs of {column}", column, _ngrams(2, 2, min_df=5, max_features=20_000))
        for column in text
    ]
    # Categories of one word each (ZIP codes) have no words that their one-hot doesn't have.
    words += [
        (f"words of {column}", column, _ngrams(1, 2, min_df=2))
        for column in categorical
        if _has_vocabulary(_ngrams(2, 2, min_df=2), train[column])
    ]
    parts: list[tuple[str, Any, Any]] = [
        (name, vectorizer, column)
        for name, column, vectorizer in words
        if _has_vocabulary(vectorizer, train[column])
    ]
    if categorical:
        one_hot = OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=2)
        parts.append(("categories", one_hot, categorical))
    if numeric:
        parts.append(("numbers", _numbers(numeric_fill), numeric))
    # At full weight the sparse parts, pairs and ZIP codes, drown the words.
    halved = [name for name, _, _ in parts if name.startswith("pairs of ") or name == "categories"]
    return ColumnTransformer(parts, transformer_weights=dict.fromkeys(halved, 0.5))


def _ngrams(
    shortest: int, longest: int, min_df: int, max_features: int | None = None
) -> TfidfVectorizer:
    return TfidfVectorizer(
        sublinear_tf=True,
        ngram_range=(shortest, longest),
        min_df=min_df,
        max_features=max_features,
    )


def _has_vocabulary(vectorizer: TfidfVectorizer, texts: pl.Series) -> bool:
    """Say whether enough rows share an n-gram; scikit-learn refuses to fit none."""
    ngrams_of = vectorizer.build_analyzer()
    rows_with: Counter[str] = Counter()
    for text in texts:
        ngrams = set(ngrams_of(text))
        rows_with.update(ngrams)
        if any(rows_with[ngram] >= vectorizer.min_df for ngram in ngrams):
            return True
    return False


def _numbers(numeric_fill: str) -> Pipeline:
    strategy = {"zero": "constant", "median": "median"}.get(numeric_fill, "mean")
    imputer = SimpleImputer(strategy=strategy, fill_value=0.0, keep_empty_features=True)
    return make_pipeline(imputer, StandardScaler())


def _filled(
    frame: pl.DataFrame, text: list[str], categorical: list[str], numeric: list[str]
) -> pl.DataFrame:
    """Cast columns to what scikit-learn takes: strings without null, float64 with nan for null."""
    return frame.select(
        *(pl.col(column).cast(pl.String).fill_null("") for column in text),
        *(pl.col(column).cast(pl.String).fill_null(_MISSING) for column in categorical),
        *(pl.col(column).cast(pl.Float64).fill_null(np.nan) for column in numeric),
    )
