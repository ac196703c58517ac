"""Where a training stands: from the loop to a checkpoint, and back.

In: model, optimizer, schedule, average. Out: named tensors and JSON values, and the same again from
those, bit for bit. An optimizer's state may hold tensors of any type, plain numbers (the step that
bitsandbytes counts) and maps of both (where it hides what it has quantized).
"""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from foldwise.errors import FoldwiseError, RunInterrupted
from foldwise.run import checkpoints
from foldwise.run.folder import FoldFolder
from foldwise.run.manifests import best_step, folder_of
from foldwise.run.weights import load_weights, saved_weights
from foldwise.training.optimizers import load_state
from foldwise.training.shards import gathered, part_of
from foldwise.training.update import Update

RAW = "raw."


@dataclass(frozen=True)
class TrainingState:
    """Where a training stands, after a whole number of steps.

    Attributes:
        step: optimizer steps done.
        epoch: the epoch under way, from 0.
        window: windows of it that are done.
        best: best validation score so far, None before the first.
        best_step: the step that had it.
        stale: evaluations since.
        loss_sum: summed loss of the rows since the last log line.
        loss_rows: their number.
        elapsed_s: seconds of training, over all the processes that took part.
    """

    step: int = 0
    epoch: int = 0
    window: int = 0
    best: float | None = None
    best_step: int | None = None
    stale: int = 0
    loss_sum: float = 0.0
    loss_rows: int = 0
    elapsed_s: float = 0.0


def capture(
    done: TrainingState,
    model: nn.Module,
    update: Update,
    *,
    whole: bool,
    recipe: dict[str, Any] | None = None,
) -> checkpoints.Checkpoint:
    """Return a checkpoint of a training; `whole` ones carry the optimizer and can be resumed.

    The model's weights are those in it: the average where it is applied. The ones that training
    goes on from are then kept beside the optimizer's state. A model in parts is put together in the
    process that leads; all processes call it, and the others get a checkpoint without tensors.

    Args:
        done: where it stands.
        model: its weights are the checkpoint's.
        update: the optimizer's state, if `whole`; the schedule's; the weights beside the average,
            while that is applied.
        whole: training can go on from it.
        recipe: what the rates follow from, so that `resume` sees a change; JSON values.

    Raises:
        FoldwiseError: the optimizer keeps something that is neither a tensor nor a JSON value.
    """
    saved = update.optimizer.state_dict()
    tensors: dict[str, torch.Tensor] = {}
    values: dict[str, Any] = {}
    for index, entries in saved["state"].items():
        for name, value in _flat(entries):
            if isinstance(value, torch.Tensor):
                tensors[f"{index}.{name}"] = value
            elif value is None or isinstance(value, bool | int | float | str):
                values[f"{index}.{name}"] = value
            else:
                raise FoldwiseError(
                    f"optimizer: {type(update.optimizer).__name__} keeps a {type(value).__name__} "
                    f"({name!r}) in its state, which a checkpoint can't hold; keep a tensor or a "
                    "number"
                )
    tensors |= {RAW + name: value for name, value in update.average.raw.items()}
    state = {
        "progress": asdict(done),
        "groups": [
            {key: value for key, value in group.items() if not isinstance(value, torch.Tensor)}
            for group in saved["param_groups"]
        ],
        "schedule": update.schedule.state_dict(),
        **({} if recipe is None else {"recipe": recipe}),
        **({"values": values} if values else {}),
        **({"scaler": update.scaler.state_dict()} if update.scaler.is_enabled() else {}),
    }
    weights = gathered(saved_weights(model))
    return checkpoints.Checkpoint(done.step, weights, gathered(tensors) if whole else {}, state)


def resume(
    fold: FoldFolder,
    model: nn.Module,
    update: Update,
    recipe: dict[str, Any] | None = None,
) -> TrainingState:
    """Put everything that trains where the fold's newest checkpoint has it.

    Where the checkpoint was made by another recipe, the rates are those that the new one has at
    that step; weights, moments and scores stay.

    Returns:
        Where that training stood; the beginning if nothing was saved yet.

    Raises:
        RunInterrupted: no checkpoint is sound, or the best weights so far aren't.
    """
    checkpoint = checkpoints.newest(fold)
    if checkpoint is None:
        return TrainingState()
    done = TrainingState(**checkpoint.state["progress"])
    if done.best_step is not None and best_step(fold) != done.best_step:
        raise RunInterrupted(
            f"fold {fold.number}: training could go on from step {done.step}, but its best weights "
            f"so far, of step {done.best_step}, are damaged or gone: restore "
            f"{folder_of(fold, done.best_step)}, or remove {fold.path} to train the "
            "fold anew"
        )
    weights = saved_weights(model)
    load_weights(
        model, {name: part_of(whole, weights.get(name)) for name, whole in checkpoint.model.items()}
    )
    parameters = [p for group in update.optimizer.param_groups for p in group["params"]]
    states: dict[int, dict[str, Any]] = {}
    raw: dict[str, torch.Tensor] = {}
    for key, value in {**checkpoint.optimizer, **checkpoint.state.get("values", {})}.items():
        if key.startswith(RAW):
            name = key.removeprefix(RAW)
            raw[name] = part_of(value, weights.get(name))
            continue
        index, _, name = key.partition(".")
        *above, last = name.split(_BELOW)
        entries = states.setdefault(int(index), {})
        for level in above:
            entries = entries.setdefault(level, {})
        entries[last] = part_of(value, parameters[int(index)])
    update.average.resume(raw)
    if update.scaler.is_enabled():
        update.scaler.load_state_dict(checkpoint.state["scaler"])
    groups = update.optimizer.param_groups
    rates = [{key: group[key] for key in _RATES & group.keys()} for group in groups]
    load_state(update.optimizer, {"state": states, "param_groups": checkpoint.state["groups"]})
    if checkpoint.state.get("recipe", recipe) == recipe:
        update.schedule.load_state_dict(checkpoint.state["schedule"])
    else:
        for group, fresh in zip(update.optimizer.param_groups, rates, strict=True):
            group.update(fresh)
        _step_to(update.schedule, done.step)
    return done


def _step_to(schedule: LRScheduler, step: int) -> None:
    # Stepped rather than set: some of torch's schedules follow from the rate before.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*lr_scheduler.step.* before")
        for _ in range(step):
            schedule.step()


_RATES = {"lr", "initial_lr"}
_BELOW = "/"  # between the names of maps within a parameter's state


def _flat(entries: dict[str, Any], above: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in entries.items():
        nested = isinstance(value, dict)
        found += _flat(value, f"{above}{name}{_BELOW}") if nested else [(above + name, value)]
    return found
