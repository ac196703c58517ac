"""A number a row.

In: the numbers as read. Out: one logit a row, in units of the training rows' standard deviation
around their mean, and a prediction in the target's own units. So the loss and the learning rates
mean the same whether the target is a share or a price.

Whatever is of the target's own scale is float64: neighbours in float32 are 128 apart at 1.7e9,
seconds since 1970. What the model learns is centred and scaled first.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError
from foldwise.losses.binary import build_loss, check_one_a_row, try_loss
from foldwise.metrics.metric import Metric, evaluate
from foldwise.metrics.numbers import number_metric
from foldwise.parts.usercode import UserCode
from foldwise.split.splitters import quantile_bins
from foldwise.tasks.task import Target


class Regression(Target):
    """A number a row."""

    holds = "number"
    n_outputs = 1

    def __init__(self, config: Config, code: UserCode) -> None:
        super().__init__(config, code)
        self.mean, self.deviation = 0.0, 1.0
        self._loss: nn.Module | None = None

    def fit_target(self, frame: pl.DataFrame) -> None:
        """Check that there is something to learn.

        Raises:
            FoldwiseError: all rows hold the same number.
        """
        values = frame[self.target]
        if values.n_unique() < 2:
            raise FoldwiseError(
                f"column {self.target!r} holds a single value, {values[0]}: nothing to learn; "
                "check data.target and data.sample"
            )

    def fit_rows(self, frame: pl.DataFrame) -> None:
        """Compute mean and standard deviation of a fold's training rows."""
        values = frame[self.target].drop_nulls().to_numpy()
        self.mean = float(values.mean())
        # Rows that are all alike have none; asked so, because a rounded mean would leave some.
        self.deviation = float(values.std()) if np.ptp(values) > 0 else 1.0

    def state(self) -> dict[str, dict[str, Any]]:
        """Return the mean and standard deviation of the training rows."""
        return {"target": {}, "rows": {"mean": self.mean, "deviation": self.deviation}}

    def load_state(self, state: dict[str, dict[str, Any]]) -> None:
        """Take back mean and standard deviation."""
        rows = state.get("rows", {})
        self.mean, self.deviation = rows.get("mean", 0.0), rows.get("deviation", 1.0)

    def check(self) -> None:
        """Try loss and metrics on made-up rows."""
        if self.config.loss.class_weights not in ("auto", "none"):
            raise FoldwiseError("loss.class_weights: a number has no classes; set it to none")
        values: Any = np.arange(4.0)
        for metric in self.metrics():
            evaluate(metric, values, values, np.empty((4, 0)))
        try_loss(self, torch.zeros(2, 1), torch.zeros(2, dtype=torch.float64))

    def target_values(self, frame: pl.DataFrame) -> np.ndarray | None:
        """Return the numbers as the table has them, float64 (n,), or what rows are taught."""
        taught = self.taught(frame)
        return frame[self.target].to_numpy() if taught is None else taught[:, 0]

    def loss(self, outputs: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Return the loss of each row, (B,), of standardised predictions (B, 1).

        The target (B,) is in the table's units and float64; it may lie on the CPU where the device
        has no such numbers.
        """
        if self._loss is None:
            self._loss = build_loss(self.config, self.code).to(outputs.device)
        standardised = ((batch["target"] - self.mean) / self.deviation).to(outputs)
        losses: Tensor = self._loss(outputs.squeeze(1), standardised)
        return check_one_a_row(losses, len(outputs), self.config.loss.name)

    def to_columns(self, logits: np.ndarray) -> dict[str, Any]:
        """Return the predictions in the target's units."""
        return {"prediction": logits[:, 0].astype(np.float64) * self.deviation + self.mean}

    def to_arrays(self, frame: pl.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return target and prediction, float64 (n,), and no probabilities (n, 0)."""
        target, prediction = frame["target"].to_numpy(), frame["prediction"].to_numpy()
        return target, prediction, np.empty((frame.height, 0))

    def per_class(self, target: np.ndarray, prediction: np.ndarray) -> list[dict[str, Any]]:
        """Return nothing: there are no classes."""
        return []

    def built_in_metric(self, name: str) -> Metric:
        """Look up a metric of numbers."""
        return number_metric(name)

    def stratify_key(self, frame: pl.DataFrame) -> np.ndarray | None:
        """Return which tenth of the rows each belongs to by its number, object (n,).

        Below 200 rows the bins are fewer: of a handful of rows in each, the tenth that picks the
        epoch would be rounded to none.
        """
        n = min(10, max(1, frame.height // 20))
        return quantile_bins(frame[self.target].to_numpy(), n).astype(str).astype(object)
