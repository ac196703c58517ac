"""The columns beside the text, from the config's keys to the modules that take them in.

In: the config and a fold's training rows. Out: its encoders, the embeddings of what they encode,
and the fusion that joins these with the text. encoding/tabular.py and models/ do the work.
"""

from __future__ import annotations

from typing import Any

import polars as pl
from torch import nn

from foldwise.config.schema import Config
from foldwise.config.tabular import Numeric
from foldwise.encoding.tabular import Category, Encoders, fit_category, fit_number
from foldwise.encoding.text import Frame
from foldwise.errors import FoldwiseError
from foldwise.models.fusion import TokenFusion
from foldwise.models.inputs import (
    CategoryEmbeddings,
    LinearNumbers,
    NumberColumns,
    PeriodicNumbers,
    PiecewiseLinearNumbers,
    TabularFeatures,
    TabularTokens,
)
from foldwise.models.trial_calls import fused_width
from foldwise.parts.registry import build_part
from foldwise.parts.usercode import UserCode


def categories_of(config: Config) -> list[Category]:
    """List the category columns, then those derived from them."""
    prefixes = config.model.tabular.prefixes.items()
    return [
        *(Category(column) for column in config.data.categorical),
        *(Category(column, length) for column, length in prefixes),
    ]


def column_tokens(config: Config) -> int:
    """Count the tokens that the columns become in front of a text."""
    if config.model.fusion.name != "tokens":
        return 0
    return len(categories_of(config)) + len(config.data.numeric)


def fit_encoders(frame: pl.DataFrame, config: Config) -> Encoders:
    """Fit the encoders of all columns on the training rows of a fold."""
    categorical, numeric = config.model.tabular.categorical, config.model.tabular.numeric
    return Encoders(
        tuple(
            fit_category(frame, category, categorical.hash_above, categorical.buckets)
            for category in categories_of(config)
        ),
        tuple(
            fit_number(
                frame,
                column,
                scale=numeric.scale,
                fill=config.data.missing.numeric,
                bins=numeric.bins if numeric.embedding == "piecewise_linear" else 0,
            )
            for column in config.data.numeric
        ),
    )


def made_up_rows(config: Config) -> pl.DataFrame:
    """Return two rows of made-up cells, to try the model on before there are training rows."""
    cells: dict[str, Any] = {column: ["a", "b"] for column in config.data.categorical}
    return pl.DataFrame(cells | {column: [0.0, 1.0] for column in config.data.numeric})


def build_inputs(encoders: Encoders, config: Config) -> TabularFeatures:
    """Build the embeddings of the encoded columns: (B, n), (B, m) -> (B, F)."""
    tabular = config.model.tabular
    categories = numbers = None
    if encoders.categories:
        slots = [encoder.size for encoder in encoders.categories]
        categorical = tabular.categorical
        categories = CategoryEmbeddings(slots, categorical.max_size, categorical.dropout)
    if encoders.numbers:
        fill = [encoder.fill for encoder in encoders.numbers]
        embedding = _numbers(encoders, tabular.numeric)
        numbers = NumberColumns(embedding, fill, tabular.numeric.size)
    return TabularFeatures(categories, numbers)


def build_beside(
    encoders: Encoders, config: Config, code: UserCode, hidden_size: int, frame: Frame | None
) -> tuple[TabularFeatures, nn.Module | None, int]:
    """Build the columns' embeddings and what joins them with the pooled text.

    Args:
        encoders: of the columns.
        config: model.fusion, which isn't `text`, and model.tabular are read.
        code: the user's files.
        hidden_size: width D of the pooled text.
        frame: how the tokenizer frames a text; None without text.

    Returns:
        The embeddings, the fusion (None without text), and the joined width E.

    Raises:
        FoldwiseError: the fusion can't be built, doesn't join, or is `tokens` where texts are
            padded in front.
    """
    inputs = build_inputs(encoders, config)
    features = sum(inputs.widths)
    if frame is None:
        return inputs, None, features
    part, where = config.model.fusion, "model.fusion"
    fusion: nn.Module = build_part(
        "fusion",
        part.name,
        part.arguments,
        code,
        where,
        hidden_size=hidden_size,
        tabular_size=features,
        special=len(frame.before),
    )
    if not isinstance(fusion, TokenFusion):
        return inputs, fusion, fused_width(fusion, hidden_size, features)
    if frame.padding_side == "left":
        raise FoldwiseError(
            f"{where}: tokens stand in front of the text, where {config.model.backbone} has its "
            "padding; use concat or gated"
        )
    return inputs, fusion, hidden_size


def build_tokens(features: TabularFeatures, backbone: Any, deviation: float) -> TabularTokens:
    """Build the columns' tokens, as wide as the backbone's own embeddings.

    Raises:
        FoldwiseError: the backbone takes no embedded tokens.
    """
    try:
        size = int(backbone.get_input_embeddings().weight.shape[1])
    except (AttributeError, NotImplementedError):
        raise FoldwiseError(
            f"model.fusion: tokens stand among the embeddings of a text's tokens, which "
            f"{type(backbone).__name__} doesn't show; use concat or gated"
        ) from None
    return TabularTokens(features, size, deviation)


def _numbers(encoders: Encoders, numeric: Numeric) -> nn.Module:
    n = len(encoders.numbers)
    if numeric.embedding == "periodic":
        return PeriodicNumbers(n, numeric.frequencies, numeric.sigma, numeric.size)
    if numeric.embedding == "piecewise_linear":
        return PiecewiseLinearNumbers([e.edges for e in encoders.numbers], numeric.size)
    return LinearNumbers(n, numeric.size)
