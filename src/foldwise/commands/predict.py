"""`foldwise predict`: labels and probabilities for new rows."""

from __future__ import annotations

import os
from pathlib import Path

from foldwise.commands.labelling import Models, NewTable, load_both, who_labels
from foldwise.commands.output import PLAIN, Output
from foldwise.errors import FoldwiseError
from foldwise.run.files import atomic


def predict(
    models: Models, table: NewTable, out: Path, raw: bool = False, tell: Output = PLAIN
) -> None:
    """Label a table's rows and write one line a row, in the table's order.

    Args:
        models: of a run.
        table: the rows.
        out: a .parquet or .csv file that doesn't exist yet.
        raw: write labels to CSV as they are, those that a spreadsheet takes for formulas too.
        tell: prints.

    Raises:
        FoldwiseError: bad input, or `out` exists.
    """
    if out.suffix not in (".parquet", ".csv"):
        raise FoldwiseError(f"-o {out}: the file's name must end in .parquet or .csv")
    if out.exists():
        raise FoldwiseError(f"-o {out}: is there already; choose another name or remove it")
    if not out.parent.is_dir():
        raise FoldwiseError(f"-o {out}: there is no folder {out.parent}")
    if not os.access(out.parent, os.W_OK | os.X_OK):
        raise FoldwiseError(f"-o {out}: {out.parent} can't be written to")
    predictor, frame = load_both(models, table, labelled=False, tell=tell)
    import polars as pl

    from foldwise.table.formulas import without_formulas

    wanted = pl.col("row", "prediction"), pl.col("^prob_.*$")
    labels = predictor.predict(frame).select(wanted)
    with atomic(out) as temporary:
        if out.suffix == ".csv":
            (labels if raw else without_formulas(labels)).write_csv(temporary)
        else:
            labels.write_parquet(temporary)
    tell.end(
        f"{labels.height} rows labelled by {who_labels(predictor)}: {out}",
        {
            "run": str(models.run),
            "rows": labels.height,
            "model": predictor.model,
            "folds": list(predictor.folds),
            "members": list(predictor.chosen.voting),
            "predictions": str(out),
        },
    )
