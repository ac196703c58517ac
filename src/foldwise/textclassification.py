"""The task of classifying rows of text, categories and numbers with a Hugging Face backbone.

It joins the rooms `encode/` and `models/` for the workflow: columns become token ids, ids become
padded batches, a backbone with pooling and head makes logits of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from foldwise.config.grammar import Part
from foldwise.config.schema import Config
from foldwise.encode.batches import TextRows, pad_batch
from foldwise.encode.text import encode, frame_of
from foldwise.errors import FoldwiseError
from foldwise.models.backbone import freeze, load_backbone, load_tokenizer, read_config, window
from foldwise.models.classifier import Classifier
from foldwise.models.head import Head
from foldwise.models.resolve import Backbone, resolve_backbone
from foldwise.parts import build_part
from foldwise.runfolder import RunFolder, write_bytes
from foldwise.task import Multiclass
from foldwise.usercode import UserCode


class TextClassification(Multiclass):
    """Text, categories and numbers in one template through a backbone.

    Args:
        config: `text`, `model` and the columns of `data` are read.
        code: the user's files.
        run: a run whose checkpoints will replace the weights: its copies of config and tokenizer
            are used. None: a new run, the backbone is found and its pretrained weights loaded.
        stores: folder of token stores; None keeps token ids in memory.
    """

    def __init__(
        self,
        config: Config,
        code: UserCode,
        run: RunFolder | None = None,
        stores: Path | None = None,
    ) -> None:
        super().__init__(config, code)
        self.stores = stores
        self.pretrained: Backbone | None = None
        if run is None:
            self.pretrained = resolve_backbone(config.model.backbone, config.model.revision)
            self.folder = self.pretrained.folder
        else:
            self.folder = run.backbone
        self.model_config = read_config(self.folder)
        limit = window(self.model_config)
        if limit is not None and config.text.max_length > limit:
            raise FoldwiseError(
                f"text.max_length is {config.text.max_length}, but {config.model.backbone} reads "
                f"{limit} tokens at most; lower it"
            )

    @cached_property
    def tokenizer(self) -> Any:
        """The backbone's tokenizer."""
        return load_tokenizer(self.folder)

    @property
    def columns(self) -> list[str]:
        """The template's columns: short ones first, so that truncation only cuts long text."""
        data = self.config.data
        return [*data.numeric, *data.categorical, *data.text]

    def save(self, folder: Path) -> None:
        """Copy config.json and the tokenizer's files: with a checkpoint all a model needs."""
        target = RunFolder(folder).backbone
        target.mkdir(exist_ok=True)
        for path in sorted(self.folder.iterdir()):
            if (
                path.is_file()
                and path.suffix in (".json", ".txt", ".model")
                and "index" not in path.name
            ):
                write_bytes(target / path.name, path.read_bytes())

    def dataset(self, frame: pl.DataFrame) -> TextRows:
        """Return the rows' token ids, tokenized once and kept in the store."""
        known = self.target in frame.columns and bool(self.classes)
        return TextRows(
            store=encode(frame, self.columns, self.tokenizer, self.stores),
            frame=self._frame,
            max_length=self.config.text.max_length,
            long=self.config.text.long,
            target=self.target_ids(frame) if known else None,
        )

    def collate(self, rows: Sequence[tuple[np.ndarray, int | None]]) -> dict[str, Tensor]:
        """Pad rows into input_ids, attention_mask (B, L) and target (B,)."""
        return pad_batch(rows, self._frame)

    def build_model(self) -> nn.Module:
        """Build backbone, pooling and head, with pretrained weights in a new run."""
        model = self.config.model
        backbone = load_backbone(
            self.folder,
            weights=self.pretrained is not None,
            attention_dropout=model.attention_dropout,
            checkpoint_activations=model.checkpoint_activations,
        )
        freeze(backbone, model.freeze)
        return Classifier(backbone, *self._pooling_and_head())

    def check(self) -> None:
        """Build what is quick to build, so that a wrong part shows before anything is written."""
        depth = getattr(self.model_config, "num_hidden_layers", 0)
        if self.config.model.freeze > depth:
            raise FoldwiseError(
                f"model.freeze is {self.config.model.freeze}, but {self.config.model.backbone} has "
                f"{depth} blocks"
            )
        pooling, head = self._pooling_and_head()
        check_head(
            head, pooled_width(pooling, int(self.model_config.hidden_size)), len(self.classes)
        )
        super().check()
        # A whole forward pass, on two texts of padding: weights that don't fit, a backbone without
        # blocks or one that wants other inputs would show in the first fold only.
        model = self.build_model()
        model.layers()  # type: ignore[operator]
        batch = pad_batch([(np.full(4, self._frame.pad), None)] * 2, self._frame)
        try:
            with torch.no_grad():
                model(**batch)
        except Exception as error:
            raise FoldwiseError(
                f"model.backbone: {self.config.model.backbone} fails on input_ids and "
                f"attention_mask of two texts: {type(error).__name__}: {error}"
            ) from error

    def _pooling_and_head(self) -> tuple[nn.Module, nn.Module]:
        model, outputs = self.config.model, len(self.classes)
        width = int(self.model_config.hidden_size)
        pooling: nn.Module = build_part(
            "pooling",
            model.pooling.name,
            model.pooling.arguments,
            self.code,
            "model.pooling",
            hidden_size=width,
        )
        width = pooled_width(pooling, width)
        if isinstance(model.head, Part):
            head: nn.Module = build_part(
                "head",
                model.head.name,
                model.head.arguments,
                self.code,
                "model.head",
                hidden_size=width,
                n_classes=outputs,
                n_outputs=outputs,
            )
        else:
            deviation = float(getattr(self.model_config, "initializer_range", 0.02))
            head = Head(width, outputs, model.head.hidden, model.head.dropout, deviation)
        return pooling, head

    @cached_property
    def _frame(self) -> Any:
        return frame_of(self.tokenizer)


