"""Frozen embeddings: a table's texts in, the backbone's mean vectors of each out.

What the last block says was trained to tell topics apart, or the next word; what stands two thirds
of the way up still knows of the tone, and of much else (Skean et al. 2025, "Layer by Layer"). Both
are kept, side by side; of the latter each token's state too, where a member is to learn which say
something.

One pass over the table for a whole run, kept beside the runs under the hash of all it follows
from, so that folds, variants of a config and a continued run read it again.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import polars as pl
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch
from torch import Tensor, nn

from foldwise.config.schema import Config
from foldwise.encoding.batches import TextRows, pad_batch
from foldwise.encoding.bound import Need
from foldwise.encoding.chunks import ChunkRows, pad_chunks, tokens_needed
from foldwise.encoding.text import TokenStore, encode, frame_of
from foldwise.errors import FoldwiseError
from foldwise.members.read import Vectors
from foldwise.members.states import TokenStates, halves_by_text
from foldwise.models.backbone import load_backbone, load_tokenizer
from foldwise.models.chunks import ChunkPooling
from foldwise.models.pooling import MeanPooling
from foldwise.models.resolve import resolve_again
from foldwise.preparation.prepare import Prepared
from foldwise.run.contents import Manifest
from foldwise.run.files import atomic
from foldwise.run.folder import RunFolder
from foldwise.run.readers import read_json, read_tensors
from foldwise.training.inference import infer, quickest_batch

SCHEMA = 2
STATES = ".states"  # of tokens, in a file beside that of the means
# The folder of pretrained weights, or the tensors themselves.
Weights = Path | dict[str, Tensor]


class MeanVectors(nn.Module):
    """A backbone and the mean of its hidden states over the real tokens.

    The windows of a long text are all of one width, so the mean over them is that over their
    tokens.

    Args:
        backbone: a transformers model.
        middle: put beside the last hidden states those after two thirds of the blocks.
        tokens: return the latter of each token too.
    """

    def __init__(self, backbone: nn.Module, *, middle: bool, tokens: bool = False) -> None:
        super().__init__()
        self.backbone, self.middle, self.tokens = backbone, middle, tokens
        self.pooling = MeanPooling()
        self.chunks = ChunkPooling(MeanPooling())

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, chunk_row: Tensor | None = None
    ) -> Any:
        """Return a text's vectors, (B, 1, H), or (B, 2, H) of the last and the middle.

        With `tokens` a tuple: these, the real tokens' states, (tokens, H), texts in order, and the
        text that each is of, int64 (tokens,).

        Args:
            input_ids: (B, L), or (C, L) of windows.
            attention_mask: of the same shape.
            chunk_row: (C,), the text of each window; None where each is a text.
        """
        hidden = self.backbone(
            input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=self.middle
        )
        read = [hidden.last_hidden_state]
        if self.middle:
            states = hidden.hidden_states  # of the embeddings, then of each block
            read.append(states[2 * (len(states) - 1) // 3])
        vectors = [self.pooling(states, attention_mask) for states in read]
        if chunk_row is not None:
            vectors = [self.chunks(each, chunk_row) for each in vectors]
        means = torch.stack(vectors, dim=1)
        if not self.tokens:
            return means
        real = attention_mask.bool()
        text = torch.arange(len(real), device=real.device) if chunk_row is None else chunk_row
        return means, read[-1][real], text[:, None].expand(real.shape)[real]


class Frozen:
    """The frozen backbone of a run, for rows of its table and new ones.

    Args:
        config: resolved; text columns, their length and the precision are read.
        folder: config.json and the tokenizer's files.
        weights: finds the pretrained weights; called when vectors have to be computed.
        identity: sha256 of the weights by file, part of the cache's key.
        accelerator: device and precision.
        stores: folder of token stores and, beside it, of embeddings; None keeps both in memory.
    """

    def __init__(
        self,
        config: Config,
        folder: Path,
        weights: Callable[[], Weights],
        identity: Any,
        accelerator: Accelerator,
        stores: Path | None,
    ) -> None:
        self.config, self.folder, self.weights = config, folder, weights
        self.identity, self.accelerator, self.stores = identity, accelerator, stores
        self.tokenizer = load_tokenizer(folder)
        self._model: MeanVectors | None = None

    @classmethod
    def of_run(cls, prepared: Prepared, accelerator: Accelerator) -> Frozen:
        """Return the frozen backbone of a run that trains, or is validated again."""
        config, run = prepared.config, prepared.run
        pretrained = getattr(prepared.task, "pretrained", None)
        if pretrained is not None:
            folder, identity = pretrained.folder, pretrained.weights
        else:
            folder, identity = run.backbone, read_json(run.manifest, Manifest)["backbone_sha256"]
        find = partial(_weights_of, prepared)
        return cls(config, folder, find, identity, accelerator, run.token_stores)

    @classmethod
    def stored(
        cls, config: Config, run: RunFolder, accelerator: Accelerator, *, online: bool
    ) -> Frozen:
        """Return the frozen backbone of a finished run, for rows that aren't its own."""
        find = partial(_weights_of_run, config, run, online)
        return cls(config, run.backbone, find, None, accelerator, None)

    def embed(self, rows: pl.DataFrame) -> Vectors:
        """Return the rows' vectors."""
        texts = self.texts(rows)
        if self.stores is None:
            # Of new rows those that read alike are computed once: one text beside many categories.
            ids = [_read(texts, row) for row in range(len(texts))]
            first = {key: row for row, key in reversed(list(enumerate(ids)))}
            once = np.array(sorted(first.values()))
            at = {row: line for line, row in enumerate(once)}
            made = self._in_memory(texts, once)
            return made.take(np.array([at[first[key]] for key in ids], dtype=np.int64))
        path = self.stores.with_name(".embeddings") / f"{self._key(texts)}.safetensors"
        for place in (path.parent, path, path.with_suffix(STATES)):
            if place.is_symlink():
                raise FoldwiseError(f"{place}: is a link; remove it, vectors lie beside the runs")
        kept = _kept(path, texts.lengths, tokens=self.tokens)
        if kept is None and path.exists():
            print(f"warning: {path}: not as it was written; made anew", file=sys.stderr)
        if kept is not None:
            return kept
        path.parent.mkdir(parents=True, exist_ok=True)
        return self._made(path, texts)

    def texts(self, rows: pl.DataFrame) -> TextRows | ChunkRows:
        """Return the rows' texts as they are read: to their end where `text.long` is chunks."""
        text, frame = self.config.text, frame_of(self.tokenizer)
        if text.long != "chunks":
            store = self._encode(rows, Need(head=text.max_length - frame.size + 1))
            return TextRows(store, frame, text.max_length, "truncate", None)
        store = self._encode(rows, tokens_needed(text.max_length, frame, text.max_chunks))
        stride = text.stride or 0
        return ChunkRows(None, store, frame, text.max_length, stride, text.max_chunks, None)

    @property
    def model(self) -> MeanVectors:
        """The backbone with its pretrained weights, on its device; built when first needed."""
        if self._model is None:
            backbone = _backbone(self.folder, self.weights())
            model = MeanVectors(backbone, middle=self.middle, tokens=self.tokens)
            self._model = model.to(self.accelerator.device).eval()
        return self._model

    @property
    def middle(self) -> bool:
        """Whether a text has a second vector; runs from before there was one say `auto`."""
        return self.config.model.embedding in ("middle_and_last", "tokens")

    @property
    def tokens(self) -> bool:
        """Whether each token's state is kept."""
        return self.config.model.embedding == "tokens"

    def _encode(self, rows: pl.DataFrame, need: Need | None) -> TokenStore:
        return encode(rows, self.config.data.text, self.tokenizer, self.stores, need)

    def _made(self, path: Path, texts: TextRows | ChunkRows) -> Vectors:
        # The states come first: whoever finds the means finds them whole.
        rows, told = np.arange(len(texts)), {}
        if self.tokens:
            states = path.with_suffix(STATES)
            with atomic(states, 2 * int(texts.lengths.sum()) * self._width) as temporary:
                # Written, not mapped: a full disk is an error there, and here the process's end.
                with temporary.open("wb") as file:
                    means = self._pass(texts, rows, partial(_put_in_file, file))
                told["states"] = _digest(_halves(temporary))
            made = Vectors(means, _mapped(states, self._width, texts.lengths))
        else:
            made = self._in_memory(texts, rows)
        told["sha256"] = _digest(made.means)
        with atomic(path, made.means.nbytes) as temporary:
            save_file({"vectors": made.means}, temporary, metadata=told)
        return made

    def _in_memory(self, texts: TextRows | ChunkRows, rows: NDArray[np.int64]) -> Vectors:
        if not self.tokens:
            return Vectors(self._pass(texts, rows, None), None)
        lengths = texts.lengths[rows]
        states = np.empty((int(lengths.sum()), self._width), dtype=np.float16)
        means = self._pass(texts, rows, partial(_put, states))
        return Vectors(means, TokenStates.behind_each_other(states, lengths))

    @property
    def _width(self) -> int:
        return int(self.model.backbone.config.hidden_size)  # type: ignore[union-attr, arg-type]

    def _pass(
        self,
        texts: TextRows | ChunkRows,
        rows: NDArray[np.int64],
        put: Callable[[int, NDArray[np.float16]], None] | None,
    ) -> NDArray[np.float32]:
        # `put` gets each text's states, and where they begin when texts follow one another.
        pad = pad_chunks if isinstance(texts, ChunkRows) else pad_batch
        starts = np.cumsum(texts.lengths[rows]) - texts.lengths[rows]

        def collate(rows: Sequence[Any]) -> dict[str, Tensor]:
            return pad(rows, texts.frame)

        def take(places: NDArray[np.int64], found: tuple[Tensor, Tensor, Tensor]) -> Tensor:
            means, states, text = found
            assert put is not None
            for place, each in zip(places, halves_by_text(states, text, len(places)), strict=True):
                put(int(starts[place]), each)
            return means

        # Few at once where the states of all blocks are held until the middle one is read. Others
        # are what they were: rows beside a row round its vector.
        size = quickest_batch(self.accelerator) if self.middle else 64
        means, _ = infer(
            self.model,
            texts,
            rows,
            collate,
            self.accelerator,
            batch_size=size,
            title="embedding",
            take=None if put is None else take,
        )
        return means.astype(np.float32)

    def _key(self, texts: TextRows | ChunkRows) -> str:
        digest = hashlib.sha256((self.folder / "config.json").read_bytes())
        facts = [
            SCHEMA,
            self.identity,
            texts.max_length,
            self.accelerator.mixed_precision,
            self.accelerator.device.type,
            self.middle,
            [*texts.frame.before, -1, *texts.frame.after],
        ]
        if isinstance(texts, ChunkRows):
            facts += [texts.stride, texts.max_chunks]
        if self.tokens:
            facts.append("tokens")
        store = texts.text if isinstance(texts, ChunkRows) else texts.store
        digest.update(json.dumps(facts, sort_keys=True).encode("utf-8"))
        digest.update(np.ascontiguousarray(store.offsets).tobytes())
        digest.update(np.ascontiguousarray(store.ids).tobytes())
        return digest.hexdigest()


