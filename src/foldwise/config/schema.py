"""The config: every key Foldwise knows, its type, its default and one line on what it does.

In: nothing but values (load.py reads the YAML). Out: a frozen `Config`. `docs/config.md`, the JSON
Schema for editors and every "unknown key" message are made from the descriptions below, so a key
that isn't here doesn't exist and a key that is here is read by exactly one place. Types are strict:
nothing is turned into a number, a text or a truth value that the config didn't write as one.
What sections, parts and problems are stands in grammar.py: here are the keys and nothing else.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    WithJsonSchema,
    model_validator,
)

from foldwise.config.grammar import (
    ARGUMENTS,
    BUILTIN,
    DOTTED,
    LOSSES,
    METRICS,
    Kind,
    Name,
    Part,
    Path,
    Problem,
    Section,
    Words,
    name_schema,
    nearest,
    refuse,
    shown,
    unknown_name,
)
from foldwise.config.search import Sweep
from foldwise.config.tabular import Tabular, fusion_problems

LABEL_OTHER = "other"
SMOOTHED = ("cross_entropy", "logit_adjustment", "r_drop")  # losses that take label smoothing

DEFAULT_LR = 3e-4
DEFAULT_WARMUP = 0.1
# The arguments of the built-in schedules, with their defaults.
SCHEDULE_ARGUMENTS: dict[str, dict[str, float]] = {
    "polynomial": {"power": 2.0},
    "wsd": {"decay": 0.2},
    "plateau": {"factor": 0.5, "patience": 2},
}

Fraction = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]


class Run(Section):
    """Where the run goes and what its randomness follows from."""

    name: Annotated[
        str,
        StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"),
        Words("text of at most 100 letters, digits, '.', '_', '-', the first a letter or digit"),
    ] = Field(description="Name of the run's folder: letters, digits, `.`, `_`, `-`.")
    dir: Name = Field(
        default="runs", description="Folder that holds the runs (from the working directory)."
    )
    seed: int = Field(
        default=42, ge=0, lt=2**32, description="Seed of initialisation, batch order and dropout."
    )


class Missing(Section):
    """What happens to empty cells, by the column's role."""

    text: Literal["drop", "fill"] = Field(
        default="drop",
        description="Rows whose texts are all empty: `drop` them, or `fill` with `missing`.",
    )
    categorical: Literal["drop", "category"] = Field(
        default="category",
        description="An empty category: `drop` the row, or the category `missing`.",
    )
    numeric: Literal["drop", "mean", "median", "zero"] = Field(
        default="mean",
        description="An empty number: `drop` the row, or fill (`mean`, `median` of training rows).",
    )
    target: Literal["drop", "error"] = Field(
        default="error", description="A row without target: an `error` that names it, or `drop` it."
    )


class PerClass(Section):
    """At most so many rows of each class."""

    per_class: int = Field(ge=1, description="At most this many rows of each class.")


class Data(Section):
    """The table and the role of its columns."""

    path: Name | None = Field(
        default=None,
        description="CSV (.gz too), TSV, Parquet or JSONL file or glob; `synthetic[:rows]` for the "
        "embedded sample; null where the task supplies the rows.",
    )
    target: Name | None = Field(default=None, description="Column to predict.")
    separator: Name | None = Field(
        default=None,
        description="What stands between the labels of a multilabel target that isn't a list "
        "column, and in the outputs; `;` by default. Alone in a cell it means no label.",
    )
    order: Annotated[list[Name], Field(min_length=2)] | None = Field(
        default=None,
        description="Labels of an ordinal target from low to high; null where they are numbers.",
    )
    text: list[Name] = Field(default_factory=list, description="Free-text columns, in order.")
    categorical: list[Name] = Field(default_factory=list, description="Category columns, in order.")
    numeric: list[Name] = Field(default_factory=list, description="Number columns, in order.")
    sample: Annotated[
        Annotated[int, Field(ge=1)] | Fraction | PerClass | None,
        Words("rows (1 or more), a fraction above 0 and below 1, {per_class: n}, or null"),
    ] = Field(
        default=None,
        description="Rows to use: an integer in all, a fraction in (0, 1), or `{per_class: n}`; "
        "stratified, drawn by folds.seed; null for all.",
    )
    missing: Missing = Field(default_factory=Missing, description="What to do with empty cells.")
    rare_classes: Literal["error", "merge", "drop", "train_only"] = Field(
        default="error",
        description="Classes with fewer distinct duplicate groups than folds: an `error`, `merge` "
        "into `other`, `drop` their rows, or `train_only` (trained on, never scored). Multilabel: "
        "`error`, or `drop`: the label isn't predicted, its rows stay.",
    )

    @model_validator(mode="after")
    def _columns_have_one_role(self) -> Data:
        roles: list[tuple[Path, str]] = []
        for role in ("text", "categorical", "numeric"):
            roles += [((role, i), column) for i, column in enumerate(getattr(self, role))]
        if self.target is not None:
            roles.append((("target",), self.target))
        first: dict[str, Path] = {}
        problems = []
        for path, column in roles:
            if column in first:
                message = f"column {column!r} is listed under {first[column][0]} already"
                problems.append(Problem(path, message, (first[column],)))
            first.setdefault(column, path)
        if problems:
            refuse(problems)
        return self


