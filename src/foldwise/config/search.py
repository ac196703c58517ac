"""The config's `sweep` section: which values of which keys are tried."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from foldwise.config.grammar import Name, Problem, Section, Words, refuse


class Range(Section):
    """Numbers between two ends."""

    low: float = Field(description="Smallest value.")
    high: float = Field(description="Largest value.")
    log: bool = Field(default=False, description="Drawn evenly in the logarithm.")
    whole: bool = Field(default=False, description="Whole numbers only.")

    @model_validator(mode="after")
    def _ends_are_in_order(self) -> Range:
        if self.low >= self.high:
            refuse([Problem(("low",), f"must be below high, {self.high:g}")])
        if self.log and self.low <= 0:
            refuse([Problem(("low",), "must be above 0 where log is true")])
        return self


Choices = Annotated[list[Any], Field(min_length=1)]


class Sweep(Section):
    """Variants of this config, for `foldwise sweep` and `foldwise tune`."""

    grid: dict[Name, Choices] | None = Field(
        default=None,
        description="Dotted keys and their values, `{optimizer.lr: [1e-4, 3e-4]}`: every "
        "combination is a run.",
    )
    random: (
        dict[
            Name,
            Annotated[Range | Choices, Words("{low, high, log, whole}, or a list of values")],
        ]
        | None
    ) = Field(
        default=None,
        description="Dotted keys and where their values are drawn from: `{low: 1e-5, high: 1e-3, "
        "log: true}` or a list.",
    )
    trials: int = Field(default=20, ge=1, le=10000, description="Runs of a random search.")
    seed: int = Field(default=42, ge=0, lt=2**32, description="Seed of what is drawn.")

    @model_validator(mode="after")
    def _one_of_two(self) -> Sweep:
        if (self.grid is None) == (self.random is None):
            refuse([Problem((), "give either grid or random")])
        if not (self.grid or self.random):
            refuse([Problem((), "names no key")])
        return self
