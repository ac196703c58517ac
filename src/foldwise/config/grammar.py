"""What the schema is written in: sections, replaceable parts, and the words of messages.

In: nothing. Out: the types that schema.py's keys are made of, the names of the built-in parts, and
how a problem with a key is put: where it is, what is wrong, which word was probably meant. The
schema, its documentation and the loader share these words, so they can't say different things.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any, NamedTuple, NoReturn

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    StringConstraints,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

_MEANS = ("macro", "micro", "weighted")
_OF_LABELS = (
    *(f"{score}_{mean}" for score in ("f1", "precision", "recall") for mean in _MEANS),
    *("accuracy", "balanced_accuracy", "log_loss", "auroc_macro", "auroc_weighted", "mcc"),
)

# What each built-in task is scored by and trained on; the first loss is its default.
METRICS: dict[str, tuple[str, ...]] = {
    "multiclass": _OF_LABELS,
    "multilabel": (
        *(f"{score}_{m}" for score in ("f1", "precision", "recall") for m in (*_MEANS, "samples")),
        *("subset_accuracy", "hamming_loss", "auroc_macro", "auroc_weighted"),
    ),
    "ordinal": (*_OF_LABELS, "mae", "quadratic_kappa", "spearman"),
    "regression": ("rmse", "mae", "r2", "spearman", "pearson"),
}
LOSSES: dict[str, tuple[str, ...]] = {
    "multiclass": ("cross_entropy", "focal", "logit_adjustment", "r_drop"),
    "multilabel": ("bce",),
    "ordinal": ("corn",),
    "regression": ("mse", "mae", "huber"),
}

# The built-in names of each kind of part; any other name is dotted: a library class or your own.
BUILTIN: dict[str, tuple[str, ...]] = {
    "task": tuple(METRICS),
    "strategy": ("stratified", "kfold", "group", "stratified_group", "time", "column"),
    "pooling": ("mean", "cls", "max", "mean_max", "attention", "queries", "last"),
    "fusion": ("text", "concat", "gated", "tokens"),
    "head": (),
    "activation": ("gelu", "relu", "tanh", "silu"),
    "loss": tuple(loss for losses in LOSSES.values() for loss in losses),
    "member": ("model", "linear", "embedding", "network", "boosting", "lookup"),
    "tracker": ("tensorboard", "mlflow", "wandb"),
    "optimizer": ("adamw", "adamw_8bit", "paged_adamw", "paged_adamw_8bit"),
    "schedule": ("cosine", "linear", "one_cycle", "constant", "polynomial", "wsd", "plateau"),
    "metric": tuple(dict.fromkeys(name for names in METRICS.values() for name in names)),
}
# Arguments of a built-in part that aren't keys of its section, because others don't have them.
ARGUMENTS: dict[tuple[str, str], tuple[str, ...]] = {
    ("pooling", "queries"): ("queries", "units"),
    ("fusion", "gated"): ("size",),
    ("loss", "focal"): ("gamma",),
    ("loss", "logit_adjustment"): ("tau",),
    ("loss", "r_drop"): ("alpha",),
    ("loss", "huber"): ("delta",),
    ("optimizer", "adamw"): ("betas", "eps"),
    ("optimizer", "adamw_8bit"): ("betas", "eps", "min_8bit_size"),
    ("optimizer", "paged_adamw"): ("betas", "eps"),
    ("optimizer", "paged_adamw_8bit"): ("betas", "eps", "min_8bit_size"),
    ("schedule", "polynomial"): ("power",),
    ("schedule", "wsd"): ("decay",),
    ("schedule", "plateau"): ("factor", "patience"),
    ("tracker", "mlflow"): ("uri", "experiment"),
    ("tracker", "wandb"): ("mode", "project"),
}
# Those of them whose arguments count something: whole numbers of 1 or more.
COUNTING = {("pooling", "queries"), ("fusion", "gated")}
DOTTED = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$"

Name = Annotated[str, StringConstraints(min_length=1)]
Path = tuple[str | int, ...]


Fraction = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """A map of the config: unknown keys are refused, values are never changed after loading."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, validate_default=False
    )


class Part(Section):
    """A replaceable part: a built-in name, a library class, or one of yours, with its arguments.

    Keys other than `name` are the part's keyword arguments; they are checked against its
    constructor before any weight is loaded.
    """

    model_config = ConfigDict(extra="allow")

    name: Name = Field(description="A built-in name, `my_parts.Name` or a library class.")

    @property
    def arguments(self) -> dict[str, Any]:
        """The keyword arguments: every key that isn't a field."""
        return dict(self.__pydantic_extra__ or {})


