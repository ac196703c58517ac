"""`foldwise predict`: labels and probabilities for new rows, of a table of any size."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from foldwise.commands.labelling import Labeller, Models, load_models, who_labels
from foldwise.commands.output import PLAIN, Output
from foldwise.decisions.asked import NOTHING, Asked
from foldwise.errors import FoldwiseError
from foldwise.places.where import HERE, Where
from foldwise.prediction.out import check_out
from foldwise.run.folder import RunFolder
from foldwise.run.seal import SEAL
from foldwise.storage.places import called
from foldwise.table.written import NewTable


@dataclass(frozen=True)
class Written:
    """What is written, and where.

    Attributes:
        out: a .parquet, .csv or .jsonl file that doesn't exist yet.
        raw: write cells to CSV as they are, those that a spreadsheet takes for formulas too.
        carry: comma-separated columns of the table to take along, `all` for every one; None: none.
    """

    out: Path
    raw: bool = False
    carry: str | None = None


def predict(
    models: Models,
    table: NewTable,
    written: Written,
    asked: Asked = NOTHING,
    where: Where = HERE,
    tell: Output = PLAIN,
) -> None:
    """Label a table's rows and write one line a row, in the table's order.

    Args:
        models: of a run.
        table: the rows.
        written: what is written, and where.
        asked: what is decided beyond naming labels.
        where: the models are; by default in this process.
        tell: prints.

    Raises:
        FoldwiseError: bad input, or `out` exists.
    """
    if where.jobs is not None and where.on is None:
        raise FoldwiseError("--jobs: here one process labels; --on ray has several do it")
    check_out(written.out)
    predictor = load_models(models)
    deciding = predictor.decide(asked) if asked.anything else None
    carry = [] if written.carry is None else written.carry.split(",")
    rows = predictor.open(table.path, carry, delimiter=table.delimiter, encoding=table.encoding)
    for note in rows.notes:
        tell.note(note)
    run = RunFolder(models.run)
    files = [path for path in (run.config, run.path / SEAL) if path.exists()]
    with (
        nullcontext()
        if where.on is None
        else where.holding(Labeller(models, asked), files, tell.note)
    ) as spread:
        done = predictor.predict_file(
            rows, written.out, raw=written.raw, console=tell.progress, spread=spread
        )
    for note in done.notes():
        tell.note(note)
    told = [] if deciding is None else deciding.told(done.rows - done.problems, done.abstained)
    scored = f"{done.rows - done.problems} of {done.rows}" if done.problems else str(done.rows)
    labelled = f"{scored} rows labelled by {who_labels(predictor)}: {called(written.out)}"
    tell.end(
        "\n".join([*told, labelled]),
        {
            "run": called(models.run),
            "rows": done.rows,
            "model": predictor.model,
            "folds": list(predictor.folds),
            "members": list(predictor.chosen.voting),
            "predictions": called(written.out),
            "problems": done.problems,
            "unseen": {
                name: {"rows": count, "share": count / done.rows}
                for name, count in done.unseen.items()
            },
            "absent": {
                name: {"rows": count, "share": count / done.rows}
                for name, count in done.absent.items()
            },
            "resumed": done.resumed,
            "decisions": told,
        },
    )
