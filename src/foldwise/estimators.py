"""A run as a scikit-learn estimator: `fit` cross-validates, `predict` is the run's answer.

In: a frame (pandas or polars), an array, or a list of texts, and the target. `fit` makes a run of
them, as `foldwise train` would, and `predict` gives what `foldwise predict` would. So a run can
stand in a `Pipeline` behind a column transformer, in `cross_val_score`, and in `GridSearchCV`,
which reaches every key of the config by its name with `__` for the dots: `training__epochs`.

Protocol: https://scikit-learn.org/stable/developers/develop.html
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    check_array,
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from foldwise.config.load import dump_config, load_config
from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError
from foldwise.predictor import Predictor
from foldwise.run.folder import RunFolder
from foldwise.run.seal import read_metrics
from foldwise.table.frames import content_sha256, is_pandas, to_frame
from foldwise.table.reading import ROW
from foldwise.table.roles import guess_roles
from foldwise.workflow import cross_validate

_ROLES = ("text", "categorical", "numeric")
_TARGET = "target"
_SECTIONS = tuple(Config.model_fields)


class _Estimator(BaseEstimator):  # type: ignore[misc]
    """What classifier and regressor share: a table and a config in, a run out."""

    _task: str
    _tasks: str
    _predictor: Predictor | None

    def __init__(
        self,
        config: Config | str | os.PathLike[str] | Mapping[str, Any] | None = None,
        *,
        overrides: Mapping[str, Any] | None = None,
        dir: str | os.PathLike[str] | None = None,
        random_state: int | None = None,
    ) -> None:
        self.config = config
        self.overrides = overrides
        self.dir = dir
        self.random_state = random_state

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters; with `deep`, those of `overrides` by their names as well."""
        params: dict[str, Any] = super().get_params(deep=False)
        if deep and isinstance(self.overrides, Mapping):
            named = self.overrides.items()
            params |= {key.replace(".", "__"): value for key, value in named}
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters; `training__epochs=3` is `overrides={"training.epochs": 3}`.

        Raises:
            ValueError: a name is neither a parameter nor a key of the config's sections.
        """
        keys = [key for key in params if key.split("__")[0] in _SECTIONS]
        super().set_params(**{key: value for key, value in params.items() if key not in keys})
        if keys:
            changed = {key.replace("__", "."): params[key] for key in keys}
            self.overrides = {**(self.overrides or {}), **changed}
        return self

    def fit(self, X: Any, y: Any) -> Self:
        """Cross-validate on a table: what `foldwise train` does with it.

        Args:
            X: (n, columns): a pandas or polars frame, an array, or texts alone (a list or series).
                Columns that the config doesn't name aren't read; where it names none, their roles
                are guessed. An array's columns are called x0, x1, ...
            y: (n,), the target.

        Raises:
            ValueError: the table, the target or the config doesn't allow a run.
        """
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None"
            )
        frame = self._frame(X, reset=True)
        target = self._targets(y)
        if frame.height != len(target):
            raise ValueError(
                f"X and y have inconsistent numbers of samples: {frame.height} and {len(target)}"
            )
        if frame.height < 2:
            raise ValueError(f"n_samples={frame.height}: there is nothing to split")
        if _TARGET in frame.columns:
            raise ValueError(f"X: rename its column {_TARGET!r}: the target is called so here")
        table = frame.with_columns(pl.Series(_TARGET, target))
        self._forget()
        try:
            config = self._config(frame, table)
            run = cross_validate(config, console=None, data=table)
            self._predictor = Predictor(run.path, trust_code=True)  # it has run here
        except FoldwiseError as error:
            raise ValueError(str(error)) from error
        self.run_ = str(run.path)
        entries = read_metrics(run)["oof"]
        self.scores_ = {name: entry["value"] for name, entry in entries.items()}
        return self

    def _targets(self, y: Any) -> list[Any]:
        """Return y as cells of the target column, and keep what predictions are made of again."""
        raise NotImplementedError

    def _labelled(self, X: Any) -> pl.DataFrame:
        check_is_fitted(self, "run_")
        frame = self._frame(X, reset=False)
        try:
            if self._predictor is None:  # of an estimator that was unpickled
                self._predictor = Predictor(self.run_, trust_code=True)
            return self._predictor.predict(frame.drop(ROW, strict=False))
        except FoldwiseError as error:
            raise ValueError(str(error)) from error

    def _frame(self, X: Any, *, reset: bool) -> pl.DataFrame:
        if isinstance(X, pl.DataFrame) or is_pandas(X):
            validate_data(self, X, reset=reset, skip_check_array=True)
            try:
                frame, unread = to_frame(X)
            except FoldwiseError as error:
                raise ValueError(f"X: {error}") from error
            return frame.drop(*unread, strict=False)
        if _are_texts(X):
            array = np.asarray(X, dtype=object)[:, None]
        else:
            X = np.asarray(X) if hasattr(X, "__array__") else X
            X = check_array(X, dtype=None, ensure_all_finite=False, accept_sparse=False)
            array = check_array(
                X,
                dtype=None if X.dtype.kind in "OUS" else "numeric",
                ensure_all_finite=False if X.dtype.kind in "OUS" else "allow-nan",
            )
        validate_data(self, array, reset=reset, skip_check_array=True)
        names = [f"x{position}" for position in range(array.shape[1])]
        return to_frame([dict(zip(names, row, strict=True)) for row in array.tolist()])[0]

    def _config(self, frame: pl.DataFrame, table: pl.DataFrame) -> Config:
        base = {} if self.config is None else self.config
        values: dict[str, Any] = {"run.name": "run", "data.target": _TARGET}
        if self.random_state is not None:
            values |= {"run.seed": self.random_state, "folds.seed": self.random_state}
        if isinstance(base, Mapping) and not self._names_columns(base):
            roles = self._roles(frame)
            values |= {f"data.{role}": columns for role, columns in roles.items()}
            if not roles["text"] and not _has(base, "model.fusion"):
                values["model.fusion"] = "concat"
        given = self.overrides or {}
        if isinstance(base, Mapping):
            task = given.get("task", base.get("task", self._task))
            values["task"] = task
            if task != "regression" and not _has(base, "data.rare_classes"):
                values["data.rare_classes"] = "train_only"  # a class too rare to score can be said
        config = load_config(base, {**values, **given}, table="data")
        if (config.task == "regression") != (self._task == "regression") or (
            config.task == "multilabel"
        ):
            raise FoldwiseError(
                f"task: {type(self).__name__} is for {self._tasks}, not {config.task}; "
                "set it in `config`, or leave it out"
            )
        if config.data.rare_classes == "merge":
            raise FoldwiseError(
                "data.rare_classes: merge makes a class that y hasn't; use error, drop or "
                "train_only"
            )
        where = {"dir": self._place(), "name": "run"}
        if self.dir is not None:  # named by what it is made of: fitted again, it is there already
            made_of = f"{dump_config(config)}{content_sha256(table)}"
            digest = hashlib.sha256(made_of.encode()).hexdigest()
            where["name"] = f"{type(self).__name__}-{digest[:12]}"
        return config.model_copy(update={"run": config.run.model_copy(update=where)})

    def _names_columns(self, base: Mapping[str, Any]) -> bool:
        given = (base, self.overrides or {})
        return any(_has(values, f"data.{role}") for values in given for role in _ROLES)

    def _roles(self, frame: pl.DataFrame) -> dict[str, list[str]]:
        # What has a type of numbers is one, as everywhere in scikit-learn; the rest is guessed.
        numbers = [column.name for column in frame if column.dtype.is_numeric()]
        roles: dict[str, list[str]] = {"text": [], "categorical": [], "numeric": numbers}
        guesses = guess_roles(frame.drop(numbers).select(pl.all().cast(pl.String)))
        for guess in guesses:
            if guess.role in roles:
                roles[guess.role].append(guess.column)
        if not any(roles.values()):
            told = "; ".join(f"{guess.column} ({guess.reason})" for guess in guesses)
            raise FoldwiseError(
                f"X: no column to learn from: {told}; name columns under data.text, "
                "data.categorical and data.numeric of `config`"
            )
        return roles

    def _place(self) -> str:
        if self.dir is not None:
            return str(self.dir)
        self._folder = tempfile.TemporaryDirectory(prefix="foldwise-")
        return self._folder.name

    def _forget(self) -> None:
        self._predictor = None
        if (folder := self.__dict__.pop("_folder", None)) is not None:
            folder.cleanup()

    def __getstate__(self) -> dict[str, Any]:
        """Return what was set and fitted; a run in a temporary folder by its files' bytes."""
        state: dict[str, Any] = {**super().__getstate__(), "_predictor": None}
        if state.pop("_folder", None) is not None:
            run = RunFolder(Path(self.run_))
            files = [path for path in sorted(run.path.rglob("*")) if path.is_file()]
            state["_files"] = {str(p.relative_to(run.path)): p.read_bytes() for p in files}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        files = state.pop("_files", None)
        super().__setstate__(state)
        if files is None:
            return
        self._folder = tempfile.TemporaryDirectory(prefix="foldwise-")
        run = Path(self._folder.name) / "run"
        for name, content in files.items():
            (run / name).parent.mkdir(parents=True, exist_ok=True)
            (run / name).write_bytes(content)
        self.run_ = str(run)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        return tags


