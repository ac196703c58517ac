"""Sections on training: loss, optimizer, schedule, averages of weights, the loop."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    model_validator,
)

from foldwise.config.grammar import (
    ARGUMENTS,
    BUILTIN,
    Fraction,
    Name,
    Part,
    Positive,
    Problem,
    Section,
    Words,
    refuse,
    shown,
)

Precision = Literal["float32", "bf16", "fp16"]

SMOOTHED = ("cross_entropy", "logit_adjustment", "r_drop")  # losses that take label smoothing


DEFAULT_LR = 3e-4


DEFAULT_WARMUP = 0.1


# The arguments of the built-in schedules, with their defaults.
SCHEDULE_ARGUMENTS: dict[str, dict[str, float]] = {
    "polynomial": {"power": 2.0},
    "wsd": {"decay": 0.2},
    "plateau": {"factor": 0.5, "patience": 2},
}


class Loss(Part):
    """What training minimises."""

    name: Name = Field(
        default="cross_entropy",
        description="cross_entropy, focal (`gamma: 2`), logit_adjustment (`tau: 1`; Menon et al. "
        "2021), r_drop (`alpha: 1`; two passes a row), a loss of torch.nn, or `my_parts.Loss`.",
    )
    class_weights: (
        Literal["auto", "none", "sqrt", "balanced", "effective"] | dict[str, Positive]
    ) = Field(
        default="auto",
        description="Weight of a class by its training rows n: none, `sqrt` (1/sqrt(n)), "
        "`balanced` (1/n), `effective` number (Cui et al. 2019), or {label: weight}; scaled to a "
        "mean of 1 over the training rows. `auto`: sqrt where the loss takes weights. Multilabel: "
        "the weight of a label's positives, `sqrt` and `balanced` by negatives over positives; "
        "only multiclass weighs by itself.",
    )
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0,
        description="Share of the target spread over all classes (cross_entropy, "
        "logit_adjustment, r_drop).",
    )

    @model_validator(mode="after")
    def _keys_are_of_the_loss(self) -> Loss:
        problems = []
        if self.label_smoothing and self.name not in SMOOTHED:
            message = f"is only used by {', '.join(SMOOTHED)}, not {self.name}; set it to 0"
            problems.append(Problem(("label_smoothing",), message, (("name",),)))
        if self.class_weights not in ("auto", "none") and self.name == "logit_adjustment":
            message = "would correct twice for what logit_adjustment corrects; set it to none"
            problems.append(Problem(("class_weights",), message, (("name",),)))
        for key in ARGUMENTS.get(("loss", self.name), ()):
            value = self.arguments.get(key, 0)
            if type(value) not in (int, float) or not 0 <= value < math.inf:
                message = f"must be a number of 0 or more, got {shown(value)}"
                problems.append(Problem((key,), message, (("name",),)))
        if problems:
            refuse(problems)
        return self


class Optimizer(Part):
    """What moves the weights."""

    name: Name = Field(
        default="adamw",
        description="adamw, adamw_8bit, paged_adamw, paged_adamw_8bit (bitsandbytes; paged: CUDA "
        "only), a class of torch.optim, or `my_parts.Name`.",
    )
    lr: Annotated[
        Positive | Literal["auto", "range_test"], Words("a number above 0, auto or range_test")
    ] = Field(
        default="auto",
        description="Learning rate of the backbone's top block; `auto`: by the backbone's hidden "
        "size, 3e-4 up to 512, 1e-4 up to 768, 5e-5 up to 1024, 2e-5 above, half of that where "
        "layer_decay is 1; ten times it for LoRA's adapters, at most 1e-3; 1e-2 for columns "
        "alone. `range_test`: what `foldwise lr-find` suggests on the first fold's training rows. "
        "head_lr keeps its ratio to 3e-4 (LoRA: as if all weights were trained).",
    )
    head_lr: Positive | None = Field(
        default=1e-3, description="Learning rate of pooling and head; null: the same as lr."
    )
    weight_decay: Annotated[float, Field(ge=0)] = Field(
        default=0.01,
        description="Weight decay, not on biases and norms; decoupled in the built-in optimizers, "
        "elsewhere as the class has it.",
    )
    layer_decay: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.85,
        description="Factor on the learning rate for each block further down; 1 for none.",
    )

    @property
    def rate(self) -> float:
        """The learning rate; a small backbone's while it isn't chosen yet."""
        return DEFAULT_LR if isinstance(self.lr, str) else self.lr

    def at(self, rate: float) -> Optimizer:
        """Return the same with another learning rate, and head_lr in its ratio to it."""
        head = None if self.head_lr is None else self.head_lr / self.rate * rate
        return self.model_copy(update={"lr": rate, "head_lr": head})


class Schedule(Part):
    """How the learning rate moves over the run's steps."""

    name: Name = Field(
        default="cosine",
        description="cosine, linear, one_cycle, constant, polynomial (`power: 2`), wsd (`decay: "
        "0.2`: falls over the last fifth of the steps), plateau (`factor: 0.5, patience: 2`: on "
        "the rate after 2 evaluations without a new best), a class of torch.optim.lr_scheduler, "
        "or `my_parts.Name`.",
    )
    warmup: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        default=None,
        description="Share of the steps over which a built-in schedule rises from near 0; null: "
        "0.1. Schedules of torch or yours have none.",
    )

    @model_validator(mode="after")
    def _warmup_is_of_the_built_in(self) -> Schedule:
        if self.warmup is not None and self.name not in BUILTIN["schedule"]:
            message = f"is only used by the built-in schedules, not by {self.name}; leave it out"
            refuse([Problem(("warmup",), message, (("name",),))])
        return self

    @model_validator(mode="after")
    def _arguments_are_in_range(self) -> Schedule:
        chosen: dict[str, Any] = SCHEDULE_ARGUMENTS.get(self.name, {}) | self.arguments
        problems = []
        for key in SCHEDULE_ARGUMENTS.get(self.name, {}):
            value, numeric = chosen[key], type(chosen[key]) in (int, float)
            if key == "patience":
                fits, words = type(value) is int and value >= 1, "a whole number of 1 or more"
            elif key == "power":
                fits, words = numeric and 0 < value < math.inf, "a number above 0"
            else:
                fits, words = numeric and 0 < value < 1, "a number above 0 and below 1"
            if not fits:
                message = f"must be {words}, got {shown(value)}"
                problems.append(Problem((key,), message, (("name",),)))
        warmup = DEFAULT_WARMUP if self.warmup is None else self.warmup
        if not problems and self.name == "wsd" and warmup + chosen["decay"] > 1:
            message = f"with a warmup of {warmup} is more than all the steps; lower one of them"
            problems.append(Problem(("decay",), message, (("name",), ("warmup",))))
        if problems:
            refuse(problems)
        return self