@dataclass(frozen=True)
class Kind:
    """Marks a part's kind: takes a bare name for a map, refuses names and keys it doesn't have."""

    kind: str

    @property
    def words(self) -> str:
        """What the part accepts, for messages and docs/config.md."""
        names = [*BUILTIN[self.kind], "a dotted name"]
        return f"{', '.join(names)}, or a map of name and arguments"

    def check(self, part: Part) -> Part:
        """Refuse a name that is neither built in nor dotted, and arguments of built-in parts."""
        if message := unknown_name(self.kind, part.name):
            refuse([Problem(("name",), message)])
        own = ARGUMENTS.get((self.kind, part.name), ())
        unknown = [key for key in part.arguments if key not in own]
        if part.name in BUILTIN[self.kind] and unknown:
            valid = [*type(part).model_fields, *own]
            refuse(Problem((key,), unknown_key(key, valid)) for key in unknown)
        counting = (self.kind, part.name) in COUNTING
        numbers = part.arguments.items() if counting else ()
        if wrong := {key: n for key, n in numbers if type(n) is not int or n < 1}:
            told = "must be a whole number of 1 or more, got"
            refuse(Problem((key,), f"{told} {shown(n)}") for key, n in wrong.items())
        return part

    def __get_pydantic_core_schema__(
        self, source: type[Part], handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        checked = core_schema.no_info_after_validator_function(self.check, handler(source))
        return core_schema.no_info_before_validator_function(_named, checked)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"anyOf": [name_schema(self.kind), handler(schema)]}


@dataclass(frozen=True)
class Words:
    """What a field accepts, where its type alone would read badly (messages and docs/config.md)."""

    text: str


class Problem(NamedTuple):
    """What is wrong at a key below the section that finds it.

    `involves` lists the keys the check has read besides: with one of those in error already,
    check.py doesn't repeat what follows from it.
    """

    path: Path
    message: str
    involves: tuple[Path, ...] = ()

    def __str__(self) -> str:
        return f"{dotted(self.path)}: {self.message}" if self.path else self.message


def refuse(problems: Iterable[Problem]) -> NoReturn:
    """Raise the problems of one section together, in the form that check.py reads."""
    found = list(problems)
    text = "; ".join(f"{'.'.join(map(str, p.path))}: {p.message}" for p in found)
    raise PydanticCustomError("foldwise", "{text}", {"text": text, "problems": found})


def nearest(word: str, valid: Iterable[str]) -> str:
    """Say which valid word was probably meant, or nothing: `; did you mean 'mean'?`."""
    close = get_close_matches(word.lower(), list(valid), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def unknown_key(key: str, valid: Iterable[str], hint: str = "") -> str:
    """Say that a key doesn't exist, which one is near (or else the hint), and which there are."""
    return f"unknown key{nearest(key, valid) or hint} (valid: {', '.join(valid)})"


def unknown_name(kind: str, name: str) -> str | None:
    """Say why a part can't have this name, or None where it can: built in, or dotted."""
    builtin = BUILTIN[kind]
    if name in builtin or re.fullmatch(DOTTED, name, re.ASCII):
        return None
    listed = f"built in: {', '.join(builtin)}; " if builtin else ""
    return (
        f"unknown name {name!r}{nearest(name, builtin)} ({listed}others are dotted: my_parts.Name)"
    )


def name_schema(kind: str) -> JsonSchemaValue:
    """Give the JSON Schema of a part's bare name, for an editor to complete."""
    other = {"type": "string", "pattern": DOTTED}
    return {"anyOf": [{"enum": list(BUILTIN[kind])}, other]} if BUILTIN[kind] else other


def dotted(path: Path) -> str:
    """Write a key as users do: `data.text[1]`; odd characters are escaped."""
    text = ""
    for key in path:
        word = key if isinstance(key, int) or key.isprintable() else repr(key)
        text += f"[{word}]" if isinstance(key, int) else f".{word}"
    return text.removeprefix(".")


def shown(value: Any, limit: int = 80) -> str:
    """Write a value on one line, as YAML names it, cut at `limit` characters (0: not at all)."""
    if value is None or isinstance(value, bool):
        text = {None: "null", True: "true", False: "false"}[value]
    elif isinstance(value, list):
        text = f"[{', '.join(shown(item, limit) for item in value)}]"
    elif isinstance(value, dict):
        pairs = (f"{dotted((key,))}: {shown(item, limit)}" for key, item in value.items())
        text = f"{{{', '.join(pairs)}}}"
    else:
        text = repr(value)
    return f"{text[:limit]}..." if limit and len(text) > limit else text


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value