class Holdout(Section):
    """Rows kept out of all folds, scored once by the mean of the fold models."""

    fraction: Fraction | None = Field(default=None, description="Share of the rows, stratified.")
    path: Name | None = Field(default=None, description="A table of its own with the same columns.")

    @model_validator(mode="after")
    def _one_of_two(self) -> Holdout:
        if (self.fraction is None) == (self.path is None):
            refuse([Problem((), "give either fraction or path")])
        return self


class Folds(Section):
    """How the rows are split for cross-validation."""

    strategy: Annotated[Part, Kind("strategy")] = Field(
        default_factory=lambda: Part(name="stratified"),
        description="stratified, kfold, group, stratified_group, time, column, a class of "
        "sklearn.model_selection, or `my_parts.Splitter`.",
    )
    n: int = Field(default=5, ge=2, le=1000, description="Number of folds.")
    run: Literal["all"] | Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)] = Field(
        default="all", description="Folds the run consists of: `all` or a list such as [1, 2]."
    )
    group: Name | None = Field(
        default=None, description="Column whose equal values stay in one fold."
    )
    time: Name | None = Field(
        default=None, description="Column to order rows by (strategy time): train on the past only."
    )
    column: Name | None = Field(
        default=None, description="Column that holds each row's fold (strategy column)."
    )
    repeats: int = Field(
        default=1, ge=1, le=100, description="Times the whole split is drawn anew."
    )
    duplicates: Literal["near", "identical", "ignore"] = Field(
        default="near", description="Which duplicate texts stay together in one fold."
    )
    similarity: Annotated[float, Field(ge=0.5, le=1)] = Field(
        default=0.6,
        description="Jaccard similarity of word 3-grams from which texts are near-identical.",
    )
    seed: int = Field(
        default=42, ge=0, lt=2**32, description="Seed of sample, holdout, folds and inner rows."
    )

    @model_validator(mode="after")
    def _strategy_has_its_column(self) -> Folds:
        needs = {"group": "group", "stratified_group": "group", "time": "time", "column": "column"}
        strategy = self.strategy.name
        by = (("strategy",),)
        problems = []
        needed = needs.get(strategy)
        if needed and getattr(self, needed) is None:
            message = f"is needed by strategy {strategy}: a column's name"
            problems.append(Problem((needed,), message, by))
        for key in ("time", "column"):
            if getattr(self, key) is not None and strategy != key:
                message = f"is only used by strategy {key}, not {strategy}"
                problems.append(Problem((key,), message, by))
        if strategy in ("time", "column"):
            if self.group is not None:
                problems.append(Problem(("group",), f"can't be kept by strategy {strategy}", by))
            if self.repeats > 1:
                message = f"must be 1: strategy {strategy} gives the same folds each time"
                problems.append(Problem(("repeats",), message, by))
        if isinstance(self.run, list) and len(set(self.run)) != len(self.run):
            problems.append(Problem(("run",), "lists a fold twice"))
        if problems:
            refuse(problems)
        return self


