"""What of a row's prediction is explained, as one number that every member has a share in.

A blend multiplies its members' probabilities, each to the power of its weight. So the margin of a
class over the others, log p(class) minus the mean of the others' log p, weighed by how probable the
answer finds them, is the weighted sum of the members' margins: what a member adds to the answer
can be read off. It is the log odds of the class, to first order in any change. A label's margin is
its log odds; a number's is the number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from foldwise.ensemble.blend import SMALLEST, scores_of
from foldwise.members.member import Floats, Holds


@dataclass(frozen=True)
class Aim:
    """One class, label or number that is explained.

    Attributes:
        holds: what a cell of the target column is.
        output: its place among the classes; 0 of a number.
        name: the class or label; None of a number.
        others: how much each other class weighs in what the class is measured against, summing to
            one; zero for labels and numbers.
    """

    holds: Holds
    output: int
    name: str | None
    others: Floats

    def margins(self, values: Floats) -> Floats:
        """Return the margin of each row of probabilities or numbers (n, n_outputs): (n,)."""
        scores = scores_of(values, self.holds)
        if self.holds != "label":
            return scores[:, self.output]
        margins: Floats = scores[:, self.output] - scores @ self.others
        return margins

    def of_logits(self, logits: Tensor, *, ordered: bool) -> Tensor:
        """Return the margin of logits (B, n_outputs): (B,); a number's in the model's own unit.

        Args:
            logits: of the fine-tuned model.
            ordered: they are of steps between ordered classes, each given the one before.
        """
        if self.holds != "label":
            return logits[:, self.output]
        if ordered:
            exceeding = torch.sigmoid(logits).cumprod(dim=1)
            ends = torch.ones_like(exceeding[:, :1])
            edges = torch.cat([ends, exceeding, 0 * ends], dim=1)
            logits = (edges[:, :-1] - edges[:, 1:]).clamp(min=SMALLEST).log()
        others = torch.as_tensor(self.others, dtype=logits.dtype, device=logits.device)
        return logits[:, self.output] - logits @ others


def aims_of(task: Any, values: Floats, prediction: str | float, most: int) -> list[Aim]:
    """Say what is explained of a row.

    Args:
        task: its classes and what the target holds.
        values: the answer to the row, (n_outputs,).
        prediction: the answer's label, labels or number.
        most: labels to explain, the most probable first; of a row without any, the one that is
            nearest to being one.
    """
    nobody: Floats = np.zeros(len(values))
    if task.holds == "number":
        return [Aim("number", 0, None, nobody)]
    if task.holds == "label":
        output = task.classes.index(str(prediction))
        others = np.where(np.arange(len(values)) == output, 0.0, np.maximum(values, SMALLEST))
        return [Aim("label", output, task.classes[output], others / (others.sum() or 1.0))]
    order = np.argsort(-values, kind="stable")
    predicted = set(filter(None, str(prediction).split(task.half.separator)))
    chosen = [i for i in order if task.classes[i] in predicted][:most] or [order[0]]
    return [Aim("labels", int(i), task.classes[i], nobody) for i in chosen]
