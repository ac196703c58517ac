"""Backbone, pooling, columns, fusion and head in one module; it composes them, nothing else."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from foldwise.models.backbone import layers_of
from foldwise.models.fusion import TokenFusion


class Classifier(nn.Module):
    """A backbone's token vectors, pooled, joined with the other columns, through a head.

    Args:
        backbone: a transformers model whose output has `last_hidden_state` (C, L, H); None where
            there is no text.
        pooling: (C, L, H), (C, L) -> (C, D); None where there is no text.
        head: (B, E) -> (B, n_outputs).
        layer_mix: the backbone's hidden states, a tuple of (C, L, H) -> (C, L, H); None: the last.
        chunks: (C, D), chunk_row (C,) -> (B, D), where long texts are cut into chunks; else C = B.
        inputs: categorical (B, n), numeric (B, n) -> features (B, F), or tokens (B, T, H) for a
            TokenFusion; None where all columns are in the text.
        fusion: (B, D), (B, F) -> (B, E), or a TokenFusion; None where there is nothing to join.
        passes: times each row goes through in training, under different dropout (R-Drop).
    """

    def __init__(
        self,
        backbone: nn.Module | None,
        pooling: nn.Module | None,
        head: nn.Module,
        *,
        layer_mix: nn.Module | None = None,
        chunks: nn.Module | None = None,
        inputs: nn.Module | None = None,
        fusion: nn.Module | None = None,
        passes: int = 1,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.layer_mix = layer_mix
        self.pooling = pooling
        self.chunks = chunks
        self.inputs = inputs
        self.fusion = fusion
        self.head = head
        self.passes = passes

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        chunk_row: Tensor | None = None,
        categorical: Tensor | None = None,
        numeric: Tensor | None = None,
    ) -> Tensor:
        """Return logits (B, n_outputs), in training (passes * B, n_outputs), pass after pass.

        Args:
            input_ids: int64 (C, L); None where there is no text.
            attention_mask: int64 (C, L), 1 on real tokens.
            chunk_row: the row that each chunk is of, int64 (C,), ascending; None: C = B.
            categorical: slots of the categories, int64 (B, n).
            numeric: scaled numbers, float32 (B, n), nan where missing.
        """
        if self.training and self.passes > 1:
            input_ids = _repeat(input_ids, self.passes)
            attention_mask = _repeat(attention_mask, self.passes)
            categorical = _repeat(categorical, self.passes)
            numeric = _repeat(numeric, self.passes)
            if chunk_row is not None:
                rows = chunk_row[-1] + 1
                chunk_row = torch.cat([chunk_row + rows * n for n in range(self.passes)])
        tabular = None if self.inputs is None else self.inputs(categorical, numeric)
        if self.backbone is None:
            return self.head(tabular)  # type: ignore[no-any-return]
        pooled = self._pooled(input_ids, attention_mask, chunk_row, tabular)
        if self.fusion is not None and not isinstance(self.fusion, TokenFusion):
            pooled = self.fusion(pooled, tabular)
        return self.head(pooled)  # type: ignore[no-any-return]

    def layers(self) -> list[list[nn.Parameter]]:
        """Return the backbone's parameters from the bottom up: embeddings, then each block.

        The optimizer scales learning rates along this list; what isn't in it (final norm, pooling,
        columns, fusion, head) learns at the head's rate. Empty without a backbone.
        """
        return [] if self.backbone is None else layers_of(self.backbone)

    def _pooled(
        self,
        input_ids: Tensor | None,
        attention_mask: Tensor | None,
        chunk_row: Tensor | None,
        tabular: Tensor | None,
    ) -> Tensor:
        assert self.backbone is not None
        assert self.pooling is not None
        texts = {"input_ids": input_ids, "attention_mask": attention_mask}
        if isinstance(self.fusion, TokenFusion):
            assert tabular is not None
            tokens = tabular if chunk_row is None else tabular[chunk_row]  # (C, T, H)
            embed = self.backbone.get_input_embeddings()  # type: ignore[operator]
            embeds, attention_mask = self.fusion(embed(input_ids), attention_mask, tokens)
            texts = {"inputs_embeds": embeds, "attention_mask": attention_mask}
        if self.layer_mix is None:
            states = self.backbone(**texts).last_hidden_state
        else:
            states = self.layer_mix(self.backbone(**texts, output_hidden_states=True).hidden_states)
        pooled: Tensor = self.pooling(states, attention_mask)
        return pooled if self.chunks is None else self.chunks(pooled, chunk_row)


def _repeat(batch: Tensor | None, times: int) -> Tensor | None:
    return None if batch is None else torch.cat([batch] * times)
