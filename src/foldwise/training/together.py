"""What the processes that train a fold together share: gradients, and where it stands.

A window's micro-batches are dealt to the processes, and each sums the gradients of its own. Those
sums are added up once a step, before clipping: from there on all have the same gradients and take
the same step. `DistributedDataParallel` would take the mean over the processes, in hooks that run
within `backward`, and needs a `backward` of each in every step; here the divisor is the window's,
the order of things stands in `fit`, and a process that a short window leaves without a micro-batch
adds nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError, RunInterrupted
from foldwise.hardware import team
from foldwise.run.folder import FoldFolder
from foldwise.training.resume import TrainingState, resume
from foldwise.training.shards import is_part
from foldwise.training.update import Update

_BUCKET = 16 * 2**20  # numbers that are added up at once: 64 MiB of float32


def add_up_gradients(parameters: Sequence[nn.Parameter], loss_sum: Tensor) -> None:
    """Replace gradients and summed loss of this process's micro-batches by those of all.

    A parameter that no micro-batch has reached keeps no gradient, so that the optimizer leaves it
    alone, as in one process. Those of a layer in parts were added up within `backward`.

    Args:
        parameters: those that train, in an order that all processes share.
        loss_sum: float64 (), on the gradients' device.
    """
    if team.size() == 1:
        return
    parameters = [parameter for parameter in parameters if not is_part(parameter)]
    reached = [float(parameter.grad is not None) for parameter in parameters]
    told = torch.tensor([0.0, *reached], dtype=torch.float64, device=loss_sum.device)
    told[0] = loss_sum
    team.add_up(told)
    loss_sum.copy_(told[0])
    # Who has all of them needs not look, and waits for nothing.
    lacking = {} if all(reached) else dict(zip(parameters, told[1:].tolist(), strict=True))
    for bucket in _buckets(parameters):
        flat = torch.cat([_gradient(parameter).reshape(-1) for parameter in bucket])
        team.add_up(flat)
        parts = torch.split(flat, [parameter.numel() for parameter in bucket])
        for parameter, part in zip(bucket, parts, strict=True):
            if parameter.grad is not None:
                parameter.grad.copy_(part.view_as(parameter))
            elif lacking[parameter]:
                parameter.grad = part.view_as(parameter).clone()


def start_alike(
    fold: FoldFolder, model: nn.Module, update: Update, recipe: dict[str, Any] | None
) -> TrainingState:
    """Put a training where its newest checkpoint has it, the same in all processes.

    The one that leads looks first, as it may set a damaged checkpoint aside.

    Args:
        fold: where checkpoints lie.
        model: as for `resume`.
        update: as for `resume`.
        recipe: as for `resume`.

    Raises:
        FoldwiseError: a process sees other checkpoints than the one that leads.
        RunInterrupted: as for `resume`; or the models aren't the same.
    """
    stands = None if team.leads() else team.hear()
    done = resume(fold, model, update, recipe)
    if stands is None:
        team.tell(asdict(done))
    elif asdict(done) != stands:
        raise FoldwiseError(
            f"{fold.title}: a process sees other checkpoints than the one that leads (step "
            f"{done.step} instead of {stands['step']}); all machines need the same run.dir"
        )
    check_alike(model, fold.title)
    return done


def check_alike(model: nn.Module, title: str) -> None:
    """Check that the processes' models are the same, bit for bit.

    Raises:
        RunInterrupted: they have come apart; what is saved is of the process that leads.
    """
    state = [t for t in (*model.parameters(), *model.buffers()) if not is_part(t)]
    if team.size() == 1 or not state:
        return
    # Bytes are whole numbers: their sum is the same on any device.
    sums = [t.detach().contiguous().view(-1).view(torch.uint8).sum() for t in state if t.numel()]
    told = torch.stack(sums).cpu()
    everyone = told.clone()
    team.add_up(everyone)
    differing = (everyone != told * team.size()).to(torch.int64).sum()
    team.add_up(differing)  # so that none is left waiting for one that has seen it alone
    if differing:
        raise RunInterrupted(
            f"{title}: the models of the {team.size()} processes have come apart: something in "
            "the model follows from the rows that each has seen, or from another device or "
            "version of torch; train it in one process"
        )


def check_parallel(model: nn.Module) -> None:
    """Refuse a model whose layers keep numbers of the rows that they see.

    Raises:
        FoldwiseError: naming the layer.
    """
    for name, module in model.named_modules():
        if team.size() > 1 and getattr(module, "running_mean", None) is not None:
            raise FoldwiseError(
                f"{name or 'the model'} ({type(module).__name__}) keeps means of the rows that it "
                "sees, and each process sees others; train it in one process, or with a norm "
                "that keeps none (LayerNorm, GroupNorm)"
            )


def told_shares(config: Config) -> list[str]:
    """Say in a line how the processes share a step; none where there is one process."""
    if team.size() == 1:
        return []
    training = config.training
    pieces = training.pieces * training.accumulate
    parts = ", each with its part of the model" if training.shard else ""
    told = (
        f"{team.size()} processes train each fold together{parts}: a step has {pieces} pieces "
        f"(training.shares {training.pieces} x training.accumulate {training.accumulate})"
    )
    if pieces >= team.size():
        return [told]
    idle = team.size() - pieces
    return [
        f"{told}, so {idle} of them {'has' if idle == 1 else 'have'} nothing to do. The run's "
        "numbers follow from the pieces: a run of another name can have more"
    ]


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _buckets(parameters: Sequence[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    # Of one type each; the copy that is added up is never of the whole model.
    bucket: list[nn.Parameter] = []
    held = 0
    for parameter in parameters:
        full = held + parameter.numel() > _BUCKET
        if bucket and (full or parameter.dtype != bucket[0].dtype):
            yield bucket
            bucket, held = [], 0
        bucket.append(parameter)
        held += parameter.numel()
    if bucket:
        yield bucket
