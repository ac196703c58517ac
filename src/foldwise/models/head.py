"""From one vector a text to the logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from foldwise.config.grammar import Part
from foldwise.config.model import Head as HeadConfig
from foldwise.errors import FoldwiseError
from foldwise.parts.registry import build_part
from foldwise.parts.usercode import UserCode


def build_head(
    config: HeadConfig | Part,
    hidden_size: int,
    n_outputs: int,
    initializer_range: float,
    code: UserCode,
    start: np.ndarray | None = None,
) -> nn.Module:
    """Build the head that the config describes or names.

    Args:
        config: `model.head`.
        hidden_size: width of what comes in.
        n_outputs: logits a row.
        initializer_range: standard deviation of the weights.
        code: the user's files.
        start: the logits where the weights say nothing, (n_outputs,); None: zeros. A head of your
            own begins as it likes.

    Raises:
        FoldwiseError: head or activation aren't there, can't be built, or aren't modules.
    """
    if isinstance(config, Part):
        named: nn.Module = build_part(
            "head",
            config.name,
            config.arguments,
            code,
            "model.head",
            hidden_size=hidden_size,
            n_classes=n_outputs,
            n_outputs=n_outputs,
        )
        return named
    part, where = config.activation, "model.head.activation"

    def activation(width: int) -> nn.Module:
        built = build_part("activation", part.name, part.arguments, code, where, hidden_size=width)
        if not isinstance(built, nn.Module):
            raise FoldwiseError(
                f"{where}: {part.name} must be a class derived from torch.nn.Module; calling it "
                f"gave {type(built).__name__}"
            )
        return built

    return Head(
        hidden_size,
        n_outputs,
        config.hidden,
        config.dropout,
        initializer_range,
        activation,
        config.norm,
        config.samples,
        start,
    )


class Head(nn.Module):
    """Dropout and a linear layer, with hidden layers between on request.

    Args:
        hidden_size: width of what comes in.
        n_outputs: logits a row.
        hidden: widths of hidden layers; empty for none.
        dropout: probability before each linear layer.
        initializer_range: standard deviation of the weights, the backbone's own.
        activation: width -> the module that follows a hidden layer of that width; None: GELU.
        norm: `layer` puts a LayerNorm between a hidden layer and its activation.
        samples: dropout masks a row in training; the logits are their average (multi-sample
            dropout, Inoue 2019, who averages the losses). In evaluation there is one pass.
        start: the last layer's bias, (n_outputs,); None: zeros.
    """

    def __init__(
        self,
        hidden_size: int,
        n_outputs: int,
        hidden: list[int],
        dropout: float,
        initializer_range: float,
        activation: Callable[[int], nn.Module] | None = None,
        norm: Literal["none", "layer"] = "none",
        samples: int = 1,
        start: np.ndarray | None = None,
    ) -> None:
        super().__init__()
        self.samples = samples
        layers: list[nn.Module] = []
        for width in hidden:
            layers += [nn.Dropout(dropout), nn.Linear(hidden_size, width)]
            layers += [nn.LayerNorm(width)] if norm == "layer" else []
            layers += [nn.GELU() if activation is None else activation(width)]
            hidden_size = width
        last = nn.Linear(hidden_size, n_outputs)
        layers += [nn.Dropout(dropout), last]
        self.layers = nn.Sequential(*layers)
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=initializer_range)
                nn.init.zeros_(layer.bias)
        if start is not None:
            with torch.no_grad():
                last.bias.copy_(torch.from_numpy(start))

    def forward(self, pooled: Tensor) -> Tensor:
        """Map (B, E) to logits (B, n_outputs)."""
        if not self.training or self.samples == 1:
            return self.layers(pooled)  # type: ignore[no-any-return]
        every = self.layers(pooled.repeat(self.samples, 1))  # (samples * B, n_outputs)
        return every.unflatten(0, (self.samples, -1)).mean(dim=0)  # type: ignore[no-any-return]
