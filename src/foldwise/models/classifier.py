"""Backbone, pooling and head in one module; it composes them and does nothing else."""

from __future__ import annotations

from torch import Tensor, nn

from foldwise.models.backbone import layers_of


class Classifier(nn.Module):
    """A backbone's token vectors, pooled, through a head.

    Args:
        backbone: a transformers model whose output has `last_hidden_state` (B, L, H).
        pooling: (B, L, H), (B, L) -> (B, D).
        head: (B, D) -> (B, n_outputs).
    """

    def __init__(self, backbone: nn.Module, pooling: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.pooling = pooling
        self.head = head

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return logits (B, n_outputs) for ids and mask (B, L)."""
        output = self.backbone(input_ids=input_ids, attention_mask=attention_mask)
        pooled = self.pooling(output.last_hidden_state, attention_mask)
        return self.head(pooled)  # type: ignore[no-any-return]

    def layers(self) -> list[list[nn.Parameter]]:
        """Return the backbone's parameters from the bottom up: embeddings, then each block.

        The optimizer scales learning rates along this list; what isn't in it (final norm, pooling,
        head) learns at the head's rate.
        """
        return layers_of(self.backbone)
