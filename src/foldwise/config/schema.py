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
    Field,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from foldwise.config.adversarial import adversarial_problems
from foldwise.config.fusion import fusion_problems
from foldwise.config.grammar import (
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
    unknown_name,
)
from foldwise.config.model import Model, Text
from foldwise.config.rows import Data, Folds, Holdout, PerClass, Selection
from foldwise.config.search import Sweep
from foldwise.config.shard import shard_problems
from foldwise.config.training import SCHEDULE_ARGUMENTS, Loss, Optimizer, Schedule, Training

# Where calls of foldwise are at work: a Ray of one's own, the machine's, or one by its address.
PLACE = re.compile(r"ray(://(auto|[A-Za-z0-9.-]+:\d{1,5}|\[[0-9A-Fa-f:]+\]:\d{1,5}))?")


class Run(Section):
    """Where the run goes and what its randomness follows from."""

    name: Annotated[
        str,
        StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"),
        Words("text of at most 100 letters, digits, '.', '_', '-', the first a letter or digit"),
    ] = Field(description="Name of the run's folder: letters, digits, `.`, `_`, `-`.")
    dir: Name = Field(
        default="runs",
        description="Folder that holds the runs (from the working directory), or one in a store: "
        "`s3://bucket/runs`.",
    )
    seed: int = Field(
        default=42, ge=0, lt=2**32, description="Seed of initialisation, batch order and dropout."
    )
    deterministic: bool = Field(
        default=False,
        description="On CUDA: only algorithms that give the same bytes again, where torch has them "
        "(an error where it hasn't); slower. On a CPU it is so anyway.",
    )
    on: (
        Annotated[
            str,
            StringConstraints(pattern=f"^{PLACE.pattern}$"),
            Words("ray, ray://auto or ray://host:port"),
        ]
        | None
    ) = Field(
        default=None,
        description="Where the commands `train`, `sweep` and `tune` do their work: `ray` (one of "
        "this machine's own), `ray://auto` (the one it belongs to) or `ray://host:6379`; null: "
        "here. No part of what a run is: with or without it the same config goes on.",
    )


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
    ensemble: Annotated[
        Literal["auto", "model"]
        | Annotated[list[Annotated[Part, Kind("member")]], Field(min_length=1)],
        Words("auto, model, or a list of members: names, or maps of name and arguments"),
    ] = Field(
        default="auto",
        description="What makes the run's answer: the `model` alone, or a blend of it with other "
        "members on the same folds: `linear` (TF-IDF), `embedding` (the frozen backbone, linear), "
        "`network` (small networks on it), `boosting` (LightGBM), `lookup` (one category), "
        "`my_parts.Member`. `auto`: all that the columns allow; a blend only where it is better.",
    )
    calibration: Literal["temperature", "none"] = Field(
        default="temperature",
        description="`temperature`: the answer's probabilities are divided by one number on the "
        "scale of logits, fitted out of fold, so that they come true as often as they say; no "
        "label changes out of fold. `none`: as they are.",
    )
    thresholds: Literal["auto", "half"] = Field(
        default="auto",
        description="From which probability a label is predicted. `auto`: of a multilabel target, "
        "where an F1 judges (selection.metric), from thresholds fitted out of fold; of one class a "
        "row, where a mean over classes judges, rare classes from smaller ones where the answer is "
        "a blend; of ordered labels, where quadratic kappa judges, by the mean rank. `half`: from "
        "a half; the most probable class; the median label.",
    )
    baselines: bool = Field(
        default=True,
        description="Score majority class (or mean and median), best single category and a linear "
        "model beside the model.",
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
        problems = (
            [
                *fusion_problems(self.data, self.model, self.training),
                *adversarial_problems(self.data, self.model, self.training),
            ]
            if self.task in BUILTIN["task"]
            else []
        )
        problems += shard_problems(self.model, self.optimizer, self.training)
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

    def _problems_of_members(self) -> list[Problem]:
        if isinstance(self.ensemble, str):
            return []
        names = [part.name for part in self.ensemble]
        own_task = self.task not in BUILTIN["task"]
        problems = []
        for i, name in enumerate(names):
            message, by = "", "data"
            if name in names[:i]:
                message = f"{name} is listed twice"
            elif own_task and name != "model":
                message, by = f"task {self.task} has no other member than its model", "task"
            elif name == "embedding" and not self.data.text:
                message = "embedding needs a text: data.text names no column"
            elif name == "lookup" and not self.data.categorical:
                message = "lookup needs a category: data.categorical names no column"
            if message:
                problems.append(Problem(("ensemble", i), message, ((by,),)))
        return problems

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
        problems += self._problems_of_members()
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