def _read(texts: TextRows | ChunkRows, row: int) -> tuple[bytes, ...]:
    # What of a text the backbone reads, window by window.
    ids = texts[row][0]
    return tuple(window.tobytes() for window in (ids if isinstance(ids, list) else [ids]))


def keep_backbone(prepared: Prepared) -> None:
    """Write the backbone's pretrained weights into a run, so that its folder alone embeds new rows.

    Raises:
        FoldwiseError: of a run that is validated again, they are nowhere to be had.
    """
    path = prepared.run.frozen
    if path.exists():
        return
    pretrained = getattr(prepared.task, "pretrained", None)
    folder = prepared.run.backbone if pretrained is None else pretrained.folder
    tensors = _backbone(folder, _weights_of(prepared)).state_dict()
    # Cloned: safetensors refuses tensors that share memory.
    whole = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path, sum(tensor.nbytes for tensor in whole.values())) as temporary:
        save_torch(whole, temporary)


def _weights_of(prepared: Prepared) -> Weights:
    config, run = prepared.config, prepared.run
    pretrained = getattr(prepared.task, "pretrained", None)
    if pretrained is not None:
        return Path(pretrained.folder)
    return _weights_of_run(config, run, prepared.online)


def _weights_of_run(config: Config, run: RunFolder, online: bool) -> Weights:
    # A run keeps them only where its answer needs them.
    if run.frozen.exists():
        return read_tensors(run.frozen)
    name, revision = config.model.backbone, config.model.revision
    why = f"the members of {run.path} read the backbone as it was before its training"
    return resolve_again(run, name, revision, why, online=online).folder


