"""What fits together between the columns, `model.fusion` and the keys that hang on them."""

from __future__ import annotations

from collections.abc import Iterator

from foldwise.config.grammar import Path, Problem
from foldwise.config.model import Model
from foldwise.config.rows import Data
from foldwise.config.tabular import default_of
from foldwise.config.training import Training


def fusion_problems(data: Data, model: Model, training: Training) -> Iterator[Problem]:
    """Yield what doesn't fit between the columns, model.fusion and the keys that hang on them."""
    fusion = model.fusion.name
    by: tuple[Path, ...] = (("model", "fusion"), ("data", "categorical"), ("data", "numeric"))
    if fusion == "text":
        message = "does nothing where model.fusion is text: all columns are in the template"
        for key in type(model.tabular).model_fields:
            if getattr(model.tabular, key) != default_of(model.tabular, key):
                yield Problem(("model", "tabular", key), message, by)
        return
    if not data.categorical and not data.numeric:
        message = f"{fusion} needs columns under data.categorical or data.numeric; set it to text"
        yield Problem(("model", "fusion"), message, by)
        return
    for key in ("categorical", "numeric"):
        section = getattr(model.tabular, key)
        if not getattr(data, key) and section != default_of(model.tabular, key):
            message = f"does nothing without columns under data.{key}"
            yield Problem(("model", "tabular", key), message, by)
    for column in model.tabular.prefixes:
        if column not in data.categorical:
            message = f"column {column!r} isn't listed under data.categorical"
            yield Problem(("model", "tabular", "prefixes", column), message, by)
    if data.text:
        return
    by = (*by, ("data", "text"))
    if fusion != "concat":
        message = f"{fusion} needs a text under data.text; set it to concat for columns alone"
        yield Problem(("model", "fusion"), message, by)
    unused = set(type(model).model_fields) - {
        # Where the columns alone make the model, the backbone's name and what prepare.py resolves
        # may stay, so that such a config can extend one with text.
        *("backbone", "revision", "fusion", "tabular", "head", "attention_dropout", "attention"),
    }
    message = "does nothing without data.text: there is no backbone"
    for key in sorted(unused):
        if getattr(model, key) != default_of(model, key):
            yield Problem(("model", key), message, by)
    if training.tokens_per_batch is not None:
        message = "does nothing without data.text: there are no tokens; give batch_size"
        yield Problem(("training", "tokens_per_batch"), message, by)
