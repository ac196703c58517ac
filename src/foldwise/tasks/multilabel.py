"""Any number of labels a row, none included.

In: a cell's labels as sorted text with `data.separator` between them, which is how table.py hands
on list columns and separated text alike. Out: a logit for each label, decided by itself: it is
predicted from a probability of 0.5.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError
from foldwise.losses.binary import build_loss, check_one_a_row, try_loss
from foldwise.metrics.labels import multilabel_metric, per_label
from foldwise.metrics.metric import Metric, evaluate
from foldwise.parts.registry import find_part
from foldwise.parts.usercode import UserCode
from foldwise.tasks.task import Target


class Multilabel(Target):
    """Any number of labels a row.

    Attributes:
        ignored: labels too rare to be predicted (`data.rare_classes: drop`); scored nowhere.
    """

    holds = "labels"

    def __init__(self, config: Config, code: UserCode) -> None:
        super().__init__(config, code)
        self.separator = config.data.separator or ";"
        self.ignored: list[str] = []
        self.weights: list[float] | None = None
        self._shares: np.ndarray | None = None  # of the labels in the training rows
        self._loss: nn.Module | None = None

    @property
    def n_outputs(self) -> int:
        """Logits a row."""
        return len(self.classes)

    def fit_target(self, frame: pl.DataFrame) -> None:
        """Fix the label list: those that occur, sorted, without the rare ones.

        Raises:
            FoldwiseError: no row has a label, or one is rarer than folds.
        """
        cells = frame[self.target].to_list()
        labels = sorted({label for cell in cells for label in self._split(cell)})
        counts = dict(zip(labels, self._indicators(cells, labels).sum(axis=0), strict=True))
        n = self.config.folds.n
        rare = [label for label in labels if counts[label] < n]
        if rare and self.config.data.rare_classes == "error":
            named = ", ".join(f"{label!r} ({counts[label]})" for label in rare[:10])
            raise FoldwiseError(
                f"column {self.target!r}: fewer than folds.n = {n} rows have label {named}; set "
                "data.rare_classes: drop (such labels aren't predicted), or lower folds.n"
            )
        self.classes = [label for label in labels if label not in rare]
        self.ignored = rare
        if not self.classes:
            raise FoldwiseError(
                f"column {self.target!r} holds no label in as many as folds.n = {n} rows: nothing "
                "to learn; check data.target and data.separator"
            )

    def fit_rows(self, frame: pl.DataFrame) -> None:
        """Count the labels in a fold's training rows and compute the weights of their positives."""
        found = self._indicators(frame[self.target].drop_nulls().to_list(), self.classes)
        self._shares = (found.sum(axis=0) + 1) / (len(found) + 2)
        self._weigh(found)

    def start(self) -> np.ndarray | None:
        """Return the labels' log odds in the training rows, as the loss weighs them.

        From zero, where each label is as likely as not, the first steps push all logits down for
        all rows alike, and a backbone at the rates of fine-tuning can forget its texts by it. Lin
        et al. 2017 (focal loss) begin at a rare class's share for the same reason.
        """
        if self._shares is None:
            return None
        weights = np.ones(len(self.classes)) if self.weights is None else np.array(self.weights)
        start: np.ndarray = np.log(weights * self._shares / (1 - self._shares))
        return start

    def state(self) -> dict[str, dict[str, Any]]:
        """Return the labels and the weights of their positives."""
        target = {"classes": self.classes, "ignored": self.ignored}
        return {"target": target, "rows": {"pos_weight": self.weights}}

    def load_state(self, state: dict[str, dict[str, Any]]) -> None:
        """Take back labels and weights."""
        self.classes = list(state["target"]["classes"])
        self.ignored = list(state["target"].get("ignored", []))
        self.weights = state.get("rows", {}).get("pos_weight")
        self._loss = None

    def check(self) -> None:
        """Try weights, loss and metrics on made-up rows."""
        name = self.config.loss.name
        part = find_part("loss", name, self.code, "loss")
        weighing = self.config.loss.class_weights not in ("auto", "none")
        if weighing and "pos_weight" not in inspect.signature(part).parameters:
            raise FoldwiseError(
                f"loss.class_weights: {name} takes none (its constructor has no argument "
                "`pos_weight`); leave class_weights out"
            )
        each = np.eye(len(self.classes), dtype=np.int64)
        each = np.concatenate([each, 1 - each])
        for metric in self.metrics():
            evaluate(metric, each, each, each.astype(np.float64))
        self._weigh(each)
        try_loss(self, torch.zeros(2, len(self.classes)), torch.ones(2, len(self.classes)))
        self.weights, self._loss = None, None

    def target_values(self, frame: pl.DataFrame) -> np.ndarray | None:
        """Return 1 for each label a row has, float32 (n, n_labels); unknown labels are left out.

        Of rows that are taught, the labels' probabilities.
        """
        if not self.classes:
            return None
        if (taught := self.taught(frame)) is not None:
            return taught.astype(np.float32)
        return self._indicators(frame[self.target].to_list(), self.classes).astype(np.float32)

    def loss(self, outputs: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Return the loss of each row, (B,), of logits (B, n_labels)."""
        if self._loss is None:
            weight = None if self.weights is None else torch.tensor(self.weights)
            self._loss = build_loss(
                self.config, self.code, pos_weight=weight, n_classes=len(self.classes)
            ).to(outputs.device)
        losses: Tensor = self._loss(outputs, batch["target"])
        if losses.shape == outputs.shape and "torch.nn" in type(self._loss).__module__:
            losses = losses.mean(dim=1)  # torch's own give one value a label
        return check_one_a_row(losses, len(outputs), self.config.loss.name)

    def to_columns(self, logits: np.ndarray) -> dict[str, Any]:
        """Return the predicted labels as sorted text, probabilities (sigmoid) and logits."""
        logits = logits.astype(np.float64)
        small = np.exp(-np.abs(logits))  # of what is negative only: no overflow in either tail
        probabilities = np.where(logits >= 0, 1 / (1 + small), small / (1 + small))
        return self._columns(probabilities, logits)

    def from_probabilities(self, probabilities: np.ndarray) -> dict[str, Any]:
        """Return the same columns of probabilities (n, n_labels)."""
        tiny = np.finfo(np.float64).tiny
        yes, no = (np.log(np.maximum(p, tiny)) for p in (probabilities, 1 - probabilities))
        return self._columns(probabilities, yes - no)

    def to_arrays(self, frame: pl.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return indicators of target and prediction, int64 (n, m), and probabilities.

        A label that is new to the model gets a column of its own past the last, m > n_labels: it
        counts as missed. Probabilities are (n, n_labels).
        """
        target, prediction = frame["target"].to_list(), frame["prediction"].to_list()
        known = {*self.classes, *self.ignored}
        new = sorted({label for cell in target for label in self._split(cell)} - known)
        labels = [*self.classes, *new]
        probabilities = frame.select(f"prob_{name}" for name in self.classes).to_numpy()
        return self._indicators(target, labels), self._indicators(prediction, labels), probabilities

    def per_class(self, target: np.ndarray, prediction: np.ndarray) -> list[dict[str, Any]]:
        """Score each label by itself."""
        return per_label(target, prediction, self.classes)

    def built_in_metric(self, name: str) -> Metric:
        """Look up a metric of sets of labels."""
        return multilabel_metric(name)

    def stratify_key(self, frame: pl.DataFrame) -> np.ndarray | None:
        """Return which labels each row has, bool (n, labels)."""
        cells = frame[self.target].to_list()
        labels = sorted({label for cell in cells for label in self._split(cell)})
        return self._indicators(cells, labels).astype(bool)

    def joined(self, chosen: np.ndarray) -> list[str]:
        """Write sets of labels, bool (n, labels), as cells."""
        names = np.array(self.classes, dtype=object)
        return [self.separator.join(names[row].tolist()) for row in chosen]

    def _columns(self, probabilities: np.ndarray, logits: np.ndarray) -> dict[str, Any]:
        columns: dict[str, Any] = {"prediction": self.joined(probabilities >= 0.5)}
        columns |= {f"prob_{name}": probabilities[:, i] for i, name in enumerate(self.classes)}
        return columns | {f"logit_{name}": logits[:, i] for i, name in enumerate(self.classes)}

    def _split(self, cell: str) -> list[str]:
        return cell.split(self.separator) if cell else []

    def _indicators(self, cells: Sequence[str], labels: Sequence[str]) -> np.ndarray:
        # int64 (n, labels); labels that aren't listed are left out.
        column = {label: number for number, label in enumerate(labels)}
        indicators = np.zeros((len(cells), len(labels)), dtype=np.int64)
        for row, cell in enumerate(cells):
            for label in self._split(cell):
                if label in column:
                    indicators[row, column[label]] = 1
        return indicators

    def _weigh(self, indicators: np.ndarray) -> None:
        rule = self.config.loss.class_weights
        positives = indicators.sum(axis=0)
        ratio = np.where(positives > 0, (len(indicators) - positives) / np.maximum(positives, 1), 1)
        self._loss = None
        if rule in ("auto", "none"):
            self.weights = None
        elif isinstance(rule, dict):
            if wrong := sorted(set(rule) ^ set(self.classes)):
                raise FoldwiseError(
                    f"loss.class_weights must name each label once; {wrong[0]!r} is "
                    + ("missing" if wrong[0] in self.classes else "no label of the target")
                    + f"; the labels are: {', '.join(self.classes)}"
                )
            self.weights = [float(rule[label]) for label in self.classes]
        else:
            # A label that every training row has would weigh 0: it keeps a little.
            ratio = np.maximum(ratio, 1 / len(indicators))
            self.weights = (np.sqrt(ratio) if rule == "sqrt" else ratio).tolist()
