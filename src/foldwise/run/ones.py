"""The one model for all folds, on disk: whether it can label, and what it came to on the holdout.

What it came to stands beside the folds' answer to the same rows, so it holds for one holdout table
of the run. `foldwise validate` may write another: then it is out of date, and measured again by the
command that made the model.
"""

from __future__ import annotations

from typing import Any, Literal

from foldwise.run.contents import Asked, Measured
from foldwise.run.folder import DISTILLED, FoldFolder, RunFolder
from foldwise.run.readers import read_json
from foldwise.run.seal import check, read_seal


def first_stage(folder: FoldFolder) -> Literal["trained", "fitted"] | None:
    """Return the stage that its seal begins with.

    Args:
        folder: of a fold, or of the one model for all.

    Returns:
        "trained", of one whose answer a fine-tuned model has a vote in; "fitted", of other members
        alone; None of neither yet.
    """
    stages = read_seal(folder.path)
    if "trained" in stages and folder.trained.exists():
        return "trained"
    return "fitted" if "fitted" in stages else None


def is_fitted(one: FoldFolder) -> bool:
    """Whether all that it labels by is trained and fitted."""
    whole = one.path.name == DISTILLED or "members" in read_seal(one.path)
    return whole and first_stage(one) is not None


def is_measurable(one: FoldFolder) -> bool:
    """Whether its run has a holdout that it hasn't trained on."""
    return one.run.holdout.exists() and not read_json(one.asked, Asked).get("all", False)


def is_made(one: FoldFolder) -> bool:
    """Whether it is fitted, and measured where it can be; maybe beside an earlier answer."""
    return is_fitted(one) and (one.measured.exists() or not is_measurable(one))


def read_measured(one: FoldFolder) -> dict[str, Any] | None:
    """Read what it comes to on the holdout.

    Returns:
        None where it isn't measured, or beside another table than the run's holdout.parquet.

    Raises:
        FoldwiseError: the file isn't as it was sealed.
    """
    if not one.measured.exists():
        return None
    check(one.path, "measured", only=[one.measured.name])
    found = dict(read_json(one.measured, Measured))
    return found if found.get("beside") == holdout_sha256(one.run) else None


def holdout_sha256(run: RunFolder) -> str | None:
    """Return the SHA-256 of a finished run's holdout.parquet, as it was sealed."""
    entry = read_seal(run.path).get("finished", {}).get(run.holdout.name)
    return None if entry is None else str(entry["sha256"])
