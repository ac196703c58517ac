"""The config: every key Foldwise knows, its type, its default and one line on what it does.

In: nothing but values (load.py reads the YAML). Out: a frozen `Config`. `docs/config.md`, the JSON
Schema for editors and every "unknown key" message are made from the descriptions below, so a key
that isn't here doesn't exist and a key that is here is read by exactly one place. Types are strict:
nothing is turned into a number, a text or a truth value that the config didn't write as one.
What sections, parts and problems are stands in grammar.py: here are the keys and nothing else.
"""

from __future__ import annotations

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
    BUILTIN,
    DOTTED,
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
    unknown_name,
)

LABEL_OTHER = "other"

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
        "into `other`, `drop` their rows, or `train_only` (trained on, never scored).",
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
        default="f1_macro", description="Metric that picks the epoch; `loss` works too."
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
    long: Literal["truncate", "head_tail"] = Field(
        default="truncate",
        description="Longer texts: keep the start (`truncate`), or start and end (`head_tail`).",
    )


class Head(Section):
    """What maps the pooled vector to logits."""

    hidden: list[Annotated[int, Field(ge=1)]] = Field(
        default_factory=list, description="Sizes of hidden layers; [] is one linear layer."
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.1, description="Dropout before each linear layer."
    )


def _layers_or_part(value: Any) -> str:
    named = isinstance(value, str | Part) or (isinstance(value, dict) and "name" in value)
    return "<part>" if named else "<layers>"


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
        default_factory=lambda: Part(name="mean"), description="mean, cls, or `my_parts.Pooling`."
    )
    fusion: Literal["text"] = Field(
        default="text",
        description="`text`: categories and numbers enter through the text template.",
    )
    head: Annotated[
        Annotated[Head, Tag("<layers>")] | Annotated[Part, Kind("head"), Tag("<part>")],
        Discriminator(_layers_or_part),
        Words("a map of hidden and dropout, or a part of your own such as my_parts.Head"),
    ] = Field(default_factory=Head, description="`{hidden, dropout}`, or `my_parts.Head`.")
    attention_dropout: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        default=None,
        description="Dropout of attention probabilities; null: the backbone's own on a GPU, 0 on a "
        "CPU, where it costs a third of the step.",
    )
    lora: None = Field(default=None, description="Reserved for adapters; only null for now.")
    quantize: None = Field(
        default=None, description="Reserved for quantization; only null for now."
    )
    checkpoint_activations: bool = Field(
        default=False,
        description="Recompute activations in the backward pass: less memory, a third slower.",
    )


class Loss(Part):
    """What training minimises."""

    name: Name = Field(
        default="cross_entropy",
        description="cross_entropy, a loss of torch.nn, or `my_parts.Loss`.",
    )
    class_weights: Literal["none", "sqrt", "balanced", "effective"] | dict[str, Positive] = Field(
        default="sqrt",
        description="Weight of a class by its training rows n: none, `sqrt` (1/sqrt(n)), "
        "`balanced` (1/n), `effective` number (Cui et al. 2019), or {label: weight}; scaled to a "
        "mean of 1 over the training rows.",
    )
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0, description="Share of the target spread over all classes (cross_entropy)."
    )

    @model_validator(mode="after")
    def _smoothing_is_cross_entropys(self) -> Loss:
        if self.label_smoothing and self.name != "cross_entropy":
            message = f"is only used by cross_entropy, not {self.name}; set it to 0"
            refuse([Problem(("label_smoothing",), message, (("name",),))])
        return self


class Optimizer(Part):
    """What moves the weights."""

    name: Name = Field(
        default="adamw", description="adamw, a class of torch.optim, or `my_parts.Name`."
    )
    lr: Positive = Field(default=3e-4, description="Learning rate of the backbone's top block.")
    head_lr: Positive | None = Field(
        default=1e-3, description="Learning rate of pooling and head; null: the same as lr."
    )
    weight_decay: Annotated[float, Field(ge=0)] = Field(
        default=0.01, description="Decoupled weight decay, not on biases and norms."
    )
    layer_decay: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.85,
        description="Factor on the learning rate for each block further down; 1 for none.",
    )


class Schedule(Part):
    """How the learning rate moves over the run's steps."""

    name: Name = Field(
        default="cosine",
        description="cosine, linear, one_cycle, constant, a class of torch.optim.lr_scheduler, or "
        "`my_parts.Name`.",
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


Tracker = Literal["tensorboard"]
TRACKERS: tuple[Tracker, ...] = ("tensorboard",)
DEFAULT_METRICS = ("f1_macro", "precision_macro", "recall_macro", "accuracy")


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
        Words("multiclass, or a dotted name"),
    ] = Field(
        default="multiclass", description="What is predicted: multiclass, or `my_parts.MyTask`."
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
        "accuracy, balanced_accuracy, log_loss, auroc_macro, auroc_weighted, mcc; "
        "`my_parts.metric`.",
    )
    baselines: bool = Field(
        default=True,
        description="Score majority class, best single category and TF-IDF beside the model.",
    )
    trackers: list[Tracker] = Field(
        default_factory=lambda: list(TRACKERS), description="Where metrics go besides the files."
    )

    @model_validator(mode="after")
    def _task_and_data_agree(self) -> Config:
        if self.task != "multiclass":
            return self
        by = (("task",),)
        problems = [
            Problem(("data", key), "is needed by task multiclass", by)
            for key in ("path", "target")
            if getattr(self.data, key) is None
        ]
        if not self.data.text and not self.data.categorical and not self.data.numeric:
            columns: tuple[Path, ...] = (("data", "categorical"), ("data", "numeric"))
            message = "names no column: list at least one to learn from"
            problems.append(Problem(("data", "text"), message, by + columns))
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
        if problems:
            refuse(problems)
        return self

    @model_validator(mode="after")
    def _metrics_are_told_apart(self) -> Config:
        names = [metric.name for metric in self.metrics]
        problems = [
            Problem(("metrics", i), f"{name} is listed twice")
            for i, name in enumerate(names)
            if name in names[:i]
        ]
        chosen = self.selection.metric
        valid = ["loss", *BUILTIN["metric"], *(n for n in names if n not in BUILTIN["metric"])]
        if chosen not in valid:
            hint = "; list it under metrics first" if re.fullmatch(DOTTED, chosen) else ""
            message = f"unknown metric {chosen!r}{hint or nearest(chosen, valid)}"
            message += f" (valid: {', '.join(valid)})"
            problems.append(Problem(("selection", "metric"), message, (("metrics",),)))
        if problems:
            refuse(problems)
        return self
