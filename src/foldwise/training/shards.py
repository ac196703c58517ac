"""A model in parts: each of the processes that train it together holds its part of every layer.

In: a whole model in the process that leads; in the others one whose backbone has no memory yet, by
`build`. Out: the same one, whose parameters are cut along their first dimension (torch's FSDP2).
The lead sends them a block at a time, so that no other process ever has all. Before a block runs,
the processes gather its weights; after its backward pass each keeps the sum of the gradients of its
own part. Gradients, the optimizer's state and an average of the weights lie in the same parts.
Checkpoints are those of a whole model: put together in the memory of the process that leads, one
tensor at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from foldwise.config.schema import Config
from foldwise.config.training import Training
from foldwise.errors import FoldwiseError
from foldwise.hardware import team
from foldwise.models.copies import copies_of
from foldwise.models.empty import needs_values, sent_backbones
from foldwise.parts.usercode import UserCode
from foldwise.training.optimizers import build_optimizer

_COMPUTED = {"bf16": torch.bfloat16, "fp16": torch.float16}


def build(make: Callable[[], nn.Module], training: Training) -> nn.Module:
    """Build a fold's model: whole, or as `place` fills it where another process has the weights.

    Args:
        make: builds it whole.
        training: whether the model will be cut.
    """
    if not training.shard or team.leads():
        return make()
    try:
        with sent_backbones():
            model = make()
    except Exception:  # a part that is made of the weights' values, or what fails whole as well
        return make()
    return make() if needs_values(model) else model


def place(
    model: nn.Module, training: Training, accelerator: Accelerator, *, learns: bool = True
) -> None:
    """Move a model to its device: whole, or this process's part where `training.shard` asks for it.

    The weights are the lead's. The blocks of its backbones are gathered one by one, all else
    together. In mixed precision they are gathered in what they compute in, and gradients are added
    up in float32; autocast says, as elsewhere, what of a block computes in float32. A model that
    doesn't learn is gathered as it is, so that it computes as a whole one does.

    Args:
        model: of `build`; one that stays whole may lie on any device. Changed in place.
        training: whether it is cut, and the precision.
        accelerator: the device.
        learns: whether it is trained.

    Raises:
        FoldwiseError: torch can't cut it.
    """
    device = accelerator.device
    if not training.shard or team.size() == 1:
        model.to(device)
        return
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    mesh = init_device_mesh(device.type, (team.size(),))
    if not learns:
        model.requires_grad_(False)  # else autocast keeps what it has cast, of all layers
    computed = _COMPUTED.get(training.precision) if learns else None
    mixed = MixedPrecisionPolicy(computed, computed and torch.float32, cast_forward_inputs=False)
    # A single number can't be cut; its gradient is added up as where all is whole.
    numbers = {parameter for parameter in model.parameters() if parameter.ndim == 0}
    cut: list[Any] = []
    try:
        for copy in copies_of(model):  # training calls each by itself
            for block in _blocks(copy):
                _share(block)
                if computed:
                    block.register_forward_pre_hook(partial(_cast, computed), with_kwargs=True)
                cut.append(fully_shard(block, mesh=mesh, mp_policy=mixed, ignored_params=numbers))
            _share(copy)
            cut.append(
                fully_shard(copy, mesh=mesh, reshard_after_forward=True, ignored_params=numbers)
            )
    except (ValueError, NotImplementedError) as error:
        raise FoldwiseError(f"training.shard: the model can't be cut in parts: {error}") from None
    for number in numbers:
        number.data = number.data.to(device)
    for module in cut:
        # The sum of gradients, not their mean, and by an operation that gloo has too.
        module.set_gradient_divide_factor(1.0)
        module.set_force_sum_reduction_for_comms(True)


def in_parts(model: nn.Module) -> bool:
    """Say whether a model is cut."""
    return any(map(is_part, model.parameters()))


def is_part(tensor: Any) -> bool:
    """Say whether a tensor is cut, with a part of it in each process (a DTensor)."""
    # Asked of every tensor of every training: torch's own class takes over a second to import.
    return hasattr(tensor, "full_tensor")


def whole(tensor: Any) -> Tensor:
    """Return a tensor put together from its parts; all processes call it."""
    return tensor.full_tensor() if is_part(tensor) else tensor  # type: ignore[no-any-return]


def held(tensor: Any) -> Tensor:
    """Return what this process holds of a tensor: its part, in the same memory, or all of it."""
    return tensor.to_local() if is_part(tensor) else tensor  # type: ignore[no-any-return]


def gathered(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Put tensors together in the memory of the process that leads; all processes call it.

    Returns:
        Those that aren't in parts as they are; of the others the whole on the CPU, in the process
        that leads only.
    """
    found = {}
    for name, tensor in tensors.items():
        put = whole(tensor)
        if team.leads():
            found[name] = put.cpu() if is_part(tensor) else put
    return found