class Average(Section):
    """An average of the weights over the steps, scored and kept in place of the last weights."""

    ema: Fraction | None = Field(
        default=None,
        description="Exponential: a step's weights count this much less with each step after it; "
        "free of bias towards the first weights. 0.999 averages about a thousand steps.",
    )
    swa: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None,
        description="Plain mean over this last share of the steps (stochastic weight averaging, "
        "Izmailov et al. 2018); it wants a rate that stays up (schedule constant).",
    )

    @model_validator(mode="after")
    def _one_of_two(self) -> Average:
        if (self.ema is None) == (self.swa is None):
            refuse([Problem((), "give either ema or swa")])
        return self


CountOrAuto = Annotated[
    Annotated[int, Field(ge=1)] | Literal["auto"], Words("a whole number of 1 or more, or auto")
]


class Training(Section):
    """The training loop's settings."""

    epochs: CountOrAuto = Field(
        default="auto",
        description="Passes over the training rows; `auto`: as many as give 240 optimizer steps a "
        "fold, twice that for a frozen backbone, LoRA and columns without a backbone, at least 5 "
        "and at most 100.",
    )
    batch_size: int | None = Field(
        default=None,
        ge=1,
        description="Rows a micro-batch; 32 where tokens_per_batch isn't given either.",
    )
    tokens_per_batch: int | None = Field(
        default=None,
        ge=8,
        description="Padded tokens a micro-batch at most, instead of a fixed number of rows; every "
        "row weighs the same in an epoch.",
    )
    accumulate: int = Field(
        default=1,
        ge=1,
        description="Micro-batches an optimizer step; the gradient is the big batch's.",
    )
    shares: CountOrAuto = Field(
        default="auto",
        description="Pieces that each micro-batch is cut into, each with a dropout of its own, for "
        "as many processes to work on at once (`accelerate launch`). Rows and order of the steps "
        "stay; numbers follow from the pieces and not from who works on them. `auto`: 1, or what "
        "gives each of the processes that begin the run as many.",
    )
    shard: bool = Field(
        default=False,
        description="Whether several processes each hold a part of the model, its gradients and "
        "the optimizer's state (FSDP) instead of all of it: for a backbone that one card can't "
        "train. Nothing but memory, time and rounding hangs on it, and one process holds all: a "
        "run may go on with another value.",
    )
    precision: Literal["auto", "float32", "bf16", "fp16"] = Field(
        default="auto",
        description="`auto`: bf16 autocast on CUDA with bf16 and CPUs with AMX tiles, "
        "else float32. `fp16`: float16 autocast with loss scaling, for CUDA cards without bf16. "
        "`validate`, `predict` and `evaluate` compute in it too, where the device "
        "does; `--precision` overrides.",
    )
    clip: Positive | None = Field(
        default=1.0, description="Largest gradient norm; null: no clipping."
    )
    evaluate_every: int | None = Field(
        default=None, ge=1, description="Steps between evaluations; null: at the end of each epoch."
    )
    patience: int | None = Field(
        default=None,
        ge=1,
        description="Evaluations without improvement before stopping; null: never stop.",
    )
    average: Average | None = Field(
        default=None,
        description="Average of the weights to score and keep: `{ema: 0.999}` or `{swa: 0.25}`; "
        "null: the weights as they are.",
    )
    seeds: int = Field(
        default=1,
        ge=1,
        le=16,
        description="Copies of the model that a fold trains, each with a head and dropout of its "
        "own, and that answer by the mean of their logits: better than one, for so many times the "
        "time, memory and disk. What `foldwise distill` teaches is one.",
    )
    adversarial: Positive | None = Field(
        default=None,
        description="Learn from every batch once more with its word embeddings moved the worst "
        "way, by a step of this length (1 is usual; Miyato et al. 2017): often better "
        "probabilities, for twice the time. null: not.",
    )
    save_minutes: Annotated[float, Field(ge=0)] = Field(
        default=5.0, description="Minutes between saves of `last`; 0 saves at every step."
    )
    keep: Literal["best", "last", "all"] = Field(
        default="best",
        description="What stays of a fold that is trained: the weights that are used (`best`), "
        "those and the last ones (`last`), or all that training left, with the optimizer's state "
        "(`all`).",
    )
    log_every: int = Field(default=10, ge=1, description="Steps between logged training losses.")
    bucketing: bool = Field(
        default=True,
        description="Batches of rows of like length: less padding, same rows in an epoch; false: "
        "in random order, also where tokens_per_batch fills them.",
    )
    workers: int = Field(default=0, ge=0, le=64, description="Processes that prepare batches.")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        default="auto", description="Where to compute; `auto` takes the GPU if there is one."
    )

    @property
    def passes(self) -> int:
        """The epochs, once they are chosen."""
        assert self.epochs != "auto"
        return self.epochs

    @property
    def pieces(self) -> int:
        """The shares of a micro-batch; 1 in a run that was begun before there were any."""
        return 1 if self.shares == "auto" else self.shares

    @model_validator(mode="after")
    def _one_batch_rule(self) -> Training:
        if self.batch_size is not None and self.tokens_per_batch is not None:
            message = "give batch_size or tokens_per_batch, and set the other to null"
            refuse([Problem(("tokens_per_batch",), message, (("batch_size",),))])
        return self

    @model_validator(mode="after")
    def _averaging_is_reached(self) -> Training:
        if self.patience is not None and self.average is not None and self.average.swa is not None:
            message = "could stop before swa begins to average; set it to null, or average by ema"
            refuse([Problem(("patience",), message, (("average",),))])
        return self
