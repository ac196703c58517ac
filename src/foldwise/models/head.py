"""From one vector a text to the logits."""

from __future__ import annotations

from torch import Tensor, nn


class Head(nn.Module):
    """Dropout and a linear layer, with hidden layers between on request.

    Args:
        hidden_size: width of what comes in.
        n_outputs: logits a row.
        hidden: widths of hidden layers (GELU between); empty for none.
        dropout: probability before each linear layer.
        initializer_range: standard deviation of the weights, the backbone's own.
    """

    def __init__(
        self,
        hidden_size: int,
        n_outputs: int,
        hidden: list[int],
        dropout: float,
        initializer_range: float,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in hidden:
            layers += [nn.Dropout(dropout), nn.Linear(hidden_size, width), nn.GELU()]
            hidden_size = width
        layers += [nn.Dropout(dropout), nn.Linear(hidden_size, n_outputs)]
        self.layers = nn.Sequential(*layers)
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=initializer_range)
                nn.init.zeros_(layer.bias)

    def forward(self, pooled: Tensor) -> Tensor:
        """Map (B, E) to logits (B, n_outputs)."""
        return self.layers(pooled)  # type: ignore[no-any-return]
