"""The keys below model.tabular: how columns become features or tokens beside the text."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from foldwise.config.grammar import Name, Problem, Section, refuse


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
