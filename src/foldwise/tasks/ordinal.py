"""One of several labels that have an order: ratings, grades, severities.

In: labels, ordered by `data.order` or by their numbers. Out: n_classes - 1 logits a row and
probabilities that follow from them. CORN (Shi, Cao & Raschka 2021) was chosen over CORAL (Cao,
Mirjalili & Raschka 2020): its probabilities are in order too, and it needs no output layer of
shared weights, so that any head can be used.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl

from foldwise.errors import FoldwiseError
from foldwise.metrics.metric import Metric
from foldwise.metrics.numbers import ordinal_metric
from foldwise.tasks.multiclass import Multiclass


class Ordinal(Multiclass):
    """One of several ordered labels a row."""

    ordered = True

    @property
    def n_outputs(self) -> int:
        """Logits a row: one for each step between two labels."""
        return len(self.classes) - 1

    def fit_target(self, frame: pl.DataFrame) -> None:
        """Fix the class list, from low to high.

        Raises:
            FoldwiseError: a label isn't in `data.order`, or there is no order and labels aren't
                different numbers.
        """
        labels = sorted(frame[self.target].cast(pl.String).unique().to_list())
        order = self.config.data.order
        if order is not None:
            self.classes = list(order)
            self.check_labels(frame)
            return
        numbers = {label: _number(label) for label in labels}
        words = [label for label, number in numbers.items() if not math.isfinite(number)]
        if words:
            raise FoldwiseError(
                f"column {self.target!r}: label {words[0]!r} isn't a number, so the order isn't "
                f"known; list the labels from low to high under data.order: {', '.join(labels)}"
            )
        self.classes = sorted(labels, key=numbers.__getitem__)
        for low, high in zip(self.classes, self.classes[1:], strict=False):
            if numbers[low] == numbers[high]:
                raise FoldwiseError(
                    f"column {self.target!r}: labels {low!r} and {high!r} are the same number; "
                    "write them alike, or list the labels under data.order"
                )

    def check_labels(self, frame: pl.DataFrame) -> None:
        """Refuse a label that has no place in the order.

        Raises:
            FoldwiseError: naming the labels.
        """
        self._known(frame[self.target].cast(pl.String).to_list())

    def to_columns(self, logits: np.ndarray) -> dict[str, Any]:
        """Return the median label, probabilities by class name, and the logits.

        `logit_above_<label>` is the logit of lying above a label, given that it is reached.
        """
        logits = logits.astype(np.float64)
        # exp of what is negative only: no overflow in either tail.
        small = np.exp(-np.abs(logits))
        above = np.where(logits >= 0, 1 / (1 + small), small / (1 + small))
        exceeding = np.cumprod(above, axis=1)  # P(label > k), (n, n_classes - 1): never rises
        edges = np.ones((len(logits), 1))
        probabilities = -np.diff(np.concatenate([edges, exceeding, 0 * edges], axis=1), axis=1)
        return self._columns(exceeding, probabilities, logits)

    def from_probabilities(self, probabilities: np.ndarray) -> dict[str, Any]:
        """Return the same columns of probabilities (n, n_classes)."""
        reaching = probabilities[:, ::-1].cumsum(axis=1)[:, ::-1]  # P(label >= k)
        tiny = np.finfo(np.float64).tiny
        above, at = (np.maximum(p, tiny) for p in (reaching[:, 1:], probabilities[:, :-1]))
        return self._columns(reaching[:, 1:], probabilities, np.log(above) - np.log(at))

    def to_arrays(self, frame: pl.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return ranks of target and prediction (n,), and probabilities (n, n_classes).

        Raises:
            FoldwiseError: a target label has no place in the order.
        """
        self._known(frame["target"].cast(pl.String).to_list())
        return super().to_arrays(frame)

    def built_in_metric(self, name: str) -> Metric:
        """Look up a metric of ordered labels."""
        return ordinal_metric(name)

    def _columns(
        self, exceeding: np.ndarray, probabilities: np.ndarray, logits: np.ndarray
    ) -> dict[str, Any]:
        ranks = (exceeding > 0.5).sum(axis=1)
        columns: dict[str, Any] = {"prediction": [self.classes[rank] for rank in ranks]}
        columns |= {f"prob_{name}": probabilities[:, i] for i, name in enumerate(self.classes)}
        steps = enumerate(self.classes[:-1])
        return columns | {f"logit_above_{name}": logits[:, i] for i, name in steps}

    def _known(self, labels: list[str]) -> None:
        if unknown := sorted(set(labels) - set(self.classes)):
            where = "data.order" if self.config.data.order is not None else "the training rows"
            raise FoldwiseError(
                f"column {self.target!r}: label {unknown[0]!r} isn't among those of {where}: "
                f"{', '.join(self.classes)}"
            )


def _number(label: str) -> float:
    try:
        return float(label)
    except ValueError:
        return math.nan
