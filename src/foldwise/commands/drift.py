"""`foldwise drift`: whether new rows are like those that a run was made from."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from foldwise.commands.labelling import Models
from foldwise.commands.output import PLAIN, Output
from foldwise.commands.quiet import begin
from foldwise.storage.places import called
from foldwise.table.written import NewTable

if TYPE_CHECKING:
    import polars as pl
    from rich.table import Table

    from foldwise.drift.look import Drift
    from foldwise.predictor import Predictor

_SHOWN = 10  # comparisons that the terminal lists


def drift(
    models: Models,
    table: NewTable,
    out: Path | None = None,
    fail_above: float | None = None,
    tell: Output = PLAIN,
) -> None:
    """Print in what new rows differ from training rows, the worst first.

    Args:
        models: of a run.
        table: the rows; no labels are read.
        out: an .html page to write, or None.
        fail_above: exit with 1 where a clear difference is in more than this share of the rows.
        tell: prints.

    Raises:
        FoldwiseError: bad input, or `out` isn't ours to replace.
    """
    if out is not None:
        from foldwise.report.drift_page import MAKER
        from foldwise.report.page import check_page

        check_page(out, MAKER)
    begin(models.run, online=models.online)
    from foldwise.drift.words import as_json, headline, remarks

    found = _look(models, table, tell)
    tell.show(_shown(found, models.run.name))
    for line in remarks(found):
        tell.note(line)
    if out is not None:
        from foldwise.report.drift_page import drift_page
        from foldwise.report.page import write_page

        write_page(out, drift_page(found, models.run.name, table.path))
        tell.say(f"page: {called(out)}")
    failed = fail_above is not None and found.size > fail_above
    about = {"run": called(models.run), "data": table.path, "page": out and called(out)}
    tell.end(headline(found), {**about, **as_json(found)})
    if failed:
        sys.exit(1)


def _look(models: Models, table: NewTable, tell: Output) -> Drift:
    from foldwise.drift.look import find_drift
    from foldwise.drift.sides import read_new, set_against, training_rows
    from foldwise.drift.stored import compare_stored
    from foldwise.evaluation.estimate import out_of_fold_once

    first = _fold(models, None)
    config, task = first.config, first.task
    opened = first.open(table.path, delimiter=table.delimiter, encoding=table.encoding)
    for note in opened.notes:
        tell.note(note)
    new = read_new(opened, config.folds.seed)
    training = training_rows(config, first.code, first.run, task, online=models.online)
    sides = set_against(training, new, config)
    estimate = out_of_fold_once(first.run, task, sides.training)
    answered = None
    if estimate is not None and sides.new.height:
        answered = _as_scored(models, sides.new, sorted(estimate["fold"].unique().to_list()))
    alone = sides.training is None and first.run.finished
    stored = compare_stored(first.run, sides.new) if alone else []
    return find_drift(sides, answered, estimate, config, task, stored)


def _as_scored(models: Models, rows: pl.DataFrame, folds: list[int]) -> pl.DataFrame:
    """Answer rows as out-of-fold rows are: each by one fold, whose turn it is.

    The mean of the folds is less sure, or surer, than any of them.
    """
    import polars as pl

    turn = pl.int_range(pl.len()) % len(folds)
    parts = ((number, rows.filter(turn == place)) for place, number in enumerate(folds))
    return pl.concat(_fold(models, number).predict(part) for number, part in parts if part.height)


def _fold(models: Models, number: int | None) -> Predictor:
    from foldwise.predictor import Predictor
    from foldwise.run.folder import RunFolder
    from foldwise.run.seal import trained_folds

    run = RunFolder(models.run)
    return Predictor(
        models.run,
        trained_folds(run)[:1] if number is None else [number],
        trust_code=models.trust_code,
        online=models.online,
        precision=models.precision,
        as_scored=run.finished and number is not None,
    )


def _shown(found: Drift, name: str) -> Table:
    from rich.table import Table
    from rich.text import Text

    from foldwise.drift.words import sentence, verdict

    shown = Table("differs", "in rows", "what", title=f"{name}: new rows against training rows")
    for check in found.checks[:_SHOWN]:
        shown.add_row(verdict(check), f"{check.size:.0%}", Text(sentence(check)))
    if len(found.checks) > _SHOWN:
        shown.caption = f"and {len(found.checks) - _SHOWN} more comparisons"
    return shown
