"""The keys below model.tabular: how columns become features or tokens beside the text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from foldwise.config.grammar import Name, Path, Problem, Section, refuse, shown

if TYPE_CHECKING:
    from foldwise.config.schema import Config


class Categorical(Section):
    """Embeddings of category columns."""

    max_size: int = Field(
        default=64,
        ge=1,
        description="Widest embedding of a column; it is 1.6 n^0.56 wide for n slots.",
    )
    hash_above: int = Field(
        default=1000,
        ge=0,
        description="Values of a column with slots of their own, the most frequent in the training "
        "rows; where there are more, the others share hash buckets.",
    )
    buckets: int = Field(
        default=256, ge=1, description="Hash buckets of a column with more than hash_above values."
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.1,
        description="Share of the values shown as unseen in training, which is what the unseen "
        "slot learns from.",
    )


class Numeric(Section):
    """Embeddings of number columns."""

    scale: Literal["quantile", "standard"] = Field(
        default="quantile",
        description="`quantile`: ranks among the training rows as a normal variable; `standard`: "
        "mean 0 and deviation 1.",
    )
    embedding: Literal["linear", "piecewise_linear", "periodic"] = Field(
        default="piecewise_linear",
        description="`linear`, `piecewise_linear` bins or `periodic` functions, then a linear "
        "layer (Gorishniy et al. 2022).",
    )
    size: int = Field(default=16, ge=1, description="Width of a number's embedding.")
    bins: int = Field(
        default=16, ge=2, le=1000, description="Bins of piecewise_linear, equally frequent."
    )
    frequencies: int = Field(default=16, ge=1, description="Learned frequencies of periodic.")
    sigma: Annotated[float, Field(gt=0)] = Field(
        default=0.1, description="Standard deviation of the frequencies that periodic starts from."
    )

    @model_validator(mode="after")
    def _keys_are_of_the_embedding(self) -> Numeric:
        of = {"bins": "piecewise_linear", "frequencies": "periodic", "sigma": "periodic"}
        problems = [
            Problem((key,), f"is only used by embedding {name}; leave it out", (("embedding",),))
            for key, name in of.items()
            if name != self.embedding and getattr(self, key) != default_of(self, key)
        ]
        if problems:
            refuse(problems)
        return self


class Tabular(Section):
    """How columns enter the model beside the text."""

    categorical: Categorical = Field(
        default_factory=Categorical, description="Embeddings of category columns."
    )
    numeric: Numeric = Field(default_factory=Numeric, description="Embeddings of number columns.")
    prefixes: dict[Name, Annotated[int, Field(ge=1)]] = Field(
        default_factory=dict,
        description="First characters of a category column that become a column of their own: "
        "`{ZIP code: 3}`.",
    )


def default_of(section: Section, key: str) -> Any:
    """Return what a key is where it isn't given."""
    return type(section).model_fields[key].get_default(call_default_factory=True)


def fusion_problems(config: Config) -> Iterator[Problem]:
    """Yield what doesn't fit between the columns, model.fusion and the keys that hang on them."""
    data, model = config.data, config.model
    fusion = model.fusion.name
    by: tuple[Path, ...] = (("model", "fusion"), ("data", "categorical"), ("data", "numeric"))
    if fusion == "text":
        message = "does nothing where model.fusion is text: all columns are in the template"
        for key in type(model.tabular).model_fields:
            if getattr(model.tabular, key) != default_of(model.tabular, key):
                yield Problem(("model", "tabular", key), message, by)
        return
    if not data.categorical and not data.numeric:
        message = f"{fusion} needs columns under data.categorical or data.numeric; set it to text"
        yield Problem(("model", "fusion"), message, by)
        return
    size = model.fusion.arguments.get("size", 1) if fusion == "gated" else 1
    if type(size) is not int or size < 1:
        message = f"must be a whole number of 1 or more, got {shown(size)}"
        yield Problem(("model", "fusion", "size"), message, by)
    for key in ("categorical", "numeric"):
        section = getattr(model.tabular, key)
        if not getattr(data, key) and section != default_of(model.tabular, key):
            message = f"does nothing without columns under data.{key}"
            yield Problem(("model", "tabular", key), message, by)
    for column in model.tabular.prefixes:
        if column not in data.categorical:
            message = f"column {column!r} isn't listed under data.categorical"
            yield Problem(("model", "tabular", "prefixes", column), message, by)
    if data.text:
        return
    by = (*by, ("data", "text"))
    if fusion != "concat":
        message = f"{fusion} needs a text under data.text; set it to concat for columns alone"
        yield Problem(("model", "fusion"), message, by)
    unused = set(type(model).model_fields) - {
        # Where the columns alone make the model, the backbone's name and what prepare.py resolves
        # may stay, so that such a config can extend one with text.
        *("backbone", "revision", "fusion", "tabular", "head", "attention_dropout", "attention"),
    }
    message = "does nothing without data.text: there is no backbone"
    for key in sorted(unused):
        if getattr(model, key) != default_of(model, key):
            yield Problem(("model", key), message, by)
    if config.training.tokens_per_batch is not None:
        message = "does nothing without data.text: there are no tokens; give batch_size"
        yield Problem(("training", "tokens_per_batch"), message, by)
