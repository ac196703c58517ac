"""Backbones whose linear layers are held in 8 or 4 bits, by bitsandbytes.

In: the width and the precision. Out: what transformers is told when it loads the weights, which are
then rounded once and never change: adapters learn beside them. Embeddings, norms and whatever comes
after the backbone stay in float32.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import nn

from foldwise.errors import FoldwiseError

INSTALL = "pip install bitsandbytes"
_COMPUTES = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def quantization(width: str, precision: str, device: str) -> Any:
    """Return transformers' description of a quantization.

    `4bit` is NormalFloat 4 with its scales quantized once more (Dettmers et al. 2023); `8bit` is
    LLM.int8() (Dettmers et al. 2022).

    Args:
        width: 8bit or 4bit.
        precision: float32, bf16 or fp16, in which 4-bit layers compute.
        device: cpu, cuda or mps.

    Raises:
        FoldwiseError: bitsandbytes isn't installed, or doesn't work on the device.
    """
    if device == "mps":
        raise FoldwiseError("model.quantize: bitsandbytes works on cpu and cuda, not on mps")
    try:
        import bitsandbytes  # noqa: F401
    except ImportError as error:
        raise FoldwiseError(
            f"model.quantize: needs the package bitsandbytes ({error}): {INSTALL}"
        ) from None
    from transformers import BitsAndBytesConfig

    # It says at every call that 8-bit layers compute in float16.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    return BitsAndBytesConfig(
        load_in_8bit=width == "8bit",
        load_in_4bit=width == "4bit",
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=_COMPUTES[precision],
    )


def keep_layout(backbone: nn.Module) -> None:
    """Keep evaluation from repacking 4-bit weights.

    On CPUs with AVX512-BF16, bitsandbytes 0.50 repacks a layer at its first call in evaluation mode
    into a form that rounds its scales again and has no backward pass: training would go on after
    the first evaluation without gradients below that layer.
    """
    for module in backbone.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]
