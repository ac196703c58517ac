"""Sections on the rows: the table, what is kept out, how it is split, what picks the epoch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    Field,
    model_validator,
)

from foldwise.config.grammar import (
    Fraction,
    Kind,
    Name,
    Part,
    Path,
    Problem,
    Section,
    Words,
    refuse,
)

LABEL_OTHER = "other"


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
        default="error",
        description="A row without target: an `error` that names it, or `drop` it; where the "
        "target is a number, the few cells (up to 5%) that hold none, such as `Unrated`, too.",
    )


class PerClass(Section):
    """At most so many rows of each class."""

    per_class: int = Field(ge=1, description="At most this many rows of each class.")


class Data(Section):
    """The table and the role of its columns."""

    path: Name | None = Field(
        default=None,
        description="CSV (.gz too), TSV, Parquet or JSONL file or glob, also in a store "
        "(`s3://bucket/table.csv`); `synthetic[:rows]` for the embedded sample; null where the "
        "task supplies the rows.",
    )
    delimiter: Name = Field(
        default="auto",
        description="What stands between the cells of a CSV or TSV: one character, or `tab`; "
        "`auto`: the one by which the header has the columns named here.",
    )
    encoding: Name = Field(
        default="auto",
        description="Of a CSV, TSV or JSONL file, such as `utf-8`, `cp1252`, `utf-16`; `auto`: "
        "UTF-8, UTF-16, or Windows-1252 (Latin-1) where that is certain, else an error.",
    )
    decimal: Literal[".", ","] = Field(
        default=".",
        description="What stands before the fraction of a number in a CSV or TSV; with `,` dots "
        "may stand between thousands: `1.234,5`.",
    )
    target: Name | None = Field(default=None, description="Column to predict.")
    labels: Literal["strip", "exact"] = Field(
        default="strip",
        description="White space around a label: `strip` it, or take labels `exact`ly as they "
        "stand. Labels that differ by case or white space only are told either way.",
    )
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
    def _text_can_be_read(self) -> Data:
        problems = []
        if self.delimiter not in ("auto", "tab") and (
            len(self.delimiter) != 1 or self.delimiter in '"\r\n\0'
        ):
            message = f"must be auto, tab or one character (not a quote), got {self.delimiter!r}"
            problems.append(Problem(("delimiter",), message))
        if self.encoding != "auto" and not _is_encoding(self.encoding):
            message = f"no encoding is called {self.encoding!r}; for example utf-8, cp1252, utf-16"
            problems.append(Problem(("encoding",), message))
        padded = [label for label in self.order or [] if label != label.strip()]
        if padded and self.labels == "strip":
            message = f"{padded[0]!r} has white space around it, which data.labels: strip removes"
            problems.append(Problem(("order",), message, (("labels",),)))
        if problems:
            refuse(problems)
        return self

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


def _is_encoding(name: str) -> bool:
    try:
        # bytes -> text only: not base64, zip and the like
        return "a".encode(name).decode(name).lstrip("\ufeff") == "a"
    except (LookupError, ValueError, TypeError, UnicodeError):
        return False


class Holdout(Section):
    """Rows kept out of all folds, scored once by the mean of the fold models."""

    fraction: Fraction | None = Field(
        default=None,
        description="Share of the rows, stratified; the latest ones where folds go by time.",
    )
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
        default=None,
        description="Column to order rows by (strategy time): train on the past only. Rows of "
        "equal time stay together, in folds, holdout and inner rows.",
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

    rows: Literal["auto", "inner", "last", "fold"] = Field(
        default="auto",
        description="`inner`: a tenth of the training rows picks the epoch; `last`: no picking; "
        "`fold`: the scored rows pick it, so the scores are optimistic. `auto`: `last` below 2,000 "
        "training rows a fold, else `inner`; also `inner` where patience, evaluate_every or the "
        "schedule plateau need rows to evaluate on.",
    )
    metric: Name = Field(
        default="f1_macro",
        description="Metric that picks the epoch and says which answer is better, shown also where "
        "`metrics` leaves it out. With `loss` the first of `metrics` says which answer. By default "
        "`quadratic_kappa` for an ordinal target, `rmse` for regression.",
    )
    fraction: Annotated[float, Field(gt=0, le=0.5)] = Field(
        default=0.1, description="Share of the training rows that `inner` sets aside."
    )
