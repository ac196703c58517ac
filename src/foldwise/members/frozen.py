"""Frozen embeddings: a table's texts in, the backbone's mean vector of each out.

One pass over the table for a whole run, kept beside the runs under the hash of all it follows
from, so that folds, variants of a config and a continued run read it again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from foldwise.config.schema import Config
from foldwise.encoding.batches import TextRows, pad_batch
from foldwise.encoding.text import encode, frame_of
from foldwise.models.backbone import load_backbone, load_tokenizer
from foldwise.models.pooling import MeanPooling
from foldwise.run.files import atomic
from foldwise.training.inference import infer

SCHEMA = 1


class MeanVectors(nn.Module):
    """A backbone and the mean of its last hidden states over the real tokens."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.pooling = MeanPooling()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return one vector a text, (B, H), of (B, L) ids and mask."""
        hidden = self.backbone(input_ids=input_ids, attention_mask=attention_mask)
        vectors: Tensor = self.pooling(hidden.last_hidden_state, attention_mask)
        return vectors


class Frozen:
    """The frozen backbone of a run, for rows of its table and new ones.

    Args:
        config: resolved; text columns, their length and the precision are read.
        folder: config.json and the tokenizer's files.
        weights: the pretrained tensors, or the folder that holds them.
        identity: sha256 of the weights by file, part of the cache's key.
        accelerator: device and precision.
        stores: folder of token stores and, beside it, of embeddings; None keeps both in memory.
    """

    def __init__(
        self,
        config: Config,
        folder: Path,
        weights: Path | dict[str, Tensor],
        identity: Any,
        accelerator: Accelerator,
        stores: Path | None,
    ) -> None:
        self.config, self.folder, self.weights = config, folder, weights
        self.identity, self.accelerator, self.stores = identity, accelerator, stores
        self.tokenizer = load_tokenizer(folder)
        self._model: MeanVectors | None = None

    def embed(self, rows: pl.DataFrame) -> NDArray[np.float32]:
        """Return the rows' vectors, float32 (n, hidden size)."""
        frame = frame_of(self.tokenizer)
        store = encode(rows, self.config.data.text, self.tokenizer, self.stores)
        texts = TextRows(store, frame, self.config.text.max_length, "truncate", None)
        if self.stores is None:
            return self._pass(texts)
        path = self.stores.with_name(".embeddings") / f"{self._key(texts)}.npy"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic(path) as temporary, temporary.open("wb") as file:
                np.save(file, self._pass(texts), allow_pickle=False)
        vectors: NDArray[np.float32] = np.load(path, allow_pickle=False)
        return vectors

    @property
    def model(self) -> MeanVectors:
        """The backbone with its pretrained weights, on its device; built when first needed."""
        if self._model is None:
            given = self.weights if isinstance(self.weights, Path) else False
            backbone = load_backbone(self.folder, weights=given, attention_dropout=None)
            if isinstance(self.weights, dict):
                backbone.load_state_dict(self.weights)
            self._model = MeanVectors(backbone).to(self.accelerator.device).eval()
        return self._model

    def _pass(self, texts: TextRows) -> NDArray[np.float32]:
        def collate(rows: Sequence[Any]) -> dict[str, Tensor]:
            return pad_batch(rows, texts.frame)

        vectors, _ = infer(self.model, texts, np.arange(len(texts)), collate, self.accelerator)
        return vectors.astype(np.float32)

    def _key(self, texts: TextRows) -> str:
        digest = hashlib.sha256((self.folder / "config.json").read_bytes())
        facts = [
            SCHEMA,
            self.identity,
            texts.max_length,
            self.accelerator.mixed_precision,
            self.accelerator.device.type,
            [*texts.frame.before, -1, *texts.frame.after],
        ]
        digest.update(json.dumps(facts, sort_keys=True).encode("utf-8"))
        digest.update(np.ascontiguousarray(texts.store.offsets).tobytes())
        digest.update(np.ascontiguousarray(texts.store.ids).tobytes())
        return digest.hexdigest()
