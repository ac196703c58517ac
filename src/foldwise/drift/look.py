"""Whether new rows have drifted: two tables and the answers to them in, a `Drift` out.

Every check asks whether so large a difference can be chance between two samples of one source. A
table has many columns, so p-values are corrected for all checks together (Holm 1979): of tables
without drift one in twenty is called drifted at most. And since of 20,000 rows every difference is
beyond chance, one counts as drift only where it is large enough to matter, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from foldwise.config.schema import Config
from foldwise.drift.classifier import Apart, tell_apart
from foldwise.drift.columns import compare_columns, compare_tokens, counts_of
from foldwise.drift.measures import (
    Check,
    Part,
    compare_numbers,
    compare_rate,
    compare_shares,
    holm,
)
from foldwise.drift.sides import Sides
from foldwise.members.member import Columns
from foldwise.tasks.predictions import values_of

CHANCE = 0.05  # of any difference being called clear where there is none
MATTERS = 0.05  # share of rows that differ, from which a clear difference counts as drift
_SIZES = ((0.25, "large"), (0.1, "moderate"), (MATTERS, "small"), (0.0, "slight"))


def size_in_words(size: float) -> str:
    """Say how large a difference is: slight, small, moderate or large."""
    return next(word for least, word in _SIZES if size >= least)


@dataclass(frozen=True)
class Drift:
    """What new rows differ in from those that a run was made from.

    Attributes:
        sides: the rows that were compared.
        checks: what was compared, clear and large differences first.
        apart: the classifier's; None where there were no rows to fit it on.
    """

    sides: Sides
    checks: tuple[Check, ...]
    apart: Apart | None

    @property
    def tested(self) -> list[Check]:
        """Those that a test could be made for."""
        return [check for check in self.checks if math.isfinite(check.p)]

    @property
    def clear(self) -> list[Check]:
        """Those that can't be chance, however small."""
        return [check for check in self.checks if is_clear(check)]

    @property
    def found(self) -> list[Check]:
        """Those that can't be chance and are large enough to matter."""
        return [check for check in self.clear if check.size >= MATTERS]

    @property
    def size(self) -> float:
        """The largest difference that counts as drift; 0 for none."""
        return max((check.size for check in self.found), default=0.0)


def is_clear(check: Check) -> bool:
    """Say whether a difference can't be chance."""
    return math.isfinite(check.adjusted) and check.adjusted <= CHANCE


def find_drift(
    sides: Sides,
    answered: pl.DataFrame | None,
    estimate: pl.DataFrame | None,
    config: Config,
    task: Any,
    stored: Sequence[Check] = (),
) -> Drift:
    """Compare new rows with those that a run was made from.

    Args:
        sides: the rows.
        answered: predictions of `sides.new`, each row's by one fold's answer, as out of fold;
            None where there is nothing to compare them with.
        estimate: out-of-fold predictions of the rows they are set against; None: there are none.
        config: the run's.
        task: the run's.
        stored: what the run's folder says of columns, where there are no training rows.
    """
    data = config.data
    before, after = sides.dropped
    checks = [compare_rate("dropped", None, before, after, "without what a row must have")]
    checks = [check for check in checks if check.parts and any(n for n, _ in sides.dropped)]
    checks += stored
    if estimate is not None and answered is not None and estimate.height:
        checks += compare_answers(estimate, answered, task)
    apart = None
    training, new = sides.training, sides.new
    if training is not None and training.height and new.height:
        checks += compare_columns(training, new, config)
        checks += compare_tokens(training, new, config, task)
        fill = {"median": "median", "zero": "zero"}.get(data.missing.numeric, "mean")
        columns = Columns(tuple(data.text), tuple(data.categorical), tuple(data.numeric), fill)
        apart = tell_apart(training, new, columns, config.folds.seed)
    if apart is not None:
        beyond = max(0.0, 2 * apart.auc - 1)
        parts = (Part("pairs told apart", 0.5, apart.auc), *apart.by_value)
        checks.append(Check("classifier", None, beyond, apart.p, parts))
    adjusted = holm(checks)
    checks = [replace(check, adjusted=p) for check, p in zip(checks, adjusted, strict=True)]
    # Clear ones first, the largest first; then what is chance, the least likely first.
    checks.sort(key=lambda c: (not is_clear(c), -c.size if is_clear(c) else _or_one(c.p)))
    return Drift(sides, tuple(checks), apart)


def compare_answers(estimate: pl.DataFrame, answered: pl.DataFrame, task: Any) -> list[Check]:
    """Compare what the run answers, and how surely.

    Args:
        estimate: prediction and prob_* of out-of-fold rows.
        answered: of new rows.
        task: the run's; says what a prediction holds.
    """
    sides = (estimate, answered)
    if estimate["prediction"].dtype.is_float():
        numbers = [side["prediction"].to_numpy() for side in sides]
        return [compare_numbers("predictions", None, *numbers)]
    names = [name for name in estimate.columns if name.startswith("prob_")]
    both = [values_of(side.select(names)) for side in sides]
    if getattr(task, "holds", "label") == "labels":
        found = [_labels(names, [_predicted(side, task) for side in sides])]
        sure = [np.abs(side - 0.5).mean(axis=1) + 0.5 for side in both]
    else:
        before, after = (counts_of(side["prediction"].cast(pl.String)) for side in sides)
        found = [compare_shares("classes", None, before, after)]
        sure = [side.max(axis=1) for side in both]
    return [*found, compare_numbers("confidence", None, *sure)]


def _predicted(table: pl.DataFrame, task: Any) -> np.ndarray:
    """Return which labels are predicted, 0 or 1: (n, labels)."""
    indicators: np.ndarray = task.to_arrays(table.with_columns(target=pl.col("prediction")))[1]
    return indicators


def _labels(names: list[str], predicted: list[np.ndarray]) -> Check:
    """Compare how often each label is predicted; the one that moved most stands for all."""
    each = []
    for i, name in enumerate(names):
        before, after = ((int(side[:, i].sum()), len(side)) for side in predicted)
        each.append(compare_rate("classes", None, before, after, name.removeprefix("prob_")))
    p = min(1.0, len(each) * min(check.p for check in each))
    each.sort(key=lambda check: -check.size)
    return Check("classes", None, each[0].size, p, tuple(c.parts[0] for c in each[:12]))


def _or_one(p: float) -> float:
    return p if math.isfinite(p) else 1.0
