"""Losses of one value a row, and the class weights they use.

In: logits and targets. Out: (B,). The loop divides the sum over a whole optimizer step by its rows,
so that accumulated gradients equal the big batch's; a loss must therefore not average by itself.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from foldwise.errors import FoldwiseError


class CrossEntropy(nn.Module):
    """Cross-entropy with class weights and label smoothing, one value a row.

    Args:
        weight: weight of each class, float32 (n_classes,), or None.
        label_smoothing: share of the target spread over all classes (Szegedy et al. 2016).
    """

    def __init__(self, weight: Tensor | None = None, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss (B,) of logits (B, n_classes) and class ids (B,)."""
        return functional.cross_entropy(
            logits,
            target,
            weight=self.weight,  # type: ignore[arg-type]
            label_smoothing=self.label_smoothing,
            reduction="none",
        )


def class_weights(
    rule: str | dict[str, float], target: np.ndarray, classes: list[str]
) -> Tensor | None:
    """Compute class weights from a fold's training rows.

    Scaled so that the mean over the training rows is 1: the loss keeps its size and the learning
    rate its meaning whatever the rule.

    Args:
        rule: none, sqrt, balanced, effective (Cui et al. 2019, beta 0.999), or {label: weight}.
        target: class ids of the training rows, int64 (rows,).
        classes: all labels, in the order of the ids.

    Returns:
        float32 (n_classes,), or None for `none`. A class without training rows weighs 0.

    Raises:
        FoldwiseError: a rule that is a map and names a label that isn't there, or lacks one.
    """
    if rule == "none":
        return None
    counts = np.bincount(target, minlength=len(classes)).astype(np.float64)
    seen = np.maximum(counts, 1)
    if isinstance(rule, dict):
        wrong = sorted(set(rule) ^ set(classes))
        if wrong:
            raise FoldwiseError(
                f"loss.class_weights must name each class once; {wrong[0]!r} is "
                + ("missing" if wrong[0] in classes else "no class of the target")
                + f"; the classes are: {', '.join(classes)}"
            )
        weights = np.array([rule[label] for label in classes])
    elif rule == "sqrt":
        weights = seen**-0.5
    elif rule == "balanced":
        weights = 1 / seen
    else:
        weights = (1 - 0.999) / (1 - 0.999**seen)
    weights = np.where(counts > 0, weights, 0.0)
    return torch.tensor(weights * counts.sum() / (weights * counts).sum(), dtype=torch.float32)