class FoldwiseClassifier(ClassifierMixin, _Estimator):  # type: ignore[misc]
    """A cross-validated classifier of rows with text, categories and numbers.

    Attributes:
        classes_: of y, sorted.
        run_: the run's folder, for `Predictor` and every command.
        scores_: the run's out-of-fold scores by metric.
        n_features_in_: columns of X.
        feature_names_in_: their names, where X is a frame.

    Args:
        config: a YAML file, the same as a dict, or a `Config`; without one, or without columns in a
            dict, columns have the roles that their cells suggest. data.path, data.target, run.name
            and run.dir are set here.
        overrides: values that replace the config's: `{"training.epochs": 3}`.
        dir: where the run lies, named by config and rows, so that the same fit again finds it done
            or goes on; None: a temporary folder, which goes with the estimator and into its pickle.
        random_state: of folds and training; None: the config's.
    """

    _task = "multiclass"
    _tasks = "multiclass and ordinal"

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the label of each row, (n,)."""
        found = self._labelled(X)["prediction"]
        at = {name: i for i, name in enumerate(self._names)}
        labels: NDArray[Any] = self.classes_[[at[str(label)] for label in found]]
        return labels

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the probability of each of `classes_`, (n, classes)."""
        labelled = self._labelled(X)
        columns = [f"prob_{name}" for name in self._names]
        lacking = [pl.lit(0.0).alias(name) for name in columns if name not in labelled.columns]
        proba: NDArray[np.float64] = labelled.with_columns(lacking).select(columns).to_numpy()
        return proba.astype(np.float64)

    def _targets(self, y: Any) -> list[Any]:
        check_classification_targets(y)
        values = column_or_1d(y, warn=True)
        self.classes_ = np.unique(values)
        if len(self.classes_) < 2:
            raise ValueError(f"y has one class, {self.classes_[0]!r}: a classifier needs two")
        names = [str(label) for label in self.classes_]
        stripped = {name.strip() for name in names}
        sound = len(stripped) == len(names) and "" not in stripped
        # Under their own names in the run's files, where those can be told apart.
        self._names = (
            names if sound and stripped == set(names) else [f"class {i}" for i in range(len(names))]
        )
        return [self._names[i] for i in np.searchsorted(self.classes_, values)]


class FoldwiseRegressor(RegressorMixin, _Estimator):  # type: ignore[misc]
    """A cross-validated regressor; arguments and attributes as of `FoldwiseClassifier`."""

    _task = "regression"
    _tasks = "regression"

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Return the number of each row, (n,)."""
        numbers: NDArray[np.float64] = self._labelled(X)["prediction"].to_numpy()
        return numbers.astype(np.float64)

    def _targets(self, y: Any) -> list[Any]:
        values = column_or_1d(y, warn=True)
        numbers = check_array(values, ensure_2d=False, dtype=np.float64, input_name="y")
        cells: list[Any] = numbers.tolist()
        return cells


def _has(values: Mapping[str, Any], key: str) -> bool:
    section, _, rest = key.partition(".")
    inner = values.get(section)
    return key in values or (isinstance(inner, Mapping) and rest in inner)


def _are_texts(X: Any) -> bool:
    if type(X).__name__ == "Series" or isinstance(X, list | tuple):
        X = np.asarray(X, dtype=object)
    return isinstance(X, np.ndarray) and X.ndim == 1 and all(isinstance(x, str | None) for x in X)
