"""A fold's model as an ONNX graph with free batch and length.

In: a task and its fitted model. Out: a .onnx file that takes what `Classifier` takes and gives its
logits, or the mean of its copies': backbone, pooling, columns, fusion and head. Only chunks come in
another form: there, which inputs a row is made of stands in a grid (rows, most), -1 where it has
fewer, because the number of rows can't follow from values inside a graph.
"""

from __future__ import annotations

import copy
import inspect
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from foldwise.encoding.text import frame_of
from foldwise.errors import FoldwiseError
from foldwise.models.classifier import Classifier
from foldwise.models.copies import copies_of
from foldwise.models.fusion import TokenFusion
from foldwise.tasks.text_classification import TextClassification

OPSET = 18  # of ONNX 1.13 (2022): onnxruntime 1.14 and later read it
MOST_BYTES = 1_900_000_000  # a .onnx file holds 2 GB at most; larger weights lie beside it
_AXES = {
    "chunk_row": {0: "batch", 1: "chunks"},
    "categorical": {0: "batch"},
    "numeric": {0: "batch"},
}


class GridChunks(nn.Module):
    """Pool the windows of each text by a grid of their places.

    Args:
        pooling: (B, N, D), (B, N) -> (B, E).
    """

    def __init__(self, pooling: nn.Module) -> None:
        super().__init__()
        self.pooling = pooling

    def forward(self, pooled: Tensor, grid: Tensor) -> Tensor:
        """Pool (C, D) by a grid (B, N), int64, -1 for none, into (B, E)."""
        mask = (grid >= 0).to(torch.int64)
        windows = pooled[grid.clamp(min=0)]  # (B, N, D)
        windows = windows.masked_fill((mask == 0).unsqueeze(-1), 0.0)
        return self.pooling(windows, mask)  # type: ignore[no-any-return]


class Named(nn.Module):
    """Copies of a `Classifier`, with its inputs by name: torch asks a signature for them.

    Args:
        copies: takes them by keyword, whatever they are called.
    """

    def __init__(self, copies: nn.Module) -> None:
        super().__init__()
        self.copies = copies

    def forward(self, **inputs: Tensor) -> Tensor:
        """Return the mean of their logits, (B, n_outputs)."""
        return self.copies(**inputs)  # type: ignore[no-any-return]

    forward.__signature__ = inspect.signature(Classifier.forward)  # type: ignore[attr-defined]


def write_graph(task: TextClassification, model: nn.Module, path: Path) -> None:
    """Write a model as ONNX.

    Args:
        task: the fold's, with its encoders.
        model: in evaluation mode, float32, on the CPU; left as it is.
        path: the .onnx file; weights of over 1.9 GB go into a file beside it.

    Raises:
        FoldwiseError: a part of it can't be written as ONNX.
    """
    graph: Any = copy.deepcopy(model)
    parts: list[Any] = copies_of(graph)
    for part in parts:
        _pool_by_grid(part)
    inputs = _example(task)
    text = {0: "batch" if parts[0].chunks is None else "chunk", 1: "length"}
    axes = {"input_ids": text, "attention_mask": text, **_AXES}
    try:
        with warnings.catch_warnings(), _silent("torch.onnx", "torch.export", "onnxscript"):
            warnings.simplefilter("ignore")
            program: Any = torch.onnx.export(
                graph if len(parts) == 1 else Named(graph),
                (),
                kwargs=inputs,
                input_names=list(inputs),
                output_names=["logits"],
                dynamic_shapes={name: axes[name] for name in inputs},
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # the exporter has many, for whatever it can't follow
        reason = " ".join(str(error.__cause__ or error).split())[:400]
        raise FoldwiseError(
            f"{task.config.model.backbone}: can't be written as ONNX: torch can't follow a part of "
            f"it ({type(error).__name__}: {reason})"
        ) from error
    size = sum(tensor.nbytes for tensor in graph.state_dict().values())
    program.save(str(path), external_data=size > MOST_BYTES)


def _pool_by_grid(part: Any) -> None:
    if part.chunks is None:
        return
    if isinstance(part.fusion, TokenFusion):
        raise FoldwiseError(
            "model.fusion: tokens in front of each of a long text's chunks can't be exported; "
            "use text, concat or gated, or text.long: truncate"
        )
    part.chunks = GridChunks(part.chunks.pooling)


def _example(task: TextClassification) -> dict[str, Tensor]:
    # Every free axis is more than 1 long and unlike the others: it would be taken for fixed.
    inputs: dict[str, Tensor] = {}
    if task.columns:
        chunked = task.config.text.long == "chunks"
        ids = torch.full((5 if chunked else 3, 4), frame_of(task.tokenizer).pad)
        mask = torch.ones_like(ids)
        mask[1, 2:] = 0
        inputs |= {"input_ids": ids, "attention_mask": mask}
        if chunked:
            inputs["chunk_row"] = torch.tensor([[0, 1], [2, 3], [4, -1]])
    if (encoders := task.encoders) is not None:
        if encoders.categories:
            inputs["categorical"] = torch.zeros(3, len(encoders.categories), dtype=torch.int64)
        if encoders.numbers:
            inputs["numeric"] = torch.zeros(3, len(encoders.numbers))
    return inputs


class _silent:
    # What torch says of its own steps is of no use to who exports.
    def __init__(self, *names: str) -> None:
        self.loggers = [logging.getLogger(name) for name in names]

    def __enter__(self) -> None:
        self.levels = [logger.level for logger in self.loggers]
        for logger in self.loggers:
            logger.setLevel(logging.ERROR)

    def __exit__(self, *raised: object) -> None:
        for logger, level in zip(self.loggers, self.levels, strict=True):
            logger.setLevel(level)
