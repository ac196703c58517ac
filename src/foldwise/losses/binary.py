"""Losses of the targets that aren't one class of several: one value a row, as losses must.

In: logits and targets. Out: (B,).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError
from foldwise.parts.registry import build_part, find_part
from foldwise.parts.usercode import UserCode


class BinaryCrossEntropy(nn.Module):
    """Cross-entropy of each label by itself, averaged over a row's labels.

    Args:
        pos_weight: weight of each label's positives, float32 (n_labels,), or None.
    """

    def __init__(self, pos_weight: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("pos_weight", pos_weight)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss (B,) of logits (B, n_labels) and indicators (B, n_labels), float."""
        losses = functional.binary_cross_entropy_with_logits(
            logits,
            target,
            pos_weight=self.pos_weight,  # type: ignore[arg-type]
            reduction="none",
        )
        return losses.mean(dim=1)


class Corn(nn.Module):
    """Conditional ordinal regression (Shi, Cao & Raschka 2021, section 3.3).

    Logit k says whether the label lies above rank k, given that it reaches k; a row teaches the
    ranks up to its own. Summed over these, it is the row's negative log-likelihood, so rows of
    high rank aren't worth more; the paper divides by the number of terms in the batch instead.

    Args:
        weight: weight of a row by its label, float32 (n_classes,), or None.
    """

    def __init__(self, weight: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("weight", weight)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss (B,) of logits (B, n_classes - 1) and ranks (B,), int64 from 0."""
        ranks = torch.arange(logits.shape[1], device=logits.device)
        above = (target.unsqueeze(1) > ranks).to(logits.dtype)  # (B, n_classes - 1)
        reached = (target.unsqueeze(1) >= ranks).to(logits.dtype)
        terms = functional.binary_cross_entropy_with_logits(logits, above, reduction="none")
        losses = (terms * reached).sum(dim=1)
        return losses if self.weight is None else losses * self.weight[target]  # type: ignore[index]


def build_loss(config: Config, code: UserCode, **offered: Any) -> nn.Module:
    """Build the configured loss; torch's own get `reduction="none"`."""
    loss = config.loss
    arguments = dict(loss.arguments)
    if find_part("loss", loss.name, code, "loss").__module__.startswith("torch.nn."):
        arguments["reduction"] = "none"
    built: nn.Module = build_part("loss", loss.name, arguments, code, "loss", **offered)
    return built


def check_one_a_row(losses: Tensor, rows: int, name: str) -> Tensor:
    """Return the losses if there is one a row.

    Raises:
        FoldwiseError: their shape isn't (rows,).
    """
    if losses.shape != (rows,):
        raise FoldwiseError(
            f"loss.name {name}: returns shape {tuple(losses.shape)}; it must return one value a "
            f"row, ({rows},) (reduction='none')"
        )
    return losses


def try_loss(target: Any, logits: Tensor, values: Tensor) -> None:
    """Compute a target's loss of made-up rows.

    Raises:
        FoldwiseError: it fails; whatever a user's loss raises is the input's fault.
    """
    try:
        target.loss(logits, {"target": values})
    except FoldwiseError:
        raise
    except Exception as error:
        raise FoldwiseError(
            f"loss.name {target.config.loss.name} fails on logits {tuple(logits.shape)} and "
            f"targets {tuple(values.shape)}: {type(error).__name__}: {error}"
        ) from error
