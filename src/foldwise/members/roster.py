"""The members of a run: a name of its config in, the member itself out, yet to be fitted."""

from __future__ import annotations

from typing import Any

import numpy as np

from foldwise.config.grammar import Part
from foldwise.config.members import MODEL, beside_the_model
from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError
from foldwise.losses.classes import takes_class_weights
from foldwise.members.member import Columns, Floats, Holds, Member
from foldwise.parts.registry import build_part, find_part, member_kind
from foldwise.parts.usercode import UserCode

_ROUNDING = 1e-6  # of a sum of float32 probabilities


def build_member(
    part: Part, config: Config, code: UserCode, holds: Holds, n_outputs: int
) -> Member:
    """Construct a member, yet to be fitted.

    Args:
        part: its name and arguments.
        config: `data`, the seed and whether classes weigh the same are offered to it.
        code: the user's files.
        holds: what a cell of the target column is.
        n_outputs: classes, labels, or 1.

    Raises:
        FoldwiseError: there is no such member, or it takes other arguments.
    """
    offered = {
        "holds": holds,
        "n_outputs": n_outputs,
        "columns": columns_read(config),
        "seed": config.run.seed,
        "balanced": not _unweighted(config, code),
    }
    member: Member = build_part(
        member_kind(part.name), part.name, part.arguments, code, "ensemble", **offered
    )
    return member


def columns_read(config: Config) -> Columns:
    """Return the columns that members read."""
    data, fill = config.data, config.data.missing.numeric
    return Columns(
        tuple(data.text),
        tuple(data.categorical),
        tuple(data.numeric),
        "mean" if fill == "drop" else fill,
    )


def check_members(config: Config, code: UserCode, task: Any) -> None:
    """Construct every member once, so that a wrong one shows before anything is written.

    Args:
        config: resolved.
        code: the user's files.
        task: with its target fitted.

    Raises:
        FoldwiseError: a member can't be built, or lacks a method.
    """
    for part in beside_the_model(config):
        member = build_member(part, config, code, getattr(task, "holds", "label"), outputs_of(task))
        methods = ("fit", "predict", "state", "load_state")
        if lacking := [name for name in methods if not callable(getattr(member, name, None))]:
            raise FoldwiseError(
                f"ensemble: {part.name} has no {', '.join(lacking)}; a member has "
                f"{', '.join(methods)} (docs/customize.md)"
            )


def checked(values: Any, n: int, n_outputs: int, holds: Holds, name: str) -> Floats:
    """Return what a member predicted, once it is known to be what a member predicts.

    Args:
        values: as it returned them.
        n: rows that it was given.
        n_outputs: classes, labels, or 1.
        holds: label, labels or number.
        name: the member's, for the message.

    Raises:
        FoldwiseError: of another shape, not finite, or no probabilities.
    """
    made = np.asarray(values, dtype=np.float64)
    wrong = ""
    if made.shape != (n, n_outputs):
        wrong = f"values of shape {made.shape}, not {(n, n_outputs)}"
    elif not np.isfinite(made).all():
        wrong = "values that aren't finite"
    elif holds != "number" and (made.min(initial=0) < 0 or made.max(initial=0) > 1 + _ROUNDING):
        wrong = "values below 0 or above 1, which are no probabilities"
    elif holds == "label" and np.abs(made.sum(axis=1) - 1).max(initial=0) > _ROUNDING:
        wrong = "probabilities that don't sum to 1 in each row"
    if wrong:
        raise FoldwiseError(f"ensemble: {name} predicts {wrong}")
    return made


def reads_embedding(part: Part, config: Config, code: UserCode) -> bool:
    """Say whether a member wants the frozen backbone's vectors of a text that is there."""
    if part.name == MODEL or not config.data.text:
        return False
    found = find_part(member_kind(part.name), part.name, code, "ensemble")
    return bool(getattr(found, "reads_embedding", False))


def _unweighted(config: Config, code: UserCode) -> bool:
    # Whether classes are to weigh what they weigh; a loss without weights says nothing of it.
    unweighted = config.task == "multiclass" and config.loss.class_weights == "none"
    return unweighted and takes_class_weights(config.loss.name, code)


def outputs_of(task: Any) -> int:
    """Return how many values a row's prediction has: classes, labels, or one number."""
    return len(task.classes) if getattr(task, "holds", "label") != "number" else 1
