"""The task of classifying rows of text, categories and numbers with a Hugging Face backbone.

It joins the rooms `encoding/` and `models/` for the workflow: columns become token ids, ids become
padded batches, a backbone with pooling and head makes logits of them. Unless model.fusion is
`text`, the other columns stay beside the text (columns.py); without text they are all there is.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from foldwise.config.schema import Config
from foldwise.encoding.batches import TextRows, pad_batch
from foldwise.encoding.bound import Need
from foldwise.encoding.chunks import ChunkRows, narrowest_window, pad_chunks, tokens_needed
from foldwise.encoding.mixed import MixedRows, mixed_batch
from foldwise.encoding.tabular import Encoders, read_cells
from foldwise.encoding.text import TokenStore, encode, frame_of
from foldwise.errors import FoldwiseError
from foldwise.hardware.device import placement
from foldwise.models.adapters import build_backbone
from foldwise.models.attention import choose_attention
from foldwise.models.backbone import check_size, load_tokenizer, read_config
from foldwise.models.classifier import Classifier
from foldwise.models.counted import no_larger_than
from foldwise.models.folder import largest_size, weights_size
from foldwise.models.fusion import TokenFusion
from foldwise.models.layer_mix import LayerMix
from foldwise.models.resolve import Backbone, resolve_again, resolve_backbone, weights_files
from foldwise.models.trial_calls import check_head
from foldwise.models.window import window
from foldwise.parts.registry import find_part
from foldwise.parts.usercode import UserCode
from foldwise.run.files import write_bytes
from foldwise.run.folder import RunFolder
from foldwise.tasks.columns import (
    build_tokens,
    categories_of,
    column_tokens,
    fit_encoders,
    made_up_rows,
)
from foldwise.tasks.compose import build_parts
from foldwise.tasks.task import TargetTask


class TextClassification(TargetTask):
    """Text, categories and numbers through a backbone, or beside it.

    Attributes:
        encoders: of the columns beside the text, once `fit_rows` or `load_state` has run; None
            where all columns are in the template.
        attention: flash, sdpa or eager; None without a backbone.

    Args:
        config: `text`, `model` and the columns of `data` are read, and of `training` where and how
            precisely to compute.
        code: the user's files.
        run: a run whose checkpoints will replace the weights: its copies of config and tokenizer
            are used. None: a new run, the backbone is found and its pretrained weights loaded.
        stores: folder of token stores; None keeps token ids in memory.
        online: ask the hub for the backbone of a run that holds adapters alone.
    """

    def __init__(
        self,
        config: Config,
        code: UserCode,
        run: RunFolder | None = None,
        stores: Path | None = None,
        online: bool = False,
    ) -> None:
        super().__init__(config, code)
        self.stores = stores
        self.run = run
        self.encoders: Encoders | None = None
        self.pretrained: Backbone | None = None
        self.model_config: Any = None
        self.attention: str | None = None
        if not self.columns:
            return  # columns alone: there is no backbone
        if run is None:
            self.pretrained = resolve_backbone(config.model.backbone, config.model.revision)
            self.folder = self.pretrained.folder
        else:
            if config.model.lora is not None:
                name, revision = config.model.backbone, config.model.revision
                why = f"{run.path} holds adapters alone and needs the backbone they were trained "
                why += "beside"
                self.pretrained = resolve_again(run, name, revision, why, online=online)
            self.folder = run.backbone
        self.model_config = read_config(self.folder)
        if size := self._weights:
            check_size(self.model_config, *size, self.folder / "config.json")
        device, precision = placement(config.training)
        self.attention = choose_attention(
            self.model_config,
            config.model.attention,
            config.model.attention_dropout,
            device,
            precision,
            strict=run is None,  # a run may have come to a machine that hasn't what it computed by
        )
        limit = window(self.model_config)
        tokens = column_tokens(config)
        if limit is not None and config.text.max_length + tokens > limit:
            beside = f", {tokens} of them for the columns" if tokens else ""
            raise FoldwiseError(
                f"text.max_length is {config.text.max_length}, but {config.model.backbone} reads "
                f"{limit} tokens at most{beside}; lower it"
            )

    @cached_property
    def tokenizer(self) -> Any:
        """The backbone's tokenizer."""
        return load_tokenizer(self.folder)

    @property
    def columns(self) -> list[str]:
        """The template's columns: short ones first, so that truncation only cuts long text."""
        data = self.config.data
        return [*data.numeric, *data.categorical, *data.text] if self._in_text else [*data.text]

    def save(self, folder: Path) -> None:
        """Copy config.json and the tokenizer's files: with a checkpoint all a model needs."""
        if not self.columns:
            return
        target = RunFolder(folder).backbone
        target.mkdir(exist_ok=True)
        for path in sorted(self.folder.iterdir()):
            if (
                path.is_file()
                and path.suffix in (".json", ".txt", ".model")
                and "index" not in path.name
            ):
                write_bytes(target / path.name, path.read_bytes())

    def fit_rows(self, frame: pl.DataFrame) -> None:
        """Fit class weights, and the encoders of columns beside the text, on a fold's rows."""
        super().fit_rows(frame)
        self.encoders = None if self._in_text else fit_encoders(frame, self.config)

    def state(self) -> dict[str, dict[str, Any]]:
        """Return what was fitted: the encoders under rows: columns."""
        state = super().state()
        if self.encoders is not None:
            state["rows"] |= {"columns": self.encoders.state()}
        return state

    def load_state(self, state: dict[str, dict[str, Any]]) -> None:
        """Take back what `state` returned."""
        super().load_state(state)
        fitted = state.get("rows", {}).get("columns")
        self.encoders = None if fitted is None else Encoders.from_state(fitted)

    def categories_known(self) -> dict[str, list[str | None]]:
        """Return the values that have a slot of their own, by column beside the text.

        Words of a template aren't told apart, and of values that share hash buckets none is new.
        """
        encoders = {} if self.encoders is None else {e.name: e for e in self.encoders.categories}
        whole = [name for name in self.config.data.categorical if name in encoders]
        return {n: [*encoders[n].values] for n in whole if not encoders[n].buckets}

    def dataset(self, frame: pl.DataFrame) -> TextRows | ChunkRows | MixedRows:
        """Return the rows: token ids, tokenized once and kept in the store, and cells beside."""
        known = self.target in frame.columns
        target = self.target_values(frame) if known else None
        text = self._text_rows(frame, target) if self.columns else None
        if text is not None and self._in_text:
            return text
        cells = read_cells(frame, categories_of(self.config), self.config.data.numeric)
        return MixedRows(text, cells, target if text is None else None)

    def collate(self, rows: Sequence[Any]) -> dict[str, Tensor]:
        """Pad and encode rows into a batch: what `Classifier` takes, and target (B,)."""
        if self._in_text:
            return self._pad(rows)
        assert self.encoders is not None
        return mixed_batch(rows, self.encoders, self._pad)

    def build_model(self) -> nn.Module:
        """Build backbone, pooling and head, with pretrained weights in a new run."""
        model = self.config.model
        backbone = None
        if self.columns:
            assert self.attention is not None
            weights = None if self.pretrained is None else self.pretrained.folder
            backbone = build_backbone(
                model, self.config.training, self.folder, weights, self.attention
            )
        parts, _ = self._parts()
        if isinstance(parts["fusion"], TokenFusion):
            parts["inputs"] = build_tokens(parts["inputs"], backbone, self._deviation)
        loss = find_part("loss", self.config.loss.name, self.code, "loss.name")
        return Classifier(
            backbone,
            **parts,
            layer_mix=None if model.layers is None else LayerMix(model.layers),
            passes=getattr(loss, "passes", 1),
        )

    def check(self) -> None:
        """Build what is quick to build, so that a wrong part shows before anything is written.

        Of a run without weights (a report can be drawn of it) nothing is built.
        """
        depth = getattr(self.model_config, "num_hidden_layers", 0)
        if self.config.model.freeze > depth:
            raise FoldwiseError(
                f"model.freeze is {self.config.model.freeze}, but {self.config.model.backbone} has "
                f"{depth} blocks"
            )
        if (self.config.model.layers or 0) > depth:
            raise FoldwiseError(
                f"model.layers is {self.config.model.layers}, but {self.config.model.backbone} has "
                f"{depth} blocks to average the outputs of; lower it"
            )
        self._check_chunks()
        if self.run is not None and self._weights is None:
            super().check()
            return
        if not self._in_text:
            self.encoders = fit_encoders(made_up_rows(self.config), self.config)
        parts, width = self._parts()
        check_head(parts["head"], width, self.n_outputs)
        super().check()
        # A whole forward pass, on two texts of padding: weights that don't fit, a backbone without
        # blocks or one that wants other inputs would show in the first fold only.
        model = self.build_model()
        model.layers()  # type: ignore[operator]
        batch = self.collate(self._made_up(chunked=parts["chunks"] is not None))
        # Quantized weights lie on the run's device from the start; the others are still on the CPU.
        device = placement(self.config.training)[0] if self.config.model.quantize else "cpu"
        model.to(device)
        try:
            with torch.no_grad():
                model(**{name: tensor.to(device) for name, tensor in batch.items()})
        except Exception as error:
            given = " and ".join(batch)
            raise FoldwiseError(
                f"model.backbone: {self.config.model.backbone} fails on {given} of two texts: "
                f"{type(error).__name__}: {error}"
            ) from error
        self.encoders = None

    def _made_up(self, *, chunked: bool) -> list[Any]:
        texts: list[Any] | None = None
        if self.columns:
            ids = np.full(4, self._frame.pad)
            texts = [([ids, ids] if chunked else ids, None)] * 2
            if self._in_text:
                return texts
        frame = made_up_rows(self.config)
        cells = read_cells(frame, categories_of(self.config), self.config.data.numeric)
        rows = MixedRows(texts, cells, None)
        return [rows[0], rows[1]]

    def _pad(self, rows: Sequence[Any]) -> dict[str, Tensor]:
        pad = pad_chunks if self.config.text.long == "chunks" else pad_batch
        return pad(rows, self._frame)

    def _text_rows(self, frame: pl.DataFrame, target: np.ndarray | None) -> TextRows | ChunkRows:
        if self.config.text.long == "chunks":
            return self._chunk_rows(frame, target)
        room = self.config.text.max_length - self._frame.size
        tail = room // 2 if self.config.text.long == "head_tail" else 0
        need = Need(head=room + 1, tail=tail)
        return TextRows(
            store=self._encode(frame, self.columns, need),
            frame=self._frame,
            max_length=self.config.text.max_length,
            long=self.config.text.long,
            target=target,
        )

    def _chunk_rows(self, frame: pl.DataFrame, target: np.ndarray | None) -> ChunkRows:
        text = self.config.text
        long = self.config.data.text
        short = [column for column in self.columns if column not in long]
        room = text.max_length - self._frame.size
        most = tokens_needed(text.max_length, self._frame, text.max_chunks)
        return ChunkRows(
            short=self._encode(frame, short, Need(head=room + 1)) if short else None,
            text=self._encode(frame, long, most),
            frame=self._frame,
            max_length=text.max_length,
            stride=text.stride or 0,
            max_chunks=text.max_chunks,
            target=target,
        )

    def _encode(self, frame: pl.DataFrame, columns: list[str], need: Need | None) -> TokenStore:
        store = encode(frame, columns, self.tokenizer, self.stores, need)
        lowest, highest = store.span()
        size = int(self.model_config.vocab_size)
        if lowest < 0 or highest >= size:
            raise FoldwiseError(
                f"model.backbone: {self.folder / 'tokenizer.json'}: gives tokens ids from {lowest} "
                f"to {highest}, but config.json's model knows {size}; they belong to different "
                "models: put both files of one model there"
            )
        return store

    def _check_chunks(self) -> None:
        text = self.config.text
        if text.long != "chunks":
            return
        short = len(self.columns) > len(self.config.data.text)
        narrowest = narrowest_window(text.max_length, self._frame, short=short)
        if (text.stride or 0) >= narrowest:
            behind = ", beside categories and numbers" if short else ""
            raise FoldwiseError(
                f"text.stride is {text.stride}, but a chunk of text.max_length {text.max_length} "
                f"may hold no more than {narrowest} tokens of text{behind}; lower the stride"
            )

    def _parts(self) -> tuple[dict[str, Any], int]:
        hidden_size = int(self.model_config.hidden_size) if self.columns else 0
        frame = self._frame if self.columns else None
        with self._as_large_as_its_weights():
            return build_parts(
                self.config,
                self.code,
                self.encoders,
                hidden_size=hidden_size,
                frame=frame,
                n_outputs=self.n_outputs,
                deviation=self._deviation,
                start=self.start(),
            )

    def _as_large_as_its_weights(self) -> AbstractContextManager[None]:
        # Of a run, which may come from somebody else; a new run is as large as its user wants.
        if self.run is None or self._weights is None:
            return nullcontext()
        return no_larger_than(*self._weights, f"{self.run.config}:")

    @cached_property
    def _weights(self) -> tuple[int, int] | None:
        # Bytes and tensors of the files that fill the model; None for a run that has none (yet).
        files = [] if self.run is None else self.run.weights()
        size, tensors = largest_size(files)
        seeds = self.config.training.seeds  # the files are of so many copies; this is of one
        size, tensors = size // seeds, tensors // seeds
        if self.pretrained is not None:
            pretrained = weights_size(weights_files(self.pretrained.folder))
            size, tensors = size + pretrained[0], tensors + pretrained[1]
        return (size, tensors) if size else None

    @property
    def _in_text(self) -> bool:
        return self.config.model.fusion.name == "text"

    @property
    def _deviation(self) -> float:
        return float(getattr(self.model_config, "initializer_range", 0.02))

    @cached_property
    def _frame(self) -> Any:
        return frame_of(self.tokenizer)
