"""From the config as written to the config as it runs: whatever is `auto` gets its meaning here.

What hangs on the rows or the backbone is chosen in choose.py, once those are known.

What needs torch is imported only where something is to be found out, not for a run to be continued.
"""

from __future__ import annotations

import math
import sys

from foldwise.config.grammar import BUILTIN
from foldwise.config.members import answering
from foldwise.config.schema import Config
from foldwise.config.training import DEFAULT_WARMUP, Precision
from foldwise.errors import FoldwiseError
from foldwise.hardware.launched import launched


def resolve(config: Config, like: Config | None = None) -> Config:
    """Replace whatever is `auto` by what it means on this machine.

    Args:
        config: as loaded.
        like: the resolved config of the run to be continued; its choices stand.

    Raises:
        FoldwiseError: the device isn't there (asked of a new run only), or no such loss.
    """
    training, model = config.training, config.model
    device: str = training.device
    epochs, selection = training.epochs, config.selection
    precision: str = training.precision
    if like:
        device = like.training.device if device == "auto" else device
        precision = like.training.precision if precision == "auto" else precision
        epochs = like.training.epochs if epochs == "auto" else epochs
        if selection.rows == "auto":
            selection = selection.model_copy(update={"rows": like.selection.rows})
    else:
        from foldwise.hardware.device import resolve_device, resolve_precision, set_deterministic

        device = resolve_device(device)
        # Asking CUDA what it can do begins it.
        set_deterministic(config.run.deterministic, device)
        precision = resolve_precision(precision, device)
        _check_precision(precision, device)
    size = training.batch_size
    if size is None and training.tokens_per_batch is None:
        size = 32
    dropout = model.attention_dropout
    if dropout is None:
        dropout = like.model.attention_dropout if like else (0.0 if device == "cpu" else None)
    attention: str = model.attention
    if attention == "auto" and like:
        attention = like.model.attention
    embedding: str = model.embedding
    if embedding == "auto" and like:
        embedding = like.model.embedding
    schedule = config.schedule
    if schedule.warmup is None and schedule.name in BUILTIN["schedule"]:
        schedule = schedule.model_copy(update={"warmup": DEFAULT_WARMUP})
    optimizer = config.optimizer
    if isinstance(optimizer.lr, str) and like:
        found = {"lr": like.optimizer.lr, "head_lr": like.optimizer.head_lr}
        optimizer = optimizer.model_copy(update=found)
    ensemble = config.ensemble
    if ensemble == "auto":
        ensemble = like.ensemble if like else answering(config)
    loss = config.loss
    if loss.class_weights == "auto":
        loss = loss.model_copy(update={"class_weights": _weight_rule(config, like)})
    placed = {"device": device, "precision": precision, "batch_size": size, "epochs": epochs}
    placed["shares"] = _shares(config, like)
    return config.model_copy(
        update={
            "run": config.run.model_copy(update={"on": None}),  # of a call, not of the run
            "training": training.model_copy(update=placed),
            "model": model.model_copy(
                update={
                    "attention_dropout": dropout,
                    "attention": attention,
                    "embedding": embedding,
                }
            ),
            "selection": selection,
            "optimizer": optimizer,
            "schedule": schedule,
            "loss": loss,
            "ensemble": ensemble,
        }
    )


def _check_precision(precision: str, device: str) -> None:
    if precision == "fp16" and device != "cuda":
        raise FoldwiseError(
            f"training.precision: fp16 is for CUDA, not for {device}; use float32, bf16 or auto"
        )


def _shares(config: Config, like: Config | None) -> int | str:
    # Once begun the numbers follow from them, whoever goes on with the run.
    training = config.training
    if training.shares == "auto" and like:
        return like.training.shares
    size = launched().size
    least = size // math.gcd(size, training.accumulate)  # as many pieces for each process
    return least if training.shares == "auto" else training.shares


def _weight_rule(config: Config, like: Config | None) -> str | dict[str, float]:
    if like and config.loss == like.loss.model_copy(update={"class_weights": "auto"}):
        return like.loss.class_weights
    from foldwise.losses.classes import weight_rule
    from foldwise.parts.usercode import UserCode

    return weight_rule(config.loss, UserCode(config.code))


def resolve_stored(
    config: Config, device: str | None = None, precision: Precision | None = None
) -> Config:
    """Say where and in which precision a run that is trained computes on this machine.

    The precision is the run's: another gives other probabilities than those that were validated.
    Where the device would emulate bf16, and nobody asked for it, a line on stderr says that float32
    takes its place.

    Args:
        config: the run's.
        device: auto, cpu, cuda or mps; None: the run's, or the fastest there is where that isn't.
        precision: float32, bf16 or fp16; None: the run's.

    Raises:
        FoldwiseError: the device isn't there, or doesn't compute in it.
    """
    from foldwise.hardware.device import (
        computes_bf16,
        placement,
        resolve_device,
        resolve_precision,
    )

    training = config.training
    placed = placement(training)[0] if device is None else resolve_device(device)
    chosen = precision or resolve_precision(training.precision, placed)
    if chosen == "bf16" and precision is None and not computes_bf16(placed):
        chosen = "float32"
        print(
            f"note: {config.run.name} was trained in bf16, which this {placed} would emulate, "
            "slowly; it computes in float32, so that probabilities differ a little (--precision "
            "bf16 emulates)",
            file=sys.stderr,
        )
    if chosen == "fp16" and precision is None and placed != "cuda":
        chosen = "float32"
        print(
            f"note: {config.run.name} was trained in fp16, which needs CUDA; it computes in "
            "float32, so that probabilities differ a little",
            file=sys.stderr,
        )
    _check_precision(chosen, placed)
    update = {"device": placed, "precision": chosen}
    return config.model_copy(update={"training": training.model_copy(update=update)})