class Selection(Section):
    """Which rows and metric choose the epoch."""

    rows: Literal["inner", "last", "fold"] = Field(
        default="inner",
        description="`inner`: a tenth of the training rows picks the epoch; `last`: no picking; "
        "`fold`: the scored rows pick it, so the scores are optimistic.",
    )
    metric: Name = Field(
        default="f1_macro",
        description="Metric that picks the epoch; `loss` works too. By default `quadratic_kappa` "
        "for an ordinal target, `rmse` for regression.",
    )
    fraction: Annotated[float, Field(gt=0, le=0.5)] = Field(
        default=0.1, description="Share of the training rows that `inner` sets aside."
    )


class Text(Section):
    """How columns become token ids."""

    max_length: int = Field(
        default=256,
        ge=4,
        le=131072,
        description="Longest input in tokens, special tokens included.",
    )
    long: Literal["truncate", "head_tail", "chunks"] = Field(
        default="truncate",
        description="Longer texts: keep the start (`truncate`), start and end (`head_tail`), or "
        "all, in overlapping `chunks` of max_length, categories and numbers in front of each.",
    )
    stride: int | None = Field(
        default=None,
        ge=0,
        description="Tokens that neighbouring chunks share at least; null: an eighth of "
        "max_length.",
    )
    max_chunks: int | None = Field(
        default=None,
        ge=1,
        description="Chunks of a text at most, from its start; null: as many as it needs. "
        "log.jsonl says what is still cut.",
    )
    chunk_pooling: Annotated[Part, Kind("pooling")] | None = Field(
        default=None,
        description="What makes one vector of a text's chunks: the poolings of model.pooling; "
        "null: mean.",
    )

    @model_validator(mode="before")
    @classmethod
    def _chunks_are_resolved(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("long") != "chunks":
            return values
        length = values.get("max_length", cls.model_fields["max_length"].default)
        defaults: dict[str, Any] = {"chunk_pooling": "mean"}
        if isinstance(length, int):
            defaults["stride"] = length // 8
        given = {key: value for key, value in values.items() if value is not None}
        return values | defaults | given

    @model_validator(mode="after")
    def _chunk_keys_have_chunks(self) -> Text:
        if self.long == "chunks":
            return self
        message = f"is only used by text.long: chunks, not {self.long}"
        problems = [
            Problem((key,), message, (("long",),))
            for key in ("stride", "max_chunks", "chunk_pooling")
            if getattr(self, key) is not None
        ]
        if problems:
            refuse(problems)
        return self


class Head(Section):
    """What maps the pooled vector to logits."""

    hidden: list[Annotated[int, Field(ge=1)]] = Field(
        default_factory=list, description="Sizes of hidden layers; [] is one linear layer."
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.1, description="Dropout before each linear layer."
    )
    activation: Annotated[Part, Kind("activation")] = Field(
        default_factory=lambda: Part(name="gelu"),
        description="What follows a hidden layer: gelu, relu, tanh, silu, a Module of torch.nn, or "
        "`my_parts.Activation`.",
    )
    norm: Literal["none", "layer"] = Field(
        default="none",
        description="`layer`: layer normalization between a hidden layer and its activation.",
    )
    samples: int = Field(
        default=1,
        ge=1,
        description="Dropout masks a row in training, whose logits are averaged (multi-sample "
        "dropout, Inoue 2019).",
    )

    @model_validator(mode="after")
    def _every_key_does_something(self) -> Head:
        problems = []
        if not self.hidden:
            message = "does nothing without hidden layers; list their sizes under hidden"
            if self.activation != Part(name="gelu"):
                problems.append(Problem(("activation",), message, (("hidden",),)))
            if self.norm != "none":
                problems.append(Problem(("norm",), message, (("hidden",),)))
        if self.samples > 1 and self.dropout == 0:
            message = "does nothing where dropout is 0: all masks are the same"
            problems.append(Problem(("samples",), message, (("dropout",),)))
        if problems:
            refuse(problems)
        return self


def _layers_or_part(value: Any) -> str:
    named = isinstance(value, str | Part) or (isinstance(value, dict) and "name" in value)
    return "<part>" if named else "<layers>"


class Lora(Section):
    """Low-rank adapters beside the backbone's linear layers."""

    r: int = Field(default=16, ge=1, description="Rank: width of an adapter's bottleneck.")
    alpha: Positive = Field(
        default=32.0,
        description="Scale of what adapters add: alpha / r (rslora: alpha / sqrt(r)).",
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.05, description="Dropout of what goes into an adapter."
    )
    targets: Literal["all-linear"] | Annotated[list[Name], Field(min_length=1)] = Field(
        default="all-linear",
        description="Layers to adapt: `all-linear` in the blocks, or names such as [query, value].",
    )
    variant: Literal["lora", "rslora", "dora"] = Field(
        default="lora",
        description="`lora` (Hu et al. 2022), `rslora` (steadier at high ranks), or `dora` (Liu et "
        "al. 2024: magnitudes learn too; slower).",
    )


class Model(Section):
    """Backbone, pooling and head."""

    backbone: Name = Field(
        default="sentence-transformers/all-MiniLM-L6-v2",
        description="A local folder, a model carried by an installed package, or a hub name.",
    )
    revision: Name | None = Field(
        default=None, description="Commit of a hub backbone: 40 hex digits pin the exact weights."
    )
    freeze: int = Field(
        default=0,
        ge=0,
        description="Blocks frozen from the bottom, embeddings with them; 0 trains all.",
    )
    pooling: Annotated[Part, Kind("pooling")] = Field(
        default_factory=lambda: Part(name="mean"),
        description="mean, cls (first token), max, mean_max (both, twice as wide), attention "
        "(learned weights), last (token; for decoders), or `my_parts.Pooling`.",
    )
    layers: Annotated[int, Field(ge=2)] | None = Field(
        default=None,
        description="Top layers whose outputs pooling reads a learned average of (Peters et al. "
        "2018); null: the last alone.",
    )
    fusion: Annotated[Part, Kind("fusion")] = Field(
        default_factory=lambda: Part(name="text"),
        description="How categories and numbers enter: in the `text` template, by embeddings "
        "beside the text's vector (`concat`; `gated`, `size:` its width; Arevalo et al. 2017), as "
        "`tokens` in front of the text's, or `my_parts.Fusion`. concat without data.text: no "
        "backbone.",
    )
    tabular: Tabular = Field(
        default_factory=Tabular,
        description="Embeddings of categories and numbers, where fusion isn't text.",
    )
    head: Annotated[
        Annotated[Head, Tag("<layers>")] | Annotated[Part, Kind("head"), Tag("<part>")],
        Discriminator(_layers_or_part),
        Words("a map of layer settings, or a part of your own such as my_parts.Head"),
    ] = Field(
        default_factory=Head,
        description="`{hidden: [256], activation: silu, ...}`, or `my_parts.Head`.",
    )
    attention_dropout: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        default=None,
        description="Dropout of attention probabilities; null: the backbone's own on a GPU, 0 on a "
        "CPU, where it costs a third of the step.",
    )
    attention: Literal["auto", "flash", "sdpa", "eager"] = Field(
        default="auto",
        description="How attention is computed: `flash` (CUDA, bf16 and the package flash-attn), "
        "`sdpa` (torch's fused kernel), `eager`; `auto`: the first of them that the backbone and "
        "the device have, eager on a CPU with attention dropout.",
    )
    lora: Lora | None = Field(
        default=None,
        description="Train low-rank adapters in place of the backbone's weights: `{r: 16}`; null: "
        "the weights themselves. Pooling, columns and head are trained in full.",
    )
    quantize: Literal["8bit", "4bit"] | None = Field(
        default=None,
        description="Hold the backbone's linear layers in `8bit` (LLM.int8) or `4bit` "
        "(NormalFloat, double quantization), for adapters to learn beside; with "
        "checkpoint_activations, 4bit is QLoRA (Dettmers et al. 2023).",
    )
    checkpoint_activations: bool = Field(
        default=False,
        description="Recompute activations in the backward pass: less memory, a third slower.",
    )

    @model_validator(mode="after")
    def _adapters_are_what_learns(self) -> Model:
        problems = []
        if self.lora is not None and self.freeze:
            message = (
                "does nothing with lora, which leaves the whole backbone as it is; set it to 0"
            )
            problems.append(Problem(("freeze",), message, (("lora",),)))
        if self.lora is None and self.quantize is not None:
            message = f"needs lora: weights in {self.quantize} can't learn; add lora: {{r: 16}}"
            problems.append(Problem(("quantize",), message, (("lora",),)))
        if self.lora is not None and self.lora.variant == "dora" and self.quantize == "8bit":
            message = "8bit can't be combined with dora, whose norms bitsandbytes loses; use 4bit"
            problems.append(Problem(("quantize",), message, (("lora",),)))
        if problems:
            refuse(problems)
        return self


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
    lr: Annotated[Positive | Literal["auto"], Words("a number above 0, or auto")] = Field(
        default=DEFAULT_LR,
        description="Learning rate of the backbone's top block; `auto`: what `foldwise lr-find` "
        "suggests on the first fold's training rows, head_lr in its ratio to 3e-4.",
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
        """The learning rate; the default while `auto` isn't found yet."""
        return DEFAULT_LR if self.lr == "auto" else self.lr

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


class Training(Section):
    """The training loop's settings."""

    epochs: int = Field(default=5, ge=1, description="Passes over the training rows.")
    batch_size: int | None = Field(
        default=None,
        ge=1,
        description="Rows a micro-batch; 32 where tokens_per_batch isn't given either.",
    )
    tokens_per_batch: int | None = Field(
        default=None,
        ge=8,
        description="Padded tokens a micro-batch, instead of a fixed number of rows.",
    )
    accumulate: int = Field(
        default=1,
        ge=1,
        description="Micro-batches an optimizer step; the gradient is the big batch's.",
    )
    precision: Literal["auto", "float32", "bf16"] = Field(
        default="auto",
        description="`auto`: bf16 autocast on CUDA with bf16 and CPUs with AMX tiles, "
        "else float32.",
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
    save_minutes: Annotated[float, Field(ge=0)] = Field(
        default=5.0, description="Minutes between saves of `last`; 0 saves at every step."
    )
    log_every: int = Field(default=10, ge=1, description="Steps between logged training losses.")
    bucketing: bool = Field(
        default=True,
        description="Batches of rows of like length: less padding, same rows in an epoch.",
    )
    workers: int = Field(default=0, ge=0, le=64, description="Processes that prepare batches.")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        default="auto", description="Where to compute; `auto` takes the GPU if there is one."
    )

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


DEFAULT_METRICS = ("f1_macro", "precision_macro", "recall_macro", "accuracy")
# The metrics of the other tasks; the first picks the epoch.
TASK_METRICS = {
    "multilabel": ("f1_macro", "f1_micro", "subset_accuracy", "hamming_loss"),
    "ordinal": ("quadratic_kappa", "mae", "accuracy", "f1_macro"),
    "regression": ("rmse", "mae", "r2", "spearman"),
}


def _not_of_task(task: str, name: str, names: dict[str, tuple[str, ...]]) -> str:
    return f"{name} isn't for task {task} (valid: {', '.join(names[task])}, or a dotted name)"


def _known_task(name: str) -> str:
    if message := unknown_name("task", name):
        refuse([Problem((), message)])
    return name


class Config(Section):
    """One run of Foldwise, from the table to the report."""

    run: Run = Field(description="Name, place and seed of the run.")
    code: list[Name] = Field(
        default_factory=list,
        description="Your Python files, relative to the config; the only user code it can load.",
    )
    task: Annotated[
        Name,
        AfterValidator(_known_task),
        WithJsonSchema(name_schema("task")),
        Words("multiclass, multilabel, ordinal, regression, or a dotted name"),
    ] = Field(
        default="multiclass",
        description="What is predicted: one of several labels (`multiclass`, two included), any "
        "number of them (`multilabel`), one of an order (`ordinal`), a number (`regression`), or "
        "`my_parts.MyTask`.",
    )
    data: Data = Field(default_factory=Data, description="The table and its columns.")
    holdout: Holdout | None = Field(
        default=None, description="Rows kept out of all folds: `{fraction: 0.1}` or `{path: ...}`."
    )
    folds: Folds = Field(default_factory=Folds, description="The cross-validation split.")
    selection: Selection = Field(default_factory=Selection, description="What picks the epoch.")
    text: Text = Field(default_factory=Text, description="Tokenization.")
    model: Model = Field(default_factory=Model, description="Backbone, pooling and head.")
    loss: Annotated[Loss, Kind("loss")] = Field(
        default_factory=Loss, description="What training minimises."
    )
    optimizer: Annotated[Optimizer, Kind("optimizer")] = Field(
        default_factory=Optimizer, description="What moves the weights."
    )
    schedule: Annotated[Schedule, Kind("schedule")] = Field(
        default_factory=Schedule, description="How the learning rate moves."
    )
    training: Training = Field(default_factory=Training, description="The training loop.")
    metrics: Annotated[
        list[Annotated[Part, Kind("metric")]],
        Words("a list, not empty, of metrics: names, or maps of name and arguments"),
    ] = Field(
        default_factory=lambda: [Part(name=name) for name in DEFAULT_METRICS],
        min_length=1,
        description="Metrics to show: f1/precision/recall with _macro, _micro, _weighted; "
        "accuracy, balanced_accuracy, log_loss, auroc_macro, auroc_weighted, mcc; multilabel: "
        "f1/precision/recall with _samples too, subset_accuracy, hamming_loss; ordinal: mae, "
        "quadratic_kappa, spearman too; regression: rmse, mae, r2, spearman, pearson; "
        "`my_parts.metric`. Each task has its default.",
    )
    baselines: bool = Field(
        default=True,
        description="Score majority class (or mean and median), best single category and TF-IDF "
        "beside the model.",
    )
    trackers: Annotated[
        list[Annotated[Part, Kind("tracker")]],
        Words("a list of trackers: names, or maps of name and arguments"),
    ] = Field(
        default_factory=lambda: [Part(name="tensorboard")],
        description="Where losses and scores go besides the files: tensorboard, mlflow "
        "(`uri`, `experiment`), wandb (`mode: offline`, `project`), or `my_parts.Tracker`.",
    )
    sweep: Sweep | None = Field(
        default=None, description="Variants for `foldwise sweep` and `tune`; not part of a run."
    )

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_task(cls, values: Any) -> Any:
        task = values.get("task") if isinstance(values, dict) else None
        if not isinstance(task, str) or task not in TASK_METRICS:
            return values
        chosen = values.get("selection", {})
        if isinstance(chosen, dict):
            chosen = {"metric": TASK_METRICS[task][0], **chosen}
        loss = values.get("loss", {})
        loss = {"name": loss} if isinstance(loss, str) else loss
        if isinstance(loss, dict):
            loss = {"name": LOSSES[task][0], **loss}
            if loss.get("class_weights", "auto") == "auto":
                loss["class_weights"] = "none"
        metrics = values.get("metrics", list(TASK_METRICS[task]))
        filled = {**values, "selection": chosen, "loss": loss, "metrics": metrics}
        data = values.get("data")
        if task == "multilabel" and isinstance(data, dict) and data.get("separator") is None:
            filled["data"] = {**data, "separator": ";"}
        return filled

    @model_validator(mode="after")
    def _keys_fit_the_task(self) -> Config:
        if self.task not in METRICS:  # a task of one's own says by itself what it takes
            return self
        problems = [
            Problem(("loss", "name"), _not_of_task(self.task, name, LOSSES), (("task",),))
            for name in [self.loss.name]
            if name in BUILTIN["loss"] and name not in LOSSES[self.task]
        ]
        problems += [
            Problem(("metrics", i), _not_of_task(self.task, metric.name, METRICS), (("task",),))
            for i, metric in enumerate(self.metrics)
            if metric.name in BUILTIN["metric"] and metric.name not in METRICS[self.task]
        ]
        data, weights = self.data, self.loss.class_weights
        numbers, sets = self.task == "regression", self.task == "multilabel"
        for wrong, key, message in (
            (data.separator and not sets, "data.separator", "is only used by task multilabel"),
            (data.order and self.task != "ordinal", "data.order", "is only used by task ordinal"),
            (
                isinstance(data.sample, PerClass) and (numbers or sets),
                "data.sample",
                f"per_class needs one class a row, task {self.task} has none; give a number of "
                "rows or a fraction",
            ),
            (
                data.rare_classes == "merge" and self.task == "ordinal",
                "data.rare_classes",
                "merge would give labels a class without a place in the order; use drop or "
                "train_only",
            ),
            (
                data.rare_classes in ("merge", "train_only") and sets,
                "data.rare_classes",
                f"{data.rare_classes} is for tasks of one class a row; use error or drop",
            ),
            (
                data.rare_classes != "error" and numbers,
                "data.rare_classes",
                "is for tasks with classes, not regression; leave it out",
            ),
            (
                weights != "none" and numbers,
                "loss.class_weights",
                "is for tasks with classes, not regression; leave it out",
            ),
            (
                weights == "effective" and sets,
                "loss.class_weights",
                "effective is for tasks of one class a row; use none, sqrt, balanced or a map",
            ),
        ):
            if wrong:
                problems.append(Problem(tuple(key.split(".")), message, (("task",),)))
        if problems:
            refuse(problems)
        return self

    @model_validator(mode="after")
    def _task_and_data_agree(self) -> Config:
        if self.task not in BUILTIN["task"]:
            return self
        by = (("task",),)
        problems = [
            Problem(("data", key), f"is needed by task {self.task}", by)
            for key in ("path", "target")
            if getattr(self.data, key) is None
        ]
        if not self.data.text and not self.data.categorical and not self.data.numeric:
            columns: tuple[Path, ...] = (("data", "categorical"), ("data", "numeric"))
            message = "names no column: list at least one to learn from"
            problems.append(Problem(("data", "text"), message, by + columns))
        if self.text.long == "chunks" and not self.data.text:
            message = "chunks are cut out of data.text, which names no column"
            problems.append(Problem(("text", "long"), message, (("data", "text"),)))
        if problems:
            refuse(problems)
        return self

    @model_validator(mode="after")
    def _columns_reach_the_model(self) -> Config:
        problems = list(fusion_problems(self)) if self.task in BUILTIN["task"] else []
        if problems:
            refuse(problems)
        return self

    @model_validator(mode="after")
    def _evaluations_happen(self) -> Config:
        if self.selection.rows != "last":
            return self
        message = "does nothing where selection.rows is last: nothing is evaluated in training"
        problems = [
            Problem(("training", key), message, (("selection", "rows"),))
            for key in ("patience", "evaluate_every")
            if getattr(self.training, key) is not None
        ]
        if self.schedule.name == "plateau":
            by = (("selection", "rows"), ("schedule", "name"))
            problems.append(Problem(("schedule",), f"plateau {message}", by))
        if problems:
            refuse(problems)
        return self

    @model_validator(mode="after")
    def _plateau_comes_before_the_stop(self) -> Config:
        if self.schedule.name != "plateau" or self.training.patience is None:
            return self
        waits = (SCHEDULE_ARGUMENTS["plateau"] | self.schedule.arguments)["patience"]
        if self.training.patience <= waits:
            message = f"would stop before the plateau schedule (patience {waits}) lowers the rate"
            by = (("schedule",),)
            refuse([Problem(("training", "patience"), f"{message}; raise it", by)])
        return self

    @model_validator(mode="after")
    def _metrics_and_trackers_are_told_apart(self) -> Config:
        names = [metric.name for metric in self.metrics]
        problems = [
            Problem(("metrics", i), f"{name} is listed twice")
            for i, name in enumerate(names)
            if name in names[:i]
        ]
        trackers = [tracker.name for tracker in self.trackers]
        problems += [
            Problem(("trackers", i), f"{name} is listed twice")
            for i, name in enumerate(trackers)
            if name in trackers[:i]
        ]
        chosen = self.selection.metric
        own = METRICS.get(self.task, BUILTIN["metric"])
        valid = ["loss", *own, *(n for n in names if n not in BUILTIN["metric"])]
        if chosen not in valid:
            hint = "; list it under metrics first" if re.fullmatch(DOTTED, chosen) else ""
            message = f"unknown metric {chosen!r}{hint or nearest(chosen, valid)}"
            message += f" (valid: {', '.join(valid)})"
            problems.append(Problem(("selection", "metric"), message, (("metrics",),)))
        if problems:
            refuse(problems)
        return self
