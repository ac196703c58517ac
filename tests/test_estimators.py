"""A run as a scikit-learn estimator: its protocol, pipelines, searches, pickles and errors."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

from conftest import make_table
from foldwise import FoldwiseClassifier, FoldwiseRegressor, Predictor

# Few steps on tiny tables; the checks' own data are numbers, and score what forty epochs learn.
SMALL: dict[str, Any] = {
    "folds": {"n": 2, "duplicates": "ignore"},
    "training": {"epochs": 1, "batch_size": 64, "device": "cpu", "precision": "float32"},
    "selection": {"rows": "last"},
    "trackers": [],
    "ensemble": "model",
    "baselines": False,
}
LEARNS = {**SMALL, "training": {**SMALL["training"], "epochs": 40}}
QUICK = {  # those that hardly train
    "check_estimator_cloneable",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_set_params",
    "check_get_params_invariance",
    "check_estimators_unfitted",
    "check_estimators_nan_inf",
    "check_estimator_sparse_array",
    "check_complex_data",
    "check_fit2d_1sample",
    "check_fit1d",
    "check_classifiers_one_label",
    "check_requires_y_none",
}
# Nothing of the protocol is broken; sklearn skips this one itself without SCIPY_ARRAY_API.
SKIPPED = {"check_array_api_input"}


def checks(quick: bool) -> list[Any]:
    found = []
    for estimator in (FoldwiseClassifier(LEARNS), FoldwiseRegressor(LEARNS)):
        for number, (made, check) in enumerate(estimator_checks_generator(estimator)):
            name = getattr(check, "func", check).__name__
            if name not in SKIPPED and (name in QUICK) is quick:
                label = f"{type(estimator).__name__}-{number}-{name}"
                found.append(pytest.param(made, check, id=label))
    return found


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("estimator", "check"), checks(quick=True))
def test_the_protocol_holds(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("estimator", "check"), checks(quick=False))
def test_the_whole_protocol_holds(estimator: Any, check: Any) -> None:
    check(estimator)


def table() -> tuple[Any, Any]:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(make_table(rows=40).to_dict(as_series=False))
    frame["amount"] = frame["amount"].astype(float)
    return frame, frame.pop("label")


@pytest.fixture
def config(backbone: Path) -> dict[str, Any]:
    return {**SMALL, "model": {"backbone": str(backbone)}, "text": {"max_length": 24}}


def pipeline_of(config: dict[str, Any]) -> Pipeline:
    scaled = ColumnTransformer(
        [("scaled", StandardScaler(), ["amount"])],
        remainder="passthrough",
        verbose_feature_names_out=False,
    )
    steps = Pipeline([("columns", scaled), ("foldwise", FoldwiseClassifier(config))])
    return steps.set_output(transform="pandas")


def test_a_text_model_stands_behind_a_column_transformer(config: dict[str, Any]) -> None:
    rows, labels = table()
    pipeline = pipeline_of(config).fit(rows, labels)
    fitted = pipeline["foldwise"]
    assert fitted.feature_names_in_.tolist() == ["amount", "text", "kind"]
    probabilities = pipeline.predict_proba(rows)
    assert probabilities.shape == (40, 3)
    assert (fitted.classes_[probabilities.argmax(axis=1)] == pipeline.predict(rows)).all()
    named = Predictor(fitted.run_).predict(pipeline["columns"].transform(rows))
    assert (probabilities == named[[f"prob_{name}" for name in fitted.classes_]].to_numpy()).all()
    assert fitted.scores_["f1_macro"] > 0
    again = pickle.loads(pickle.dumps(pipeline))
    folder = fitted.run_
    del pipeline, fitted
    assert not Path(folder).exists()  # a temporary run goes with its estimator
    assert (again.predict_proba(rows) == probabilities).all()


def test_a_search_over_the_config_scores_it(config: dict[str, Any]) -> None:
    grid = {"foldwise__optimizer__lr": [3e-3]}
    search = GridSearchCV(pipeline_of(config), grid, cv=2, refit=False).fit(*table())
    assert search.best_params_ == {"foldwise__optimizer__lr": 3e-3}
    assert 0 <= search.best_score_ <= 1


def test_a_key_of_the_config_is_a_parameter(config: dict[str, Any]) -> None:
    estimator = FoldwiseClassifier(config, overrides={"training.epochs": 2})
    assert estimator.get_params()["training__epochs"] == 2
    estimator.set_params(optimizer__lr=1e-3, training__epochs=1, ensemble="model")
    assert estimator.overrides == {
        "training.epochs": 1,
        "optimizer.lr": 1e-3,
        "ensemble": "model",
    }
    assert clone(estimator).overrides == estimator.overrides
    with pytest.raises(ValueError, match="Invalid parameter 'epochs'"):
        estimator.set_params(epochs=3)
    with pytest.raises(ValueError, match=r"overrides: training\.epoch: .*did you mean 'epochs'"):
        estimator.set_params(training__epoch=3).fit(*table())


def test_texts_alone_are_enough_and_labels_keep_their_type(config: dict[str, Any]) -> None:
    rows, labels = table()
    numbers = labels.map({"card": 3, "loan": 1, "debt": 7}).to_numpy()
    estimator = FoldwiseClassifier(config).fit(rows["text"].tolist(), numbers)
    assert estimator.classes_.tolist() == [1, 3, 7]
    assert estimator.predict(rows["text"][:4]).dtype == numbers.dtype


def test_polars_frames_and_numbers_are_fitted(config: dict[str, Any]) -> None:
    frame = make_table(rows=40).with_columns(pl.col("amount").cast(float))
    target = np.arange(40.0)
    estimator = FoldwiseRegressor(config, random_state=3).fit(frame.drop("label"), target)
    assert np.isfinite(estimator.predict(frame.drop("label"))).all()
    found = Predictor(estimator.run_).config
    assert (found.data.numeric, found.data.text, found.run.seed) == (["amount"], ["text"], 3)


def test_the_same_fit_in_a_folder_finds_its_run_done(
    config: dict[str, Any], tmp_path: Path
) -> None:
    rows, labels = table()
    first = FoldwiseClassifier(config, dir=tmp_path).fit(rows, labels)
    written = {path: path.stat().st_mtime_ns for path in Path(first.run_).rglob("*")}
    second = FoldwiseClassifier(config, dir=tmp_path).fit(rows, labels)
    assert second.run_ == first.run_
    assert written == {path: path.stat().st_mtime_ns for path in Path(first.run_).rglob("*")}
    other = FoldwiseClassifier(config, dir=tmp_path, random_state=1).fit(rows, labels)
    assert other.run_ != first.run_
    assert (pickle.loads(pickle.dumps(first)).predict(rows) == first.predict(rows)).all()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"task": "regression"}, "task: FoldwiseClassifier is for multiclass and ordinal"),
        ({"data": {"rare_classes": "merge"}}, "merge makes a class that y hasn't"),
        ({"folds": {"n": 100}}, "folds.n is 100"),
    ],
)
def test_a_config_that_does_not_fit_is_a_value_error(
    config: dict[str, Any], changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        FoldwiseClassifier({**config, **changed}).fit(*table())


def test_what_is_not_fitted_says_so(config: dict[str, Any]) -> None:
    with pytest.raises(NotFittedError):
        FoldwiseClassifier(config).predict(table()[0])
