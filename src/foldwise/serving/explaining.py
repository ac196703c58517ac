"""Why a row was labelled so, as JSON: what `foldwise explain` says of a table of that one row.

In: a predictor. Out: what explains a row by it, piece by piece, so that whoever owns the models can
label others' rows in between.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import polars as pl

from foldwise.explanation.effort import QUICK
from foldwise.explanation.explain import check_explains, explain_row
from foldwise.predictor import Predictor

# (one row, what is called between two pieces of the work and ends it by raising) -> JSON values
Explain = Callable[[pl.DataFrame, Callable[[], object]], dict[str, Any]]

METHOD = {
    "words": "what each adds to the answer's margin over the other classes: of the fine-tuned "
    "model by integrated gradients, of every other member what its margin loses without the word; "
    "each counts by its weight",
    "columns": "the answer, less the answer with that cell empty",
    "members": "a member's margin, times its weight",
}
_OF_A_TABLE = ("row", "target", "removal", "by_columns")  # one row has none


def explains_by(predictor: Predictor) -> Explain:
    """Return what explains rows as `foldwise explain` does, but for the check of the words.

    Raises:
        FoldwiseError: captum isn't installed, or the run's task has nothing that could be
            explained.
    """
    check_explains(predictor)

    def explain(row: pl.DataFrame, between: Callable[[], object]) -> dict[str, Any]:
        effort = replace(QUICK, between=between)
        entries = [
            each.as_json() for each in explain_row(predictor, row.to_dicts()[0], None, effort)
        ]
        for entry in entries:
            for name in _OF_A_TABLE:
                del entry[name]
        found: dict[str, Any] = _finite({"explanations": entries, "method": METHOD})
        return found

    return explain


def _finite(content: Any) -> Any:
    # JSON has no word for what isn't finite.
    if isinstance(content, dict):
        return {name: _finite(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
