"""A task without text: 30 numbers of a tumour's cells, benign or malignant, through an MLP.

The numbers are scaled by mean and standard deviation of a fold's training rows: fitted in
`fit_rows`, kept with the fold through `state` and `load_state`.
"""

import numpy as np
import polars as pl
import torch
from sklearn.datasets import load_breast_cancer
from torch import nn

from foldwise.tasks.multiclass import Multiclass


class Mlp(nn.Sequential):
    """Two hidden layers: numbers (B, n_inputs) to logits (B, n_classes)."""

    def __init__(self, n_inputs, n_classes, width=64, dropout=0.2):
        super().__init__(
            *(nn.Linear(n_inputs, width), nn.ReLU(), nn.Dropout(dropout)),
            *(nn.Linear(width, width), nn.ReLU(), nn.Dropout(dropout)),
            nn.Linear(width, n_classes),
        )

    def forward(self, numbers):
        """Return logits."""
        return super().forward(numbers)


class Tumours(Multiclass):
    """The Wisconsin breast cancer data, 569 rows that scikit-learn carries."""

    def rows(self):
        """Return the whole table; one column of each number, and the label."""
        table = load_breast_cancer()
        numbers = dict(zip(table.feature_names, table.data.T, strict=True))
        return pl.DataFrame({**numbers, "tumour": table.target_names[table.target]})

    def fit_rows(self, frame):
        """Fit the scaling on a fold's training rows."""
        super().fit_rows(frame)
        numbers = self.numbers(frame)
        self.mean, self.deviation = numbers.mean(axis=0), numbers.std(axis=0)

    def state(self):
        """Return what was fitted, as JSON has it."""
        state = super().state()
        if hasattr(self, "mean"):
            state["rows"]["scaling"] = [self.mean.tolist(), self.deviation.tolist()]
        return state

    def load_state(self, state):
        """Take it back."""
        super().load_state(state)
        if "scaling" in state["rows"]:
            self.mean, self.deviation = map(np.array, state["rows"]["scaling"])

    def dataset(self, frame):
        """Return (numbers, class id) by position; unscaled, since all folds share them."""
        return list(zip(self.numbers(frame), self.target_ids(frame), strict=True))

    def collate(self, rows):
        """Scale the rows of a batch."""
        numbers, targets = zip(*rows, strict=True)
        scaled = (np.stack(numbers) - self.mean) / self.deviation
        return {"numbers": torch.from_numpy(scaled).float(), "target": torch.tensor(targets)}

    def build_model(self):
        """Build a fresh MLP."""
        return Mlp(30, len(self.classes))

    def numbers(self, frame):
        """Return the table's numbers, float64 (rows, 30)."""
        return frame.drop("row", "tumour").to_numpy()
