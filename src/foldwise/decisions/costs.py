"""Decisions by what they cost: probabilities in, the decision of least expected cost out.

A matrix says what each decision costs for a row of each true class. A decision can be a class, to
leave the row to a person (`abstain`), or whatever else is done with a row. To abstain at a cost c
where a mistake costs 1 is to abstain below the confidence 1 - c (Chow 1970).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foldwise.decisions.temperature import Floats
from foldwise.errors import FoldwiseError
from foldwise.table.cells import parse_numbers
from foldwise.table.formats import find_files, read_file, read_names


@dataclass(frozen=True)
class Costs:
    """What decisions cost.

    Attributes:
        decisions: their names.
        matrix: (classes, decisions), of a row of each true class.
    """

    decisions: tuple[str, ...]
    matrix: Floats

    def cheapest(self, probabilities: Floats) -> tuple[NDArray[np.int64], Floats]:
        """Return the decision of least expected cost of each row, and that cost.

        Args:
            probabilities: (n, classes), calibrated.

        Returns:
            (n,) numbers of decisions, the first of equals; (n,).
        """
        expected = probabilities @ self.matrix
        found = expected.argmin(axis=1)
        return found, expected[np.arange(len(found)), found]

    def paid(self, chosen: NDArray[np.int64], target: NDArray[np.int64]) -> Floats:
        """Return what decisions cost where the true class is known, (n,)."""
        cost: Floats = self.matrix[target, chosen]
        return cost


def read_costs(path: str, classes: Sequence[str]) -> Costs:
    """Read a table of costs: a row for each true class, a column for each decision.

    Args:
        path: the first column names the true class, the others' headers the decisions.
        classes: of the run; each has one row.

    Raises:
        FoldwiseError: it can't be read, a class is absent, unknown or there twice, or a cost isn't
            a finite number.
    """
    file = find_files(path)[0]
    names, _ = read_names(file)
    if len(names) < 2:
        raise FoldwiseError(
            f"{file}: needs a column of true classes and one for each decision; it has only "
            f"{names[0]!r}"
        )
    if twice := [name for i, name in enumerate(names) if name in names[:i]]:
        raise FoldwiseError(f"{file}: two columns have the name {twice[0]!r}")
    frame = read_file(file, names, 0)
    true = [(cell or "").strip() for cell in frame[names[0]].to_list()]
    for wrong, what in (
        ([name for name in true if name not in classes], "is no class of the run"),
        ([name for i, name in enumerate(true) if name in true[:i]], "has two rows"),
        ([name for name in classes if name not in true], "has no row"),
    ):
        if wrong:
            raise FoldwiseError(
                f"{file}: column {names[0]!r}: {wrong[0]!r} {what}; the classes are: "
                f"{', '.join(classes)}"
            )
    columns = []
    for name in names[1:]:
        costs, bad = parse_numbers(frame[name])
        if (bad | costs.is_null()).any():
            at = true[int((bad | costs.is_null()).arg_true()[0])]
            raise FoldwiseError(
                f"{file}: column {name!r}: the cost for {at!r} isn't a finite number; write 0 "
                "where there is none"
            )
        columns.append(costs.to_numpy())
    order = [true.index(name) for name in classes]
    return Costs(tuple(names[1:]), np.stack(columns, axis=1)[order].astype(np.float64))
