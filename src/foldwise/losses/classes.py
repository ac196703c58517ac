"""Losses of one value a row, and the class weights they use.

In: logits and targets. Out: (B,). The loop divides the sum over a whole optimizer step by its rows,
so that accumulated gradients equal the big batch's; a loss must therefore not average by itself.
"""

from __future__ import annotations

import inspect

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from foldwise.config.training import Loss as LossConfig
from foldwise.errors import FoldwiseError
from foldwise.parts.registry import find_part
from foldwise.parts.usercode import UserCode


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


class Focal(nn.Module):
    """Cross-entropy that fades on rows already classified well (Lin et al. 2017, equation 5).

    `weight * (1 - p) ** gamma * -log(p)`, p the probability of the row's class.

    Args:
        weight: weight of each class (the paper's alpha), float32 (n_classes,), or None.
        gamma: how fast it fades; 0 is cross-entropy.
    """

    def __init__(self, weight: Tensor | None = None, gamma: float = 2.0) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.gamma = gamma

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss (B,) of logits (B, n_classes) and class ids (B,)."""
        plain = functional.cross_entropy(logits, target, reduction="none")
        missing = -torch.expm1(-plain)  # 1 - p
        # Where p rounds to 1, a power below 1 would have an infinite gradient.
        missing = missing.clamp(min=torch.finfo(missing.dtype).tiny)
        losses: Tensor = missing**self.gamma * plain
        weight: Tensor | None = self.weight  # type: ignore[assignment]
        return losses if weight is None else losses * weight[target]


class LogitAdjustment(nn.Module):
    """Cross-entropy over `logits + tau * log(prior)` (Menon et al. 2021, equation 10).

    The model learns what is left once the classes' frequencies are known, so its plain logits,
    which predict, favour no class for being frequent: it aims at the balanced error.

    Args:
        class_counts: training rows of each class, (n_classes,). A class without any counts as one
            row: the logarithm of its prior would be infinite.
        tau: strength; 1 is the paper's balanced error, 0 is cross-entropy.
        label_smoothing: share of the target spread over all classes.
    """

    def __init__(
        self, class_counts: Tensor, tau: float = 1.0, label_smoothing: float = 0.0
    ) -> None:
        super().__init__()
        counts = class_counts.double().clamp(min=1)
        self.register_buffer("adjustment", (tau * (counts / counts.sum()).log()).float())
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss (B,) of logits (B, n_classes) and class ids (B,)."""
        return functional.cross_entropy(
            logits + self.adjustment,  # type: ignore[operator]
            target,
            label_smoothing=self.label_smoothing,
            reduction="none",
        )


class RDrop(nn.Module):
    """Cross-entropy of two passes and how far their dropout drives them apart (Wu et al. 2021).

    A row's loss is the mean of both passes' cross-entropy, plus alpha times the mean of both
    Kullback-Leibler divergences between their predictions (equations 1 to 3, with half the paper's
    cross-entropy, as in its code).

    Args:
        weight: weight of each class in the cross-entropy, float32 (n_classes,), or None.
        label_smoothing: share of the target spread over all classes.
        alpha: weight of the divergence.
    """

    passes = 2  # the model repeats each training batch so often

    def __init__(
        self, weight: Tensor | None = None, label_smoothing: float = 0.0, alpha: float = 1.0
    ) -> None:
        super().__init__()
        self.cross_entropy = CrossEntropy(weight, label_smoothing)
        self.alpha = alpha

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss (B,) of class ids (B,) and logits, all rows once and then once more.

        Args:
            logits: (2B, n_classes) in training; (B, n_classes) in evaluation, where there is no
                dropout and the loss is plain cross-entropy.
            target: (B,).

        Raises:
            FoldwiseError: logits of a single pass are to be learned from.
        """
        if len(logits) == len(target):
            if logits.requires_grad:
                raise FoldwiseError(
                    "loss.name r_drop needs a model that passes each training batch twice; this "
                    "task's model gave one logit row for each target (Classifier has `passes`)"
                )
            losses: Tensor = self.cross_entropy(logits, target)
            return losses
        losses = self.cross_entropy(logits, target.repeat(2)).unflatten(0, (2, -1)).mean(dim=0)
        first, second = logits.log_softmax(dim=1).chunk(2)  # (B, n_classes) each
        # KL(p, q) + KL(q, p) in one sum: (p - q) * (log p - log q).
        divergence = ((first.exp() - second.exp()) * (first - second)).sum(dim=1)
        return losses + self.alpha * divergence / 2


def weight_rule(loss: LossConfig, code: UserCode) -> str | dict[str, float]:
    """Return the rule of a loss's class weights: `auto` is sqrt where the loss takes weights.

    Raises:
        FoldwiseError: there is no such loss.
    """
    if loss.class_weights != "auto":
        return loss.class_weights
    return "sqrt" if takes_class_weights(loss.name, code) else "none"


def takes_class_weights(name: str, code: UserCode) -> bool:
    """Say whether a loss's constructor names `weight`, by which it receives class weights.

    Raises:
        FoldwiseError: there is no such loss.
    """
    loss = find_part("loss", name, code, "loss.name")
    try:
        return "weight" in inspect.signature(loss).parameters
    except (TypeError, ValueError):
        return False  # nothing that can be called: build_part refuses it


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
