"""What is predicted: the seam between the workflow and everything it must not know.

`Task` is all that workflow.py and the training loop see. Its one half is a `Target`: what the
column to predict holds, the loss, predictions, metrics. `Multiclass` is the target of one label a
row, targets/ has the others; text classification adds rows, batches and a model to whichever the
config names, and so can yours for any other kind of data.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import polars as pl
from torch import Tensor, nn

from foldwise.config.rows import LABEL_OTHER
from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError
from foldwise.metrics.build import build_metric
from foldwise.metrics.metric import Metric, builtin_metric
from foldwise.parts.registry import BUILT_IN, find_part
from foldwise.parts.usercode import UserCode


class Task(Protocol):
    """A kind of prediction over rows of some kind."""

    def rows(self) -> pl.DataFrame:
        """Return all rows, where the config names no table (`data.path: null`)."""

    def fit_target(self, frame: pl.DataFrame) -> None:
        """Learn what the target can be, from all cross-validation rows; once for all folds."""

    def fit_rows(self, frame: pl.DataFrame) -> None:
        """Fit whatever is fitted (weights, encoders) on the training rows of a fold."""

    def state(self) -> dict[str, dict[str, Any]]:
        """Return what was fitted as JSON values: {"target": ..., "rows": ...}."""

    def load_state(self, state: dict[str, dict[str, Any]]) -> None:
        """Take back what `state` returned."""

    def save(self, folder: Path) -> None:
        """Write the files that building model and rows again needs into the run folder."""

    def check(self) -> None:
        """Raise FoldwiseError for parts that can't work, before anything is written."""

    def dataset(self, frame: pl.DataFrame) -> Any:
        """Return rows by position; with `lengths` (rows,) if batches should be of like length."""

    def collate(self, rows: Sequence[Any]) -> dict[str, Tensor]:
        """Turn rows into a batch: the model's keyword arguments, and `target`."""

    def build_model(self) -> nn.Module:
        """Build a fresh model; its output is logits (B, n_outputs)."""

    def loss(self, outputs: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Return one loss a row, (B,)."""

    def to_columns(self, logits: np.ndarray) -> dict[str, Any]:
        """Turn logits (n, n_outputs) into prediction, prob_* and logit_* columns."""

    def to_arrays(self, frame: pl.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Turn a table of target, prediction and prob_* into what metrics take."""

    def metrics(self) -> list[Metric]:
        """Return the metrics to show, `selection.metric` among them unless it is the loss."""

    def stratify_key(self, frame: pl.DataFrame) -> np.ndarray | None:
        """Return the labels that folds are stratified by, object (n,); None for none.

        Or a bool (n, labels), where a row can have several.
        """


TAUGHT = "foldwise.taught"  # what rows are to be learnt as, where that isn't their label


def with_taught(rows: pl.DataFrame, values: np.ndarray) -> pl.DataFrame:
    """Return rows with what a model is to learn of each, in place of its label.

    Args:
        rows: (n,); their label may be null.
        values: probabilities of classes or labels, or numbers, float64 (n, n_outputs).
    """
    kind = pl.Array(pl.Float64, values.shape[1])
    return rows.with_columns(pl.Series(TAUGHT, values, dtype=kind))


class Target:
    """What every kind of target has; the kinds say what is learnt, lost and scored.

    Attributes:
        holds: what a cell of the target column is: one label, a set of labels, or a number.
        classes: the labels, in the order of the logits; none where a number is predicted.
        merged: the table's labels that are called LABEL_OTHER (`data.rare_classes: merge`).
        ordered: whether the labels have an order, low to high.

    Args:
        config: `data.target`, `loss` and `metrics` are read.
        code: the user's files.
    """

    holds: Literal["label", "labels", "number"] = "label"
    ordered = False

    def __init__(self, config: Config, code: UserCode) -> None:
        self.config = config
        self.code = code
        self.target = config.data.target or "target"
        self.classes: list[str] = []
        self.merged: list[str] = []

    def rows(self) -> pl.DataFrame:
        """Refuse: a table is needed unless the task brings its own rows."""
        raise FoldwiseError(
            f"data.path is null, but task {self.config.task} brings no rows of its own; name "
            "a table"
        )

    def save(self, folder: Path) -> None:
        """Write nothing: labels and weights are in the state."""

    def metrics(self) -> list[Metric]:
        """Return the metrics the config names, in its order, and last an unnamed one that decides.

        What picks the epoch says which answer is better too, so it is computed and shown.
        """
        named = [
            build_metric(part.name, part.arguments, self.code, f"metrics[{number}]")
            if "." in part.name
            else self.built_in_metric(part.name)
            for number, part in enumerate(self.config.metrics)
        ]
        decides = self.config.selection.metric
        if decides == "loss" or decides in {metric.name for metric in named}:
            return named
        return [*named, self.built_in_metric(decides)]

    def built_in_metric(self, name: str) -> Metric:
        """Look up a metric of this kind of target by its name in the config."""
        return builtin_metric(name)

    def check_labels(self, frame: pl.DataFrame) -> None:
        """Accept any label: one that is new to the model counts as wrong."""

    def start(self) -> np.ndarray | None:
        """Return the logits that a new model gives every row, (n_outputs,); None: zeros."""
        return None

    def taught(self, frame: pl.DataFrame) -> np.ndarray | None:
        """Return what `with_taught` says of rows, float64 (n, n_outputs); None where it doesn't."""
        return frame[TAUGHT].to_numpy() if TAUGHT in frame.columns else None


def merge_labels(frame: pl.DataFrame, target: str | None, merged: Sequence[str]) -> pl.DataFrame:
    """Call rare labels what training called them: the one place that does.

    Args:
        frame: with the target column.
        target: its name; None where the config names none.
        merged: the labels that become LABEL_OTHER; any other stays as it is.
    """
    if not merged or target is None:
        return frame
    label = pl.col(target)
    other = pl.when(label.is_in(list(merged))).then(pl.lit(LABEL_OTHER)).otherwise(label)
    return frame.with_columns(other.alias(target))


class TargetTask:
    """A task for the target that the config names; rows, batches and a model are yours to add.

    Attributes:
        half: Multiclass, Multilabel, Ordinal or Regression; a task of one's own is multiclass.

    Args:
        config: the whole config.
        code: the user's files.
    """

    def __init__(self, config: Config, code: UserCode) -> None:
        self.config = config
        self.code = code
        named = config.task if config.task in BUILT_IN["target"] else "multiclass"
        self.half: Any = find_part("target", named, code, "task")(config, code)
        self.target: str = self.half.target
        self.holds: str = self.half.holds
        self.ordered: bool = self.half.ordered

    @property
    def classes(self) -> list[str]:
        """The labels, in the order of the logits; none for regression."""
        return self.half.classes  # type: ignore[no-any-return]

    @classes.setter
    def classes(self, classes: list[str]) -> None:
        self.half.classes = classes

    @property
    def merged(self) -> list[str]:
        """The table's labels that are called LABEL_OTHER."""
        return self.half.merged  # type: ignore[no-any-return]

    @merged.setter
    def merged(self, merged: list[str]) -> None:
        self.half.merged = merged

    @property
    def n_outputs(self) -> int:
        """Logits a row."""
        return self.half.n_outputs  # type: ignore[no-any-return]

    def rows(self) -> pl.DataFrame:
        """Refuse: a table is needed unless the task brings its own rows."""
        return self.half.rows()  # type: ignore[no-any-return]

    def save(self, folder: Path) -> None:
        """Write the files of the target: none."""
        self.half.save(folder)

    def fit_target(self, frame: pl.DataFrame) -> None:
        """Learn what the target can be, from all cross-validation rows."""
        self.half.fit_target(frame)

    def fit_rows(self, frame: pl.DataFrame) -> None:
        """Fit what the target needs (weights, scale) on the training rows of a fold."""
        self.half.fit_rows(frame)

    def start(self) -> np.ndarray | None:
        """Return the logits that a new model gives every row, (n_outputs,); None: zeros."""
        return self.half.start()  # type: ignore[no-any-return]

    def state(self) -> dict[str, dict[str, Any]]:
        """Return what was fitted of the target."""
        return self.half.state()  # type: ignore[no-any-return]

    def load_state(self, state: dict[str, dict[str, Any]]) -> None:
        """Take back what `state` returned."""
        self.half.load_state(state)

    def check(self) -> None:
        """Try loss and metrics on made-up rows."""
        self.half.check()

    def check_labels(self, frame: pl.DataFrame) -> None:
        """Raise FoldwiseError for labelled rows that can't be scored."""
        self.half.check_labels(frame)

    def target_values(self, frame: pl.DataFrame) -> np.ndarray | None:
        """Return what batches hold as target, (n, ...); None where it isn't known."""
        return self.half.target_values(frame)  # type: ignore[no-any-return]

    def loss(self, outputs: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Return one loss a row, (B,)."""
        return self.half.loss(outputs, batch)  # type: ignore[no-any-return]

    def to_columns(self, logits: np.ndarray) -> dict[str, Any]:
        """Turn logits (n, n_outputs) into prediction, prob_* and logit_* columns."""
        return self.half.to_columns(logits)  # type: ignore[no-any-return]

    def from_probabilities(self, probabilities: np.ndarray) -> dict[str, Any]:
        """Turn probabilities (n, n_classes) into the same columns."""
        return self.half.from_probabilities(probabilities)  # type: ignore[no-any-return]

    def joined(self, chosen: np.ndarray) -> list[str]:
        """Write sets of labels, bool (n, labels), as cells; only where labels are sets."""
        return self.half.joined(chosen)  # type: ignore[no-any-return]

    def to_arrays(self, frame: pl.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Turn a table of target, prediction and prob_* into what metrics take."""
        return self.half.to_arrays(frame)  # type: ignore[no-any-return]

    def per_class(self, target: np.ndarray, prediction: np.ndarray) -> list[dict[str, Any]]:
        """Score each class by itself; nothing for regression."""
        return self.half.per_class(target, prediction)  # type: ignore[no-any-return]

    def metrics(self) -> list[Metric]:
        """Return the metrics the config names, in its order, and the one that decides."""
        return self.half.metrics()  # type: ignore[no-any-return]

    def built_in_metric(self, name: str) -> Metric:
        """Look up a metric of this kind of target by its name in the config."""
        return self.half.built_in_metric(name)  # type: ignore[no-any-return]

    def stratify_key(self, frame: pl.DataFrame) -> np.ndarray | None:
        """Return what folds are stratified by."""
        return self.half.stratify_key(frame)  # type: ignore[no-any-return]