def part_of(value: Any, like: Any) -> Any:
    """Return this process's part of a whole tensor, cut as another one is.

    Args:
        value: as a checkpoint has it: a tensor on the CPU, or a number.
        like: a parameter, cut or whole; where it is whole, and for a tensor of another shape (the
            count of an optimizer's steps), the value stays as it is.
    """
    if not is_part(like) or not isinstance(value, Tensor) or value.shape != like.shape:
        return value
    from torch.distributed.tensor import DTensor

    mesh = like.device_mesh
    parts = value.chunk(mesh.size(), dim=0)
    rank = mesh.get_local_rank()
    own = parts[rank] if rank < len(parts) else value[:0]
    return DTensor.from_local(
        own.to(like.device, copy=True),
        mesh,
        like.placements,
        run_check=False,
        shape=value.shape,
        stride=value.stride(),
    )


def check_update(config: Config, code: UserCode, accelerator: Accelerator) -> None:
    """Take a step with a small layer in parts, to see whether the optimizer can; all call it.

    Raises:
        FoldwiseError: it can't.
    """
    layer = nn.Linear(8, 8)
    place(layer, config.training, accelerator)
    optimizer = build_optimizer(layer, config.optimizer, code)
    with team.computing():
        layer(torch.ones(1, 8, device=accelerator.device)).sum().backward()
        cannot = (
            f"optimizer: {config.optimizer.name} can't update a model in parts (training.shard)"
        )
        try:
            optimizer.step()
        except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:
            why = f"{type(error).__name__}: {str(error).splitlines()[0]}"
            raise FoldwiseError(f"{cannot}: {why}; use adamw") from error
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            # `part_of` gives back from a checkpoint what is cut as its parameter is, or a number.
            if isinstance(value, Tensor) and value.ndim and value.shape != parameter.shape:
                raise FoldwiseError(f"{cannot}: its {key} has another shape; use adamw")


def _share(module: nn.Module) -> None:
    # All that a checkpoint would hold of it but what is cut; the rest is made alike everywhere.
    kept = module.state_dict().keys()
    buffers = (buffer for name, buffer in module.named_buffers() if name in kept)
    for tensor in (*module.parameters(), *buffers):
        if is_part(tensor):
            continue
        if tensor.is_meta:
            # The same object, so that a weight which two modules share stays one.
            full = torch.empty_like(tensor, device="cpu")
            learns = tensor.requires_grad
            torch.utils.swap_tensors(tensor, nn.Parameter(full, learns))  # type: ignore[no-untyped-call]
        team.share(tensor)


def _cast(
    computed: torch.dtype, block: nn.Module, args: tuple[Any, ...], named: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    # Of a block's inputs only the hidden states, as its weights are: on a CPU a norm takes no
    # others. A mask's -3.4e38 would be minus infinity in bf16, and a row of those no number.
    if args:
        return (args[0].to(computed), *args[1:]), named
    return args, {**named, "hidden_states": named["hidden_states"].to(computed)}


def _blocks(model: nn.Module) -> list[nn.Module]:
    # Of the transformers models in it; without those that share a weight with something else, which
    # is gathered together with it.
    from foldwise.models.backbone import blocks_of  # transformers comes with it

    found: list[nn.Module] = []
    looked: set[nn.Module] = set()
    for module in model.modules():
        if module not in looked and hasattr(module, "config"):
            with suppress(FoldwiseError):
                found += blocks_of(module)
                looked.update(module.modules())
    owners: dict[nn.Parameter, set[int]] = {}
    for number, block in enumerate(found):
        for inner in block.modules():
            for parameter in inner.parameters(recurse=False):
                owners.setdefault(parameter, set()).add(number)
    inside = {inner for block in found for inner in block.modules()}
    for module in model.modules():
        if module not in inside:
            for parameter in module.parameters(recurse=False):
                owners.setdefault(parameter, set()).add(-1)
    shared = {number for numbers in owners.values() if len(numbers) > 1 for number in numbers}
    return [block for number, block in enumerate(found) if number not in shared]