def _backbone(folder: Path, weights: Weights) -> nn.Module:
    given = weights if isinstance(weights, Path) else False
    backbone = load_backbone(folder, weights=given, attention_dropout=None)
    if isinstance(weights, dict):
        _fill(backbone, weights)
    return backbone


def _kept(path: Path, lengths: NDArray[np.int64], *, tokens: bool) -> Vectors | None:
    # What isn't as it was written is no reason to stop: it is made again.
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            told = file.metadata() or {}
            means: NDArray[np.float32] = file.get_tensor("vectors")
    except SafetensorError:
        return None
    sound = means.dtype == np.float32 and means.ndim == 3 and len(means) == len(lengths)
    if not sound or told.get("sha256") != _digest(means):
        return None
    if not tokens:
        return Vectors(means, None)
    states, width = path.with_suffix(STATES), means.shape[2]
    if not states.is_file() or states.stat().st_size != 2 * int(lengths.sum()) * width:
        return None
    found = _mapped(states, width, lengths)
    sound = told.get("states") == _digest(found.states)
    return Vectors(means, found) if sound else None


def _put(states: NDArray[np.float16], start: int, each: NDArray[np.float16]) -> None:
    states[start : start + len(each)] = each


def _put_in_file(file: BinaryIO, start: int, each: NDArray[np.float16]) -> None:
    file.seek(start * each.shape[1] * each.itemsize)
    file.write(each.tobytes())


def _mapped(path: Path, width: int, lengths: NDArray[np.int64]) -> TokenStates:
    return TokenStates.behind_each_other(_halves(path).reshape(-1, width), lengths)


def _halves(path: Path) -> NDArray[np.float16]:
    if not path.stat().st_size:  # no text has a token; nothing can't be mapped
        return np.empty(0, dtype=np.float16)
    # Copied where it is written to, which torch asks for and nobody does.
    return np.memmap(path, np.float16, "c")


def _digest(values: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).data).hexdigest()


def _fill(backbone: nn.Module, tensors: dict[str, Tensor]) -> None:
    try:
        backbone.load_state_dict(tensors)
    except RuntimeError as error:
        raise FoldwiseError(
            f"members/backbone.safetensors: isn't the run's backbone ({str(error).splitlines()[0]})"
            "; put it back from a copy of the run"
        ) from None
