"""Which implementation of attention a backbone computes with.

In: the backbone's config, what the config asks for, device and precision. Out: one of `flash`,
`sdpa` and `eager`. They give the same numbers up to rounding; what differs is time and memory:

- `flash` (the flash-attn package, Dao 2023) skips padding altogether, but needs CUDA and bf16;
- `sdpa` is torch's fused kernel, the quickest elsewhere;
- `eager` writes the attention matrix out. All architectures have it, and where attention has
  dropout on a CPU it is the quickest: torch has no fused kernel for that (on one core a step of 16
  texts of 128 tokens took 1.39 s instead of 1.52 s, and without dropout 1.33 s instead of 1.24 s).
"""

from __future__ import annotations

from typing import Any

from transformers.models.auto.modeling_auto import MODEL_MAPPING
from transformers.utils import is_flash_attn_2_available

from foldwise.errors import FoldwiseError

# The names that transformers has for them.
IMPLEMENTATIONS = {"flash": "flash_attention_2", "sdpa": "sdpa", "eager": "eager"}
# The keys by which the architectures' configs name the dropout of attention probabilities.
DROPOUT = (
    "attention_probs_dropout_prob",
    "attention_dropout",
    "attn_pdrop",
    "attn_dropout",
)


def choose_attention(
    config: Any,
    wanted: str,
    dropout: float | None,
    device: str,
    precision: str,
    *,
    strict: bool = True,
) -> str:
    """Return flash, sdpa or eager for `auto`, and check that the one asked for can be had.

    Args:
        config: the backbone's.
        wanted: auto, flash, sdpa or eager.
        dropout: of attention probabilities; None: what the backbone's config says.
        device: cpu, cuda or mps.
        precision: float32, bf16 or fp16.
        strict: refuse what can't be had; otherwise `auto` takes its place.

    Raises:
        FoldwiseError: it can't be had, and why.
    """
    reasons = _reasons(config, device, precision)
    if wanted != "auto" and (strict or reasons[wanted] is None):
        if reason := reasons[wanted]:
            raise FoldwiseError(f"model.attention: {wanted} {reason}; use auto")
        return wanted
    if dropout is None:
        dropout = max(float(getattr(config, key, None) or 0.0) for key in DROPOUT)
    order = ("eager",) if device == "cpu" and dropout > 0 else ("flash", "sdpa", "eager")
    return next(name for name in order if reasons[name] is None)


def _reasons(config: Any, device: str, precision: str) -> dict[str, str | None]:
    # Why each implementation can't be had; None where it can.
    architecture: Any = MODEL_MAPPING.get(type(config), None)
    name = getattr(architecture, "__name__", config.model_type)
    flash = None
    if not getattr(architecture, "_supports_flash_attn", False):
        flash = f"isn't there for {name}"
    elif device != "cuda" or precision != "bf16":
        flash = f"needs CUDA and bf16, not {device} and {precision}"
    elif not is_flash_attn_2_available():
        flash = "needs the package flash-attn: pip install flash-attn --no-build-isolation"
    has_sdpa = getattr(architecture, "_supports_sdpa", False)
    return {"flash": flash, "sdpa": None if has_sdpa else f"isn't there for {name}", "eager": None}
