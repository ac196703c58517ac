"""A model and rows in, logits in row order out; serves evaluation, validation, holdout, predict.

Rows are batched by length, longest first, so that little is padding and running out of memory
shows at once; the logits are put back in the order asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader

from foldwise.hardware import team
from foldwise.progress.shown import rows_shown
from foldwise.training.batching import ordered_batches
from foldwise.training.shards import in_parts

# Rows a batch. On a CPU small ones hold less padding and stay in its caches: of 8, 16, 32 and 64, 8
# and 16 were quickest, 64 took a sixth longer (all-MiniLM-L6-v2, 256 tokens, one core).
_ON_CPU, _ELSEWHERE = 16, 64


def quickest_batch(accelerator: Accelerator) -> int:
    """Return how many rows at once a device predicts quickest."""
    return _ON_CPU if accelerator.device.type == "cpu" else _ELSEWHERE


def infer(
    model: nn.Module,
    dataset: Any,
    positions: np.ndarray,
    collate: Callable[[Sequence[Any]], dict[str, torch.Tensor]],
    accelerator: Accelerator,
    *,
    batch_size: int = 64,
    workers: int = 0,
    title: str | None = "predicting",
    together: bool = False,
    take: Callable[[np.ndarray, Any], torch.Tensor] | None = None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Run a model over rows of a dataset.

    Args:
        model: on the accelerator's device; its training mode is restored afterwards.
        dataset: `dataset[position]` is a row; `lengths`, if it has them, order the batches, and
            `chunks` say how many inputs each row is cut into.
        positions: the rows wanted, int64 (n,).
        collate: rows -> batch; all of it but `target` goes to the model by keyword.
        accelerator: gives device and autocast.
        batch_size: inputs a batch, which are rows where those aren't cut into chunks.
        workers: processes that prepare batches.
        title: what a command shows it as, where it takes long; None for silence.
        together: the processes that train together all ask for these rows, and share the batches.
        take: places of a batch's rows among `positions`, and what the model returned: what of it
            becomes their logits; None where that is all.

    Returns:
        Logits, float32 (n, n_outputs), and the rows' targets (n, ...) or None where they have none;
        both in the order of `positions`.
    """
    lengths, chunks = (
        None if column is None else column[positions]
        for column in (getattr(dataset, "lengths", None), getattr(dataset, "chunks", None))
    )
    batches = ordered_batches(lengths, len(positions), batch_size, chunks)
    dealt = together and len(batches) >= team.size()
    if dealt:
        most, batches = len(batches[:: team.size()]), batches[team.mine()]
        if in_parts(model) and len(batches) < most:
            batches.append(batches[-1])  # all processes run as often
    loader: DataLoader[Any] = DataLoader(
        dataset,
        batch_sampler=[positions[batch].tolist() for batch in batches],
        collate_fn=collate,
        num_workers=workers,
    )
    was_training = model.training
    model.eval()
    parts, targets = [], []
    shown = rows_shown(title, len(positions))
    # Gathering the parts of a model has failed in inference mode, by releases of torch.
    unrecorded = torch.no_grad() if in_parts(model) else torch.inference_mode()
    with unrecorded, accelerator.autocast(), shown as advance:
        done = 0
        for places, batch in zip(batches, loader, strict=True):
            if "target" in batch:
                targets.append(batch.pop("target").numpy())
            outputs = model(**{k: v.to(accelerator.device) for k, v in batch.items()})
            logits = outputs if take is None else take(places, outputs)
            parts.append(logits.float().cpu().numpy())
            done += len(places)
            advance(done)
    model.train(was_training)
    ordered = _in_order(parts, batches, len(positions))
    target = _in_order(targets, batches, len(positions)) if targets else None
    if dealt:
        ordered = team.filled(ordered)
        target = None if target is None else team.filled(target)
    return ordered, target


def _in_order(parts: list[np.ndarray], batches: list[np.ndarray], rows: int) -> np.ndarray:
    # Zeros stand for rows that are in no batch.
    found = np.concatenate(parts)
    ordered = np.zeros((rows, *found.shape[1:]), found.dtype)
    ordered[np.concatenate(batches)] = found
    return ordered
