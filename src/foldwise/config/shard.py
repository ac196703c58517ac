"""What can't be trained in parts (`training.shard`)."""

from __future__ import annotations

from collections.abc import Iterator

from foldwise.config.grammar import Path, Problem
from foldwise.config.model import Model
from foldwise.config.training import Optimizer, Training

_OF_WHOLE_TENSORS = ("adamw_8bit", "paged_adamw", "paged_adamw_8bit")  # bitsandbytes' kernels


def shard_problems(model: Model, optimizer: Optimizer, training: Training) -> Iterator[Problem]:
    """Yield what doesn't go with `training.shard`."""
    if not training.shard:
        return
    by: tuple[Path, ...] = (("training", "shard"),)
    if model.quantize is not None:
        message = "quantized weights can't be cut in parts (training.shard); leave one of them out"
        yield Problem(("model", "quantize"), message, by)
    if optimizer.name in _OF_WHOLE_TENSORS:
        message = f"{optimizer.name} can't update parts of tensors (training.shard); use adamw"
        yield Problem(("optimizer", "name"), message, by)
    if optimizer.lr == "range_test":
        message = "range_test trains the whole model in one process, which training.shard is not "
        yield Problem(("optimizer", "lr"), f"{message}for; give a rate, or auto", by)
    if training.adversarial is not None:
        message = "cuts the word embeddings in parts, and training.adversarial moves them; leave "
        yield Problem(by[0], f"{message}one of the two out", (("training", "adversarial"),))
