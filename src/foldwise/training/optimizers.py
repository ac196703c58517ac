"""From a model and the config to an optimizer with its parameter groups.

In: any `nn.Module`; one that has `layers()` (parameters from the bottom up) gets a learning rate
for each layer. Out: a torch optimizer. Biases, norms and other vectors are not decayed.
"""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn
from torch.optim import Optimizer

from foldwise.config import schema
from foldwise.errors import FoldwiseError
from foldwise.parts import build_part, find_part
from foldwise.usercode import UserCode


def build_optimizer(model: nn.Module, config: schema.Optimizer, code: UserCode) -> Optimizer:
    """Build the optimizer that the config names over a model's trainable parameters.

    Raises:
        FoldwiseError: nothing is trainable, or the optimizer's arguments don't fit.
    """
    groups = parameter_groups(model, config)
    if not groups:
        raise FoldwiseError("model.freeze leaves no parameter to train")
    arguments = dict(config.arguments)
    part = find_part("optimizer", config.name, code, "optimizer")
    if "fused" in inspect.signature(part).parameters and not arguments.keys() & {
        "foreach",
        "fused",
    }:
        arguments["fused"] = True  # one kernel for all tensors; on CPU and CUDA alike
    optimizer: Optimizer = build_part(
        "optimizer", config.name, arguments, code, "optimizer", params=groups, lr=config.lr
    )
    return optimizer


def parameter_groups(model: nn.Module, config: schema.Optimizer) -> list[dict[str, Any]]:
    """Group parameters by learning rate and decay.

    The top layer learns at `lr`, each layer below at `layer_decay` times the one above (Howard and
    Ruder 2018), everything outside the layers at `head_lr`. A model without `layers()` learns at
    `lr` throughout.

    Returns:
        Groups with params, lr, weight_decay and a name for the log; empty ones left out.
    """
    rates: dict[int, tuple[str, float]] = {}
    find_layers: Any = getattr(model, "layers", None)
    layers: list[list[nn.Parameter]] = find_layers() if find_layers else []
    for height, layer in enumerate(reversed(layers)):
        for parameter in layer:
            name = f"layer {len(layers) - 1 - height}"
            rates[id(parameter)] = (name, config.lr * config.layer_decay**height)
    rest = ("head", config.head_lr or config.lr) if layers else ("all", config.lr)
    groups: dict[tuple[str, float, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            name, rate = rates.get(id(parameter), rest)
            groups.setdefault((name, rate, parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": rate,
            "weight_decay": config.weight_decay if decayed else 0.0,
            "name": f"{name}, {'decayed' if decayed else 'not decayed'}",
        }
        for (name, rate, decayed), parameters in groups.items()
    ]
