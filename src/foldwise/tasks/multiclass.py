"""One of several labels a row: class ids, weights, softmax; the half any classification shares."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from foldwise.config.schema import Config
from foldwise.config.training import SMOOTHED
from foldwise.errors import FoldwiseError
from foldwise.losses.classes import class_weights, takes_class_weights, weight_rule
from foldwise.metrics.metric import evaluate, per_class
from foldwise.parts.registry import BUILT_IN, build_part
from foldwise.parts.usercode import UserCode
from foldwise.tasks.task import Target


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
        self._weigh(self.target_ids(frame.drop_nulls(self.target)))

    def state(self) -> dict[str, dict[str, Any]]:
        """Return classes and merged labels, and of the training rows class counts and weights."""
        rows = {"class_counts": self.class_counts, "class_weights": self.weights}
        return {"target": {"classes": self.classes, "merged": self.merged}, "rows": rows}

    def load_state(self, state: dict[str, dict[str, Any]]) -> None:
        """Take back classes, merged labels, class counts and class weights."""
        self.classes = list(state["target"]["classes"])
        self.merged = list(state["target"].get("merged", []))
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
        """Return what batches hold as target; None before the classes are known.

        Class ids, int64 (n,); or, of rows that are taught, probabilities, float64 (n, n_classes).
        """
        if not self.classes:
            return None
        taught = self.taught(frame)
        return self.target_ids(frame) if taught is None else taught

    def loss(self, outputs: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Return the configured loss of each row, (B,), of logits (B, n_outputs).

        Of rows that are taught it is the mean over the labels, by their probabilities: whatever
        the loss, what it would come to for labels drawn by them.
        """
        target = batch["target"]
        if target.ndim == 1:
            return self._of_labels(outputs, target)
        each = [
            self._of_labels(outputs, torch.full_like(target[:, 0], number, dtype=torch.int64))
            for number in range(target.shape[1])
        ]
        losses: Tensor = (torch.stack(each, dim=1) * target.to(outputs)).sum(dim=1)
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

    def _of_labels(self, outputs: Tensor, target: Tensor) -> Tensor:
        if self._loss is None:
            self._loss = self._build_loss().to(outputs.device)
        losses: Tensor = self._loss(outputs, target)
        if losses.shape != target.shape:
            raise FoldwiseError(
                f"loss.name {self.config.loss.name}: returns shape {tuple(losses.shape)}; it must "
                f"return one value a row, {tuple(target.shape)} (reduction='none')"
            )
        return losses

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
