"""Integrated gradients of a fine-tuned model: what each token it reads adds to a margin.

Sundararajan, Taly & Yan 2017, by captum, over the input embeddings. The path leads from the row
with padding for every token of its texts to the row itself; special tokens, separators and columns
in the template are in their places all along, so that words are credited beside the columns as they
are. What the tokens add sums to the difference between the two ends (completeness); the sum over
steps only comes near it, so the steps are doubled until it is near enough, and how near is told.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from foldwise.errors import FoldwiseError
from foldwise.explanation.aim import Aim
from foldwise.explanation.effort import Effort
from foldwise.explanation.tokens import Window
from foldwise.models.classifier import Classifier
from foldwise.models.copies import copies_of

INSTALL = 'pip install "foldwise[explain]"'
FIRST_STEPS = 8
NEAR = 0.05  # of the difference between the ends, or of a log odds where that is smaller than one
_TOKENS = 4096  # in one pass


@dataclass(frozen=True)
class Path:
    """What a path of gradients came to.

    Attributes:
        tokens: what each adds to the margin, by window, float64 (length,).
        start: the margin of the emptied row.
        end: that of the row.
        steps: that the path was cut into.
    """

    tokens: list[NDArray[np.float64]]
    start: float
    end: float
    steps: int

    @property
    def delta(self) -> float:
        """By how much the tokens' sum misses the difference between the ends."""
        return float(sum(part.sum() for part in self.tokens) - (self.end - self.start))

    @property
    def near(self) -> bool:
        """Whether that is little."""
        return abs(self.delta) <= NEAR * max(abs(self.end - self.start), 1.0)


def check_captum() -> None:
    """Check that captum is installed.

    Raises:
        FoldwiseError: it isn't.
    """
    try:
        import captum.attr  # noqa: F401
    except ImportError as error:
        raise FoldwiseError(
            f"explaining a fine-tuned model needs the package captum ({error}): {INSTALL}"
        ) from None


def has_embeddings(model: nn.Module | None) -> bool:
    """Whether a model reads tokens through embeddings that gradients can lead to."""
    return model is not None and all(
        isinstance(embeddings, nn.Module) for embeddings in _embeddings(model)
    )


def integrate(
    model: nn.Module,
    task: Any,
    item: Any,
    windows: Sequence[Window],
    aim: Aim,
    device: torch.device,
    effort: Effort,
) -> Path:
    """Follow the path from the emptied row to the row.

    Args:
        model: one that `has_embeddings`, in evaluation mode; float32 is computed in.
        task: that the model belongs to.
        item: the row, of the task's dataset.
        windows: its pieces, as `Reader.windows` returns them.
        aim: whose margin; a number's is in the model's own unit.
        device: the model's.
        effort: the steps at which it ends, near or not.
    """
    from captum.attr import LayerIntegratedGradients

    batch = {name: tensor.to(device) for name, tensor in task.collate([item]).items()}
    batch.pop("target", None)
    ids = batch.pop("input_ids")
    empty = _emptied(ids, windows, task)
    ordered = task.holds == "label" and task.n_outputs < len(task.classes)
    names, given = list(batch), tuple(batch.values())

    def forward(ids: Tensor, *others: Tensor) -> Tensor:
        inputs = dict(zip(names, others, strict=True))
        if "chunk_row" in inputs:  # all windows of one row, as often as there are steps
            steps = len(ids) // len(windows)
            inputs["chunk_row"] = torch.arange(steps, device=device).repeat_interleave(len(windows))
        return aim.of_logits(model(input_ids=ids, **inputs), ordered=ordered)

    # Of several copies all embeddings go the path at once, so what each adds is summed up.
    with warnings.catch_warnings():  # that one of several layers must not hang on another's output
        warnings.simplefilter("ignore")
        gradients = LayerIntegratedGradients(forward, _embeddings(model))
    with torch.no_grad():
        start, end = (float(forward(at, *given)) for at in (empty, ids))
    steps = FIRST_STEPS
    while True:
        effort.between()  # never within: captum has its hooks in the model
        found = gradients.attribute(
            ids,
            baselines=empty,
            additional_forward_args=given,
            n_steps=steps,
            internal_batch_size=max(len(windows), _TOKENS // ids.shape[1]),
        )
        by_token = sum(part.sum(dim=-1).double().cpu().numpy() for part in found)
        path = Path(list(by_token[:, : len(windows[0])]), start, end, steps)
        if path.near or 2 * steps > effort.steps:
            return path
        steps *= 2


def _embeddings(model: nn.Module) -> list[Any]:
    # Of each copy of a `Classifier`; None where there are none.
    return [_embeddings_of(copy) for copy in copies_of(model)]


def _embeddings_of(model: nn.Module) -> Any:
    if not isinstance(model, Classifier) or model.backbone is None:
        return None
    try:
        return model.backbone.get_input_embeddings()  # type: ignore[operator]
    except (AttributeError, NotImplementedError):
        return None


def _emptied(ids: Tensor, windows: Sequence[Window], task: Any) -> Tensor:
    # Windows of one row are equally wide, so a place in one is a place in its line.
    tokenizer, texts = task.tokenizer, task.config.data.text
    # Padding stands for nothing. Of masked tokens the five best words moved the probability by half
    # as much when they were removed (0.007 against 0.014, 20 complaints).
    known = (tokenizer.pad_token_id, tokenizer.mask_token_id, tokenizer.eos_token_id, 0)
    blank = next(token for token in known if token is not None)
    empty = ids.clone()
    for line, window in enumerate(windows):
        own = [at for at, piece in enumerate(window) if piece and piece.column in texts]
        empty[line, own] = blank
    return empty
