"""What a line of the output says: a label, how sure it is, and why there is none.

In: what labelled a chunk's rows, and why some of them can't be scored. Out: a frame with a line for
every row: row, prediction, confidence, prob_*, what was added, problem, what is carried along.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from foldwise.errors import FoldwiseError
from foldwise.table.reading import ROW

PREDICTION, CONFIDENCE, PROBLEM = "prediction", "confidence", "problem"
NOT_FINITE = "the model's numbers for this row aren't finite"


def not_finite(labelled: pl.DataFrame) -> dict[int, str]:
    """Say by row which of a model's numbers aren't finite."""
    numbers = labelled.select(pl.col(pl.Float64, pl.Float32)).drop("target", strict=False)
    shown = [name for name in numbers.columns if not name.startswith("logit_")]
    odd = numbers.select(pl.any_horizontal(~pl.col(shown).is_finite().fill_null(False)))
    return dict.fromkeys(labelled.filter(odd.to_series())[ROW].to_list(), NOT_FINITE)


def lines(
    labelled: pl.DataFrame, row: pl.Series, problems: Mapping[int, str], carried: pl.DataFrame
) -> pl.DataFrame:
    """Return a line for every row, in their order.

    Args:
        labelled: the rows that could be scored, with `row`; logit_* aren't written.
        row: the numbers of all rows.
        problems: by row, why it couldn't.
        carried: columns of the input, of all rows.

    Raises:
        FoldwiseError: a carried column is called what one of these is.
    """
    told = [problems.get(number) for number in row.to_list()]
    scored = labelled.drop(pl.selectors.starts_with("logit_"), "target", strict=False)
    made = row.to_frame(ROW).join(scored, on=ROW, how="left", maintain_order="left")
    made = made.with_columns(pl.Series(PROBLEM, told, dtype=pl.String))
    check_names(carried.columns, made.columns)
    return made.hstack(carried.get_columns())


def check_names(carried: Sequence[str], made: Sequence[str]) -> None:
    """Refuse to carry a column along under a name that is written anyway."""
    if both := [name for name in carried if name in made]:
        others = ",".join(name for name in carried if name not in made) or "id"
        raise FoldwiseError(
            f"--carry: the table's column {both[0]!r} has the name of a column that is written: "
            f"rename it in the table, or name the columns without it, as in --carry {others[:200]}"
        )
