"""Where there are no words to move (`training.adversarial`)."""

from __future__ import annotations

from collections.abc import Iterator

from foldwise.config.grammar import Path, Problem
from foldwise.config.model import Model
from foldwise.config.rows import Data
from foldwise.config.training import Training


def adversarial_problems(data: Data, model: Model, training: Training) -> Iterator[Problem]:
    """Yield what doesn't go with `training.adversarial`."""
    if training.adversarial is None:
        return
    by: tuple[Path, ...] = (("training", "adversarial"),)
    for wrong, path, why in (
        (model.freeze > 0, ("model", "freeze"), "freezes the word embeddings"),
        (model.lora is not None, ("model", "lora"), "freezes the word embeddings"),
        (model.quantize is not None, ("model", "quantize"), "freezes the word embeddings"),
        (
            not data.text and model.fusion.name != "text",
            ("data", "text"),
            "names no column, so there are no words",
        ),
    ):
        if wrong:
            message = f"{why}, and training.adversarial moves them; leave one of the two out"
            yield Problem(path, message, by)
