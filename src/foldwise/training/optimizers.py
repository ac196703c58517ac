"""From a model and the config to an optimizer with its parameter groups.

In: any `nn.Module`; one that has `layers()` (parameters from the bottom up) gets a learning rate
for each layer. Out: a torch optimizer. Biases and norms, whatever their rank, and other vectors are
not decayed.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

from torch import nn
from torch.optim import Optimizer

from foldwise.config.training import Optimizer as OptimizerConfig
from foldwise.errors import FoldwiseError
from foldwise.parts.registry import build_part, find_part
from foldwise.parts.usercode import UserCode

# A bias by its name, such as a table of them: relative_attention_bias.weight, bias_ih_l0.
_BIAS = re.compile(r"(^|[._])bias(es)?($|[._])")
# A norm by its class's: LayerNorm, BatchNorm1d, and LlamaRMSNorm and the like of the families.
_NORM = re.compile(r"Norm(\dd)?$")


def build_optimizer(model: nn.Module, config: OptimizerConfig, code: UserCode) -> Optimizer:
    """Build the optimizer that the config names over a model's trainable parameters.

    Raises:
        FoldwiseError: nothing is trainable, the optimizer's arguments don't fit, or it can't do
            what it would have to: step without a closure, decay weights, run on the device.
    """
    groups = parameter_groups(model, config)
    if not groups:
        raise FoldwiseError("model.freeze leaves no parameter to train")
    _check_device(config.name, groups[0]["params"][0].device.type)
    arguments = dict(config.arguments)
    part = find_part("optimizer", config.name, code, "optimizer")
    _check_step(config.name, part)
    if "fused" in inspect.signature(part).parameters and not arguments.keys() & {
        "foreach",
        "fused",
    }:
        arguments["fused"] = True  # one kernel for all tensors; on CPU and CUDA alike
    optimizer: Optimizer = build_part(
        "optimizer", config.name, arguments, code, "optimizer", params=groups, lr=config.rate
    )
    if not isinstance(optimizer, Optimizer):
        raise FoldwiseError(f"optimizer: {config.name} must make a torch.optim.Optimizer")
    if config.weight_decay and "weight_decay" not in optimizer.defaults:
        raise FoldwiseError(
            f"optimizer: {config.name} has no weight decay, so weight_decay {config.weight_decay} "
            "would do nothing; set it to 0"
        )
    return optimizer


def load_state(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Put a state back into an optimizer of the same groups.

    The large moments of a paged optimizer go back into pages: loaded as they are they would lie in
    the GPU's own memory, and a run that fitted wouldn't any more.

    Args:
        optimizer: as `build_optimizer` made it.
        state: what its `state_dict` returned, on any device.
    """
    if not getattr(optimizer, "is_paged", False):
        optimizer.load_state_dict(state)
        return
    paged: Any = optimizer
    paged.load_state_dict(state, move_to_device=False)
    for parameter, values in paged.state.items():
        for name, value in values.items():
            if name in ("state1", "state2"):
                values[name] = paged.get_state_buffer(parameter, dtype=value.dtype)
                values[name].copy_(value)


def parameter_groups(model: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Group parameters by learning rate and decay.

    The top layer learns at `lr`, each layer below at `layer_decay` times the one above (Howard and
    Ruder 2018), everything outside the layers at `head_lr`. A model without `layers()` learns at
    `lr` throughout. Decay pulls towards 0, which is no better a place for a bias or for the scale
    of a norm than another, so these are left alone, as is whatever has fewer than two dimensions.

    Returns:
        Groups with params, lr, weight_decay and a name for the log; empty ones left out.
    """
    rates: dict[int, tuple[str, float]] = {}
    find_layers: Any = getattr(model, "layers", None)
    layers: list[list[nn.Parameter]] = find_layers() if find_layers else []
    for height, layer in enumerate(reversed(layers)):
        for parameter in layer:
            name = f"layer {len(layers) - 1 - height}"
            rates[id(parameter)] = (name, config.rate * config.layer_decay**height)
    rest = ("head", config.head_lr or config.rate) if layers else ("all", config.rate)
    groups: dict[tuple[str, float, bool], list[nn.Parameter]] = {}
    of_norms = {
        id(parameter)
        for module in model.modules()
        if _NORM.search(type(module).__name__)
        for parameter in module.parameters(recurse=False)
    }
    for path, parameter in model.named_parameters():
        if parameter.requires_grad:
            decayed = parameter.ndim > 1 and id(parameter) not in of_norms
            decayed = decayed and not _BIAS.search(path)
            name, rate = rates.get(id(parameter), rest)
            groups.setdefault((name, rate, decayed), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": rate,
            "weight_decay": config.weight_decay if decayed else 0.0,
            "name": f"{name}, {'decayed' if decayed else 'not decayed'}",
        }
        for (name, rate, decayed), parameters in groups.items()
    ]


def _check_device(name: str, device: str) -> None:
    if name.startswith("paged_") and device != "cuda":
        raise FoldwiseError(
            f"optimizer: {name} moves its state between the memory of CUDA and the host's; on "
            f"{device} there is nothing to move: use {name.removeprefix('paged_')}"
        )
    if name == "adamw_8bit" and device not in ("cpu", "cuda"):
        raise FoldwiseError(f"optimizer: bitsandbytes has no adamw_8bit for {device}; use adamw")


def _check_step(name: str, part: Any) -> None:
    # Asked before it is built: LBFGS refuses parameter groups first, which is not the reason.
    step = getattr(part, "step", None)
    parameters = [] if step is None else list(inspect.signature(step).parameters.values())[1:]
    if needed := [
        p.name for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD
    ]:
        raise FoldwiseError(
            f"optimizer: {name} can't be used: its step() needs {', '.join(needed)}, which "
            "computes the loss several times a step; choose one whose step() needs nothing"
        )
