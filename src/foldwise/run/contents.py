"""What the JSON files of a run hold: the keys that are read, with their types.

`readers.read_json` holds a file against one of these. Other keys may stand beside: a task of one's
own adds some, and so may a later version.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Contents(BaseModel):
    """Any JSON object."""

    model_config = ConfigDict(extra="allow")


class Manifest(Contents):
    """manifest.json of a run."""

    data_sha256: str
    code_sha256: dict[str, str] | None = None
    backbone_sha256: dict[str, str] | None = None
    started: str | None = None
    finished: str | None = None
    git_commit: str | None = None
    counts: dict[str, Any] = {}
    versions: dict[str, str] = {}
    machine: dict[str, Any] = {}
    training_s: dict[str, float] = {}
    members_s: dict[str, float] = {}


class Classes(Contents):
    """classes.json, where the task is one of Foldwise's."""

    classes: list[str] = []
    ignored: list[str] = []
    merged: list[str] = []


class Fitted(Contents):
    """encoders.json of a fold, where the task is one of Foldwise's."""

    class_counts: list[int] | None = None
    class_weights: list[float] | None = None
    pos_weight: list[float] | None = None
    mean: float = 0.0
    deviation: float = 1.0
    columns: dict[str, list[dict[str, Any]]] = {}


class Training(Contents):
    """training.json of a fold."""

    steps: int
    best_step: int | None
    best: float | None
    elapsed_s: float
    peak_memory_bytes: int | None = None


class Interval(Contents):
    """A score with the ends of its interval; null where it isn't defined."""

    value: float | None
    low: float | None
    high: float | None


class Asked(Contents):
    """asked.json: what the one model for all folds was to be made of."""

    model: str
    epochs: int  # of the fine-tuned model; 0 where it has no vote in the answer
    answer: dict[str, Weight] = {}


class Measured(Contents):
    """measured.json: the one model for all folds on the holdout, beside the folds' answer."""

    model: str
    rows: int
    folds: int
    scores: dict[str, dict[str, Interval]]
    difference: dict[str, Interval]
    calibration_error: dict[str, float | None]
    ms_a_row: dict[str, float]
    smaller_is_better: list[str] = []
    beside: str | None = None  # sha256 of the run's holdout.parquet then


class Constant(Contents):
    """What a fold model predicts for nearly every row."""

    prediction: str | float
    share: float


class Validation(Contents):
    """validation.json of a fold."""

    scores: dict[str, float | None]
    constant: Constant | None = None


class Member(Contents):
    """What a member scores by itself, and which column it looked up in each fold."""

    oof: dict[str, Interval]
    holdout: dict[str, Interval] | None
    columns: list[str] = []
    bytes: int | None = None


class Answer(Contents):
    """What the run answers with: members, their weights, and what is done with their blend."""

    weights: dict[str, Weight] = Field(min_length=1)
    blended: bool
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    thresholds: dict[str, Annotated[float, Field(ge=0, le=1)]] | None = None
    thresholds_add: float | None = None
    class_weights: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] | None = None
    class_weights_add: float | None = None
    cutoffs: dict[str, Annotated[float, Field(allow_inf_nan=False)]] | None = None
    cutoffs_add: float | None = None
    calibration: dict[str, Any] | None = None
    sets: dict[str, Any] | None = None
    adds: dict[str, float | None] = {}

    @field_validator("weights")
    @classmethod
    def _someone_answers(cls, weights: dict[str, float]) -> dict[str, float]:
        if not any(weights.values()):
            raise ValueError("no member has a weight")
        return weights


class Verdict(Contents):
    """What won, in words too; a run of an earlier version has none."""

    winner: str | None
    told: str
    next: str


class Metrics(Contents):
    """metrics.json of a finished run."""

    folds: dict[str, dict[str, float | None]]
    mean: dict[str, float | None]
    std: dict[str, float | None]
    oof: dict[str, Interval]
    holdout: dict[str, Interval] | None
    baselines: dict[str, Member]
    members: dict[str, Member] = {}
    answer: Answer | None = None
    selection: str | None = None
    smaller_is_better: list[str] = []
    constant_predictions: dict[str, Constant] = {}
    verdict: Verdict | None = None


class Event(Contents):
    """A line of log.jsonl."""

    event: str


class Logged(Contents):
    """A line of a fold's metrics.jsonl."""

    split: str
    step: int
    epoch: float


class Entry(BaseModel):
    """What a seal says of a file."""

    model_config = ConfigDict(extra="forbid")

    bytes: int
    sha256: str


class Seal(BaseModel):
    """seal.json of a run, or of a fold."""

    model_config = ConfigDict(extra="forbid")

    schema_: int = Field(alias="schema")
    stages: dict[str, dict[str, Entry]]
    sha256: str
