"""`foldwise predict`: labels and probabilities for new rows."""

from __future__ import annotations

import os
from pathlib import Path

from foldwise.commands.output import PLAIN, Output
from foldwise.commands.train import parse_folds
from foldwise.config.training import Precision
from foldwise.errors import FoldwiseError
from foldwise.run.files import atomic
from foldwise.run.folder import RunFolder


def predict(
    run: Path,
    data: str,
    out: Path,
    folds: str | None,
    trust_code: bool,
    raw: bool = False,
    delimiter: str | None = None,
    encoding: str | None = None,
    online: bool = False,
    precision: Precision | None = None,
    tell: Output = PLAIN,
) -> None:
    """Label a table's rows and write one line a row, in the table's order.

    Args:
        run: the run folder.
        data: the table, as in data.path.
        out: a .parquet or .csv file that doesn't exist yet.
        folds: comma-separated folds whose models vote; None for all.
        trust_code: run the Python files that lie in the run folder.
        raw: write labels to CSV as they are, those that a spreadsheet takes for formulas too.
        delimiter: of the table, instead of data.delimiter.
        encoding: of the table, instead of data.encoding.
        online: ask the hub for what is needed.
        precision: float32 or bf16; None: the run's, where the device computes in it.
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
    RunFolder(run).check_is_run()
    voting = None if folds is None else parse_folds(folds)
    # Imported only now: a wrong path is told in a blink, torch takes seconds.
    import polars as pl

    from foldwise.commands.quiet import quiet_libraries, stay_offline
    from foldwise.predictor import Predictor
    from foldwise.table.formulas import without_formulas

    stay_offline(online)
    quiet_libraries()
    predictor = Predictor(run, voting, trust_code=trust_code, online=online, precision=precision)
    frame = predictor.read(data, labelled=False, delimiter=delimiter, encoding=encoding)
    for note in predictor.notes:
        tell.note(note)
    wanted = pl.col("row", "prediction"), pl.col("^prob_.*$")
    labels = predictor.predict(frame).select(wanted)
    with atomic(out) as temporary:
        if out.suffix == ".csv":
            (labels if raw else without_formulas(labels)).write_csv(temporary)
        else:
            labels.write_parquet(temporary)
    names = ", ".join(map(str, predictor.folds))
    tell.end(
        f"{labels.height} rows labelled by the models of fold {names}: {out}",
        {
            "run": str(run),
            "rows": labels.height,
            "folds": list(predictor.folds),
            "predictions": str(out),
        },
    )