def check_head(head: nn.Module, width: int, n_outputs: int) -> None:
    """Try a head on two pooled texts.

    Raises:
        FoldwiseError: the call fails, or its result isn't (B, n_outputs).
    """
    name = type(head).__name__
    try:
        with torch.no_grad():
            logits = head(torch.zeros(2, width))
    except Exception as error:
        raise FoldwiseError(
            f"model.head: {name} fails on (2, {width}): {type(error).__name__}: {error}"
        ) from error
    shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if shape != (2, n_outputs):
        raise FoldwiseError(
            f"model.head: {name} must return (batch, {n_outputs}) of (batch, {width}); it returned "
            f"{shape} for a batch of 2"
        )


def pooled_width(pooling: nn.Module, hidden_size: int) -> int:
    """Read a pooling's output width from a dry call on two texts of three tokens.

    Raises:
        FoldwiseError: the call fails, or its result isn't (B, D).
    """
    states, mask = torch.zeros(2, 3, hidden_size), torch.ones(2, 3, dtype=torch.int64)
    try:
        with torch.no_grad():
            pooled = pooling(states, mask)
    except Exception as error:
        raise FoldwiseError(
            f"model.pooling: {type(pooling).__name__} fails on hidden states (2, 3, {hidden_size}) "
            f"and a mask (2, 3): {type(error).__name__}: {error}"
        ) from error
    if not isinstance(pooled, Tensor) or pooled.ndim != 2 or len(pooled) != 2:
        shape = tuple(pooled.shape) if isinstance(pooled, Tensor) else type(pooled).__name__
        raise FoldwiseError(
            f"model.pooling: {type(pooling).__name__} must return (batch, width) of (batch, "
            f"length, {hidden_size}); it returned {shape} for a batch of 2"
        )
    return int(pooled.shape[1])
