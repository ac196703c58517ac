"""What is predicted: the seam between the workflow and everything it must not know.

`Task` is all that workflow.py and the training loop see. `Multiclass` is the half that any
classification shares (labels, loss, predictions, metrics); text classification adds rows, batches
and a model to it, and so can yours for any other kind of data.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError
from foldwise.evaluation.metrics import Metric, builtin_metric, evaluate
from foldwise.parts import BUILT_IN, build_part, find_part
from foldwise.training.losses import class_weights
from foldwise.usercode import UserCode


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
        """Return the labels that folds are stratified by, object (n,); None for none."""


class Multiclass:
    """One of several labels a row.

    Args:
        config: `data.target`, `loss` and `metrics` are read.
        code: the user's files.
    """

    def __init__(self, config: Config, code: UserCode) -> None:
        self.config = config
        self.code = code
        self.target = config.data.target or "target"
        self.classes: list[str] = []
        self.weights: list[float] | None = None
        self._loss: nn.Module | None = None

    def rows(self) -> pl.DataFrame:
        """Refuse: a table is needed unless the task brings its own rows."""
        raise FoldwiseError(
            f"data.path is null, but task {self.config.task} brings no rows of its own; name "
            "a table"
        )

    def fit_target(self, frame: pl.DataFrame) -> None:
        """Fix the class list: the labels that occur, sorted."""
        self.classes = sorted(frame[self.target].cast(pl.String).unique().to_list())

    def fit_rows(self, frame: pl.DataFrame) -> None:
        """Compute the class weights of a fold's training rows."""
        rule = self.config.loss.class_weights
        weights = class_weights(rule, self.target_ids(frame), self.classes)
        self.weights = None if weights is None else weights.tolist()
        self._loss = None

    def state(self) -> dict[str, dict[str, Any]]:
        """Return the class list and the class weights."""
        return {"target": {"classes": self.classes}, "rows": {"class_weights": self.weights}}

    def load_state(self, state: dict[str, dict[str, Any]]) -> None:
        """Take back class list and class weights."""
        self.classes = list(state["target"]["classes"])
        self.weights = state.get("rows", {}).get("class_weights")
        self._loss = None

    def save(self, folder: Path) -> None:
        """Write nothing: labels and weights are in the state."""

    def check(self) -> None:
        """Try class weights, loss and metrics on made-up rows."""
        each = np.arange(len(self.classes), dtype=np.int64)
        for metric in self.metrics():
            evaluate(metric, each, each, np.eye(len(each)))
        weights = class_weights(self.config.loss.class_weights, each, self.classes)
        self.weights = None if weights is None else weights.tolist()
        logits = torch.zeros(2, max(2, len(self.classes)))
        try:
            self.loss(logits, {"target": torch.zeros(2, dtype=torch.int64)})
        except FoldwiseError:
            raise
        except Exception as error:  # whatever a user's loss raises is the input's fault
            raise FoldwiseError(
                f"loss.name {self.config.loss.name} fails on logits {tuple(logits.shape)} and "
                f"targets (2,): {type(error).__name__}: {error}"
            ) from error
        self.weights, self._loss = None, None

    def target_ids(self, frame: pl.DataFrame) -> np.ndarray:
        """Return class ids, int64 (n,); -1 for a label that isn't in the class list."""
        ids = {label: number for number, label in enumerate(self.classes)}
        labels = frame[self.target].cast(pl.String).to_list()
        return np.array([ids.get(label, -1) for label in labels], dtype=np.int64)

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

    def metrics(self) -> list[Metric]:
        """Return the metrics the config names, in its order."""
        return [
            build_metric(part.name, part.arguments, self.code, f"metrics[{number}]")
            for number, part in enumerate(self.config.metrics)
        ]

    def stratify_key(self, frame: pl.DataFrame) -> np.ndarray | None:
        """Return the labels, object (n,)."""
        return np.array(frame[self.target].cast(pl.String).to_list(), dtype=object)

    def _build_loss(self) -> nn.Module:
        loss = self.config.loss
        weight = None if self.weights is None else torch.tensor(self.weights)
        arguments = dict(loss.arguments)
        if loss.name in BUILT_IN["loss"]:
            arguments["label_smoothing"] = loss.label_smoothing
        elif not self.code.has(loss.name):
            arguments["reduction"] = "none"
        built = build_part(
            "loss",
            loss.name,
            arguments,
            self.code,
            "loss",
            weight=weight,
            n_classes=len(self.classes),
        )
        return built  # type: ignore[no-any-return]


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
        metric = build_part(
            "metric", name, arguments, code, where, num_classes=probabilities.shape[1]
        )
        try:
            metric.update(torch.from_numpy(probabilities), torch.from_numpy(target))
            return float(metric.compute())
        except Exception as error:
            raise FoldwiseError(
                f"{where}: {name} fails on {len(target)} rows: {type(error).__name__}: {error}; "
                "it is given probabilities and class ids, and computes one number"
            ) from error

    better = getattr(part, "higher_is_better", True) is not False
    return Metric(name, torch_metric, better, "probabilities")
