"""What a Classifier is made of beside its backbone, from the config's keys.

In: the config, widths, and a fold's encoders. Out: pooling, chunks, inputs, fusion and head, each
built for the width of the one before it. Nothing here loads a weight, so that parts which don't
fit show at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from foldwise.config.schema import Config
from foldwise.encoding.tabular import Encoders
from foldwise.encoding.text import Frame
from foldwise.errors import FoldwiseError
from foldwise.models.chunks import ChunkPooling
from foldwise.models.head import build_head
from foldwise.models.trial_calls import pooled_width
from foldwise.parts.registry import build_part
from foldwise.parts.usercode import UserCode
from foldwise.tasks.columns import build_beside


def build_parts(
    config: Config,
    code: UserCode,
    encoders: Encoders | None,
    *,
    hidden_size: int,
    frame: Frame | None,
    n_outputs: int,
    deviation: float,
    start: np.ndarray | None = None,
) -> tuple[dict[str, Any], int]:
    """Build the parts that are quick to build.

    Args:
        config: `model` and `text` are read.
        code: the user's files.
        encoders: of the columns beside the text; not needed where there are none.
        hidden_size: width of the backbone's vectors.
        frame: how the tokenizer frames a text; None where there is no text.
        n_outputs: logits a row.
        deviation: standard deviation of the head's weights.
        start: the head's logits where its weights say nothing, (n_outputs,); None: zeros.

    Returns:
        Arguments of `Classifier` by name, and the width that enters the head.

    Raises:
        FoldwiseError: a part can't be built or doesn't fit the one before, or columns stand beside
            the text and nothing was fitted.
    """
    parts: dict[str, Any] = dict.fromkeys(("pooling", "chunks", "inputs", "fusion"))
    width = 0
    if frame is not None:
        pooling = config.model.pooling
        parts["pooling"] = build_part(
            "pooling",
            pooling.name,
            pooling.arguments,
            code,
            "model.pooling",
            hidden_size=hidden_size,
            n_classes=n_outputs,
            n_outputs=n_outputs,
        )
        width = pooled_width(parts["pooling"], hidden_size)
        parts["chunks"] = _chunks(config, code, width)
        if parts["chunks"] is not None:
            width = pooled_width(parts["chunks"].pooling, width, "text.chunk_pooling")
    if config.model.fusion.name != "text":
        if encoders is None:
            raise FoldwiseError(
                f"model.fusion {config.model.fusion.name}: the sizes of embeddings follow from "
                "training rows; call fit_rows or load_state first"
            )
        parts["inputs"], parts["fusion"], width = build_beside(encoders, config, code, width, frame)
    parts["head"] = build_head(config.model.head, width, n_outputs, deviation, code, start)
    return parts, width


def _chunks(config: Config, code: UserCode, width: int) -> ChunkPooling | None:
    part = config.text.chunk_pooling
    if part is None:
        return None
    where = "text.chunk_pooling"
    pooling = build_part("pooling", part.name, part.arguments, code, where, hidden_size=width)
    return ChunkPooling(pooling)
