"""What is predicted: the seam between the workflow and everything it must not know.

`Task` is all that workflow.py and the training loop see. Its one half is a `Target`: what the
column to predict holds, the loss, predictions, metrics. `Multiclass` is the target of one label a
row, targets/ has the others; text classification adds rows, batches and a model to whichever the
config names, and so can yours for any other kind of data.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from foldwise.config.schema import SMOOTHED, Config
from foldwise.errors import FoldwiseError
from foldwise.losses.classes import class_weights, takes_class_weights, weight_rule
from foldwise.metrics.metric import Metric, builtin_metric, evaluate, per_class
from foldwise.parts.registry import BUILT_IN, build_part, find_part
from foldwise.parts.usercode import UserCode


class Task(Protocol):
    """A kind of prediction over rows of some kind."""

    def rows(self) -> pl.DataFrame:
        """Return all rows, where the config names no table (`data.path: null`)."""

    def fit_target(self, frame: pl.DataFrame) -> None:
        """Learn what the target can be, from all cross-validation rows; once for all folds."""

    def fit_rows(self, frame: pl.DataFrame) -> None:
        """Fit whatever is fitted (weights, encoders) on the training rows of a fold."""

    def state(self) -> dict[str, dict[str, Any]]:
        """Return what was fitted as JSON values: {"target": ..., "rows": ...}."""

    def load_state(self, state: dict[str, dict[str, Any]]) -> None:
        """Take back what `state` returned."""

    def save(self, folder: Path) -> None:
        """Write the files that building model and rows again needs into the run folder."""

    def check(self) -> None:
        """Raise FoldwiseError for parts that can't work, before anything is written."""

    def dataset(self, frame: pl.DataFrame) -> Any:
        """Return rows by position; with `lengths` (rows,) if batches should be of like length."""

    def collate(self, rows: Sequence[Any]) -> dict[str, Tensor]:
        """Turn rows into a batch: the model's keyword arguments, and `target`."""

    def build_model(self) -> nn.Module:
        """Build a fresh model; its output is logits (B, n_outputs)."""

    def loss(self, outputs: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Return one loss a row, (B,)."""

    def to_columns(self, logits: np.ndarray) -> dict[str, Any]:
        """Turn logits (n, n_outputs) into prediction, prob_* and logit_* columns."""

    def to_arrays(self, frame: pl.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Turn a table of target, prediction and prob_* into what metrics take."""

    def metrics(self) -> list[Metric]:
        """Return the metrics to show, the one that selects first or among them."""

    def stratify_key(self, frame: pl.DataFrame) -> np.ndarray | None:
        """Return the labels that folds are stratified by, object (n,); None for none.

        Or a bool (n, labels), where a row can have several.
        """


class Target:
    """What every kind of target has; the kinds say what is learnt, lost and scored.

    Attributes:
        holds: what a cell of the target column is: one label, a set of labels, or a number.
        classes: the labels, in the order of the logits; none where a number is predicted.

    Args:
        config: `data.target`, `loss` and `metrics` are read.
        code: the user's files.
    """

    holds: Literal["label", "labels", "number"] = "label"

    def __init__(self, config: Config, code: UserCode) -> None:
        self.config = config
        self.code = code
        self.target = config.data.target or "target"
        self.classes: list[str] = []

    def rows(self) -> pl.DataFrame:
        """Refuse: a table is needed unless the task brings its own rows."""
        raise FoldwiseError(
            f"data.path is null, but task {self.config.task} brings no rows of its own; name "
            "a table"
        )

    def save(self, folder: Path) -> None:
        """Write nothing: labels and weights are in the state."""

    def metrics(self) -> list[Metric]:
        """Return the metrics the config names, in its order."""
        return [
            build_metric(part.name, part.arguments, self.code, f"metrics[{number}]")
            if "." in part.name
            else self.built_in_metric(part.name)
            for number, part in enumerate(self.config.metrics)
        ]

    def built_in_metric(self, name: str) -> Metric:
        """Look up a metric of this kind of target by its name in the config."""
        return builtin_metric(name)

    def check_labels(self, frame: pl.DataFrame) -> None:
        """Accept any label: one that is new to the model counts as wrong."""


class Multiclass(Target):
    """One of several labels a row."""

    def __init__(self, config: Config, code: UserCode) -> None:
        super().__init__(config, code)
        self.weights: list[float] | None = None
        self.class_counts: list[int] | None = None
        self._loss: nn.Module | None = None

    @property
    def n_outputs(self) -> int:
        """Logits a row."""
        return len(self.classes)

    def fit_target(self, frame: pl.DataFrame) -> None:
        """Fix the class list: the labels that occur, sorted."""
        self.classes = sorted(frame[self.target].cast(pl.String).unique().to_list())

    def fit_rows(self, frame: pl.DataFrame) -> None:
        """Count the classes of a fold's training rows and compute their weights."""
        self._weigh(self.target_ids(frame))

    def state(self) -> dict[str, dict[str, Any]]:
        """Return the class list, and of the training rows the class counts and weights."""
        rows = {"class_counts": self.class_counts, "class_weights": self.weights}
        return {"target": {"classes": self.classes}, "rows": rows}

    def load_state(self, state: dict[str, dict[str, Any]]) -> None:
        """Take back class list, class counts and class weights."""
        self.classes = list(state["target"]["classes"])
        self.class_counts = state.get("rows", {}).get("class_counts")
        self.weights = state.get("rows", {}).get("class_weights")
        self._loss = None

    def check(self) -> None:
        """Try class weights, loss and metrics on made-up rows."""
        each = np.arange(len(self.classes), dtype=np.int64)
        for metric in self.metrics():
            evaluate(metric, each, each, np.eye(len(each)))
        loss = self.config.loss
        if loss.class_weights not in ("auto", "none") and not takes_class_weights(
            loss.name, self.code
        ):
            raise FoldwiseError(
                f"loss.class_weights: {loss.name} takes no class weights (its constructor has no "
                "argument `weight`); leave class_weights out, or set it to none"
            )
        self._weigh(each)
        logits = torch.zeros(2, self.n_outputs)
        try:
            self.loss(logits, {"target": torch.zeros(2, dtype=torch.int64)})
        except FoldwiseError:
            raise
        except Exception as error:  # whatever a user's loss raises is the input's fault
            raise FoldwiseError(
                f"loss.name {self.config.loss.name} fails on logits {tuple(logits.shape)} and "
                f"targets (2,): {type(error).__name__}: {error}"
            ) from error
        self.weights, self.class_counts, self._loss = None, None, None

    def target_ids(self, frame: pl.DataFrame) -> np.ndarray:
        """Return class ids, int64 (n,); -1 for a label that isn't in the class list."""
        ids = {label: number for number, label in enumerate(self.classes)}
        labels = frame[self.target].cast(pl.String).to_list()
        return np.array([ids.get(label, -1) for label in labels], dtype=np.int64)

    def target_values(self, frame: pl.DataFrame) -> np.ndarray | None:
        """Return what batches hold as target, (n, ...); None before the classes are known."""
        return self.target_ids(frame) if self.classes else None

    def loss(self, outputs: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Return the configured loss of each row, (B,), of logits (B, n_classes)."""
        if self._loss is None:
            self._loss = self._build_loss().to(outputs.device)
        losses: Tensor = self._loss(outputs, batch["target"])
        if losses.shape != batch["target"].shape:
            raise FoldwiseError(
                f"loss.name {self.config.loss.name}: returns shape {tuple(losses.shape)}; it must "
                f"return one value a row, {tuple(batch['target'].shape)} (reduction='none')"
            )
        return losses

    def to_columns(self, logits: np.ndarray) -> dict[str, Any]:
        """Return labels, probabilities (softmax) and logits by class name."""
        logits = logits.astype(np.float64)
        exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = exponents / exponents.sum(axis=1, keepdims=True)
        names = np.array(self.classes, dtype=object)
        columns: dict[str, Any] = {"prediction": names[logits.argmax(axis=1)].tolist()}
        columns |= {f"prob_{name}": probabilities[:, i] for i, name in enumerate(self.classes)}
        columns |= {f"logit_{name}": logits[:, i] for i, name in enumerate(self.classes)}
        return columns

    def from_probabilities(self, probabilities: np.ndarray) -> dict[str, Any]:
        """Return the same columns of probabilities (n, n_classes), logarithms for logits."""
        log = np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))
        columns: dict[str, Any] = {
            "prediction": [self.classes[i] for i in probabilities.argmax(axis=1)]
        }
        columns |= {f"prob_{name}": probabilities[:, i] for i, name in enumerate(self.classes)}
        columns |= {f"logit_{name}": log[:, i] for i, name in enumerate(self.classes)}
        return columns

    def to_arrays(self, frame: pl.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return class ids of target and prediction (n,), and probabilities (n, n_classes).

        A target label that no class has gets an id of its own past the last: it counts as wrong.
        """
        ids = {label: number for number, label in enumerate(self.classes)}
        labels = frame["target"].cast(pl.String).to_list()
        for label in sorted(set(labels) - set(ids)):
            ids[label] = len(ids)
        target = np.array([ids[label] for label in labels], dtype=np.int64)
        prediction = np.array([ids[label] for label in frame["prediction"]], dtype=np.int64)
        probabilities = frame.select(f"prob_{name}" for name in self.classes).to_numpy()
        return target, prediction, probabilities

    def per_class(self, target: np.ndarray, prediction: np.ndarray) -> list[dict[str, Any]]:
        """Score each class by itself."""
        return per_class(target, prediction, self.classes)

    def stratify_key(self, frame: pl.DataFrame) -> np.ndarray | None:
        """Return the labels, object (n,)."""
        return np.array(frame[self.target].cast(pl.String).to_list(), dtype=object)

    def _weigh(self, target: np.ndarray) -> None:
        weights = class_weights(weight_rule(self.config.loss, self.code), target, self.classes)
        self.weights = None if weights is None else weights.tolist()
        self.class_counts = np.bincount(target, minlength=len(self.classes)).tolist()
        self._loss = None

    def _build_loss(self) -> nn.Module:
        loss = self.config.loss
        arguments = dict(loss.arguments)
        offered: dict[str, Any] = {"n_classes": len(self.classes)}
        offered["weight"] = None if self.weights is None else torch.tensor(self.weights)
        if self.class_counts is not None:
            offered["class_counts"] = torch.tensor(self.class_counts)
        if loss.name in SMOOTHED:
            arguments["label_smoothing"] = loss.label_smoothing
        elif loss.name not in BUILT_IN["loss"] and not self.code.has(loss.name):
            arguments["reduction"] = "none"
        built = build_part("loss", loss.name, arguments, self.code, "loss", **offered)
        return built  # type: ignore[no-any-return]


class TargetTask:
    """A task for the target that the config names; rows, batches and a model are yours to add.

    Attributes:
        half: Multiclass, Multilabel, Ordinal or Regression; a task of one's own is multiclass.

    Args:
        config: the whole config.
        code: the user's files.
    """

    def __init__(self, config: Config, code: UserCode) -> None:
        self.config = config
        self.code = code
        named = config.task if config.task in BUILT_IN["target"] else "multiclass"
        self.half: Any = find_part("target", named, code, "task")(config, code)
        self.target: str = self.half.target
        self.holds: str = self.half.holds

    @property
    def classes(self) -> list[str]:
        """The labels, in the order of the logits; none for regression."""
        return self.half.classes  # type: ignore[no-any-return]

    @classes.setter
    def classes(self, classes: list[str]) -> None:
        self.half.classes = classes

    @property
    def n_outputs(self) -> int:
        """Logits a row."""
        return self.half.n_outputs  # type: ignore[no-any-return]

    def rows(self) -> pl.DataFrame:
        """Refuse: a table is needed unless the task brings its own rows."""
        return self.half.rows()  # type: ignore[no-any-return]

    def save(self, folder: Path) -> None:
        """Write the files of the target: none."""
        self.half.save(folder)

    def fit_target(self, frame: pl.DataFrame) -> None:
        """Learn what the target can be, from all cross-validation rows."""
        self.half.fit_target(frame)

    def fit_rows(self, frame: pl.DataFrame) -> None:
        """Fit what the target needs (weights, scale) on the training rows of a fold."""
        self.half.fit_rows(frame)

    def state(self) -> dict[str, dict[str, Any]]:
        """Return what was fitted of the target."""
        return self.half.state()  # type: ignore[no-any-return]

    def load_state(self, state: dict[str, dict[str, Any]]) -> None:
        """Take back what `state` returned."""
        self.half.load_state(state)

    def check(self) -> None:
        """Try loss and metrics on made-up rows."""
        self.half.check()

    def check_labels(self, frame: pl.DataFrame) -> None:
        """Raise FoldwiseError for labelled rows that can't be scored."""
        self.half.check_labels(frame)

    def target_values(self, frame: pl.DataFrame) -> np.ndarray | None:
        """Return what batches hold as target, (n, ...); None where it isn't known."""
        return self.half.target_values(frame)  # type: ignore[no-any-return]

    def loss(self, outputs: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Return one loss a row, (B,)."""
        return self.half.loss(outputs, batch)  # type: ignore[no-any-return]

    def to_columns(self, logits: np.ndarray) -> dict[str, Any]:
        """Turn logits (n, n_outputs) into prediction, prob_* and logit_* columns."""
        return self.half.to_columns(logits)  # type: ignore[no-any-return]

    def from_probabilities(self, probabilities: np.ndarray) -> dict[str, Any]:
        """Turn probabilities (n, n_classes) into the same columns."""
        return self.half.from_probabilities(probabilities)  # type: ignore[no-any-return]

    def to_arrays(self, frame: pl.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Turn a table of target, prediction and prob_* into what metrics take."""
        return self.half.to_arrays(frame)  # type: ignore[no-any-return]

    def per_class(self, target: np.ndarray, prediction: np.ndarray) -> list[dict[str, Any]]:
        """Score each class by itself; nothing for regression."""
        return self.half.per_class(target, prediction)  # type: ignore[no-any-return]

    def metrics(self) -> list[Metric]:
        """Return the metrics the config names, in its order."""
        return self.half.metrics()  # type: ignore[no-any-return]

    def built_in_metric(self, name: str) -> Metric:
        """Look up a metric of this kind of target by its name in the config."""
        return self.half.built_in_metric(name)  # type: ignore[no-any-return]

    def stratify_key(self, frame: pl.DataFrame) -> np.ndarray | None:
        """Return what folds are stratified by."""
        return self.half.stratify_key(frame)  # type: ignore[no-any-return]


def build_metric(name: str, arguments: dict[str, Any], code: UserCode, where: str) -> Metric:
    """Build a metric: built in, a function of yours, or a class of torchmetrics.

    A function of yours takes `(target, prediction, probabilities)` and returns a float; set its
    attribute `greater_is_better = False` where less is better. A class of torchmetrics is updated
    once with probabilities and targets of the whole fold.
    """
    if "." not in name:
        return builtin_metric(name)
    if code.has(name):
        function = code.find(name, where)
        if not callable(function):
            raise FoldwiseError(f"{where}: {name} is not a function")

        def compute(target: np.ndarray, prediction: np.ndarray, probabilities: np.ndarray) -> float:
            try:
                return float(function(target, prediction, probabilities, **arguments))
            except Exception as error:
                raise FoldwiseError(
                    f"{where}: {name} fails on {len(target)} rows: {type(error).__name__}: {error}"
                    "; it takes (target, prediction, probabilities) and returns one number"
                ) from error

        better = bool(getattr(function, "greater_is_better", True))
        return Metric(name, compute, better, "probabilities")
    part = find_part("metric", name, code, where)

    def torch_metric(
        target: np.ndarray, prediction: np.ndarray, probabilities: np.ndarray
    ) -> float:
        n = probabilities.shape[1]
        metric = build_part("metric", name, arguments, code, where, num_classes=n, num_labels=n)
        # Without probabilities the prediction is a number, and all there is.
        given = probabilities if n else prediction
        try:
            metric.update(torch.from_numpy(given), torch.from_numpy(target))
            return float(metric.compute())
        except Exception as error:
            raise FoldwiseError(
                f"{where}: {name} fails on {len(target)} rows: {type(error).__name__}: {error}; "
                "it is given probabilities and class ids, and computes one number"
            ) from error

    better = getattr(part, "higher_is_better", True) is not False
    return Metric(name, torch_metric, better, "probabilities")
