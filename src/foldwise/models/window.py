"""How long an input a backbone can read, from its config alone: imports no torch."""

from __future__ import annotations

from typing import Any

# They number positions from the pad id on, so that many places of the table aren't usable.
_NUMBERED_FROM_PAD = (
    *("camembert", "data2vec-text", "esm", "ibert", "lilt", "longformer", "luke", "mpnet"),
    *("roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod"),
)
# Positions relative to each other, clamped where they are far apart: no text is too long.
_RELATIVE = ("deberta", "deberta-v2")


def window(config: Any) -> int | None:
    """Return the longest input that position embeddings allow; None where they set no limit."""
    model_type = getattr(config, "model_type", None)
    limit = getattr(config, "max_position_embeddings", None)
    if not isinstance(limit, int) or limit <= 0:
        return None
    if model_type in _RELATIVE and not getattr(config, "position_biased_input", True):
        return None
    if model_type in _NUMBERED_FROM_PAD:
        return limit - (getattr(config, "pad_token_id", None) or 0) - 1
    return limit
