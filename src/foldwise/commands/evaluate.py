"""`foldwise evaluate`: the whole report on labelled rows that no fold has seen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from foldwise.commands.labelling import Models, load_both, who_labels
from foldwise.commands.output import PLAIN, Output
from foldwise.storage.places import called
from foldwise.table.written import NewTable

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from rich.table import Table

    from foldwise.evaluation.new_rows import Evaluation
    from foldwise.predictor import Predictor
    from foldwise.report.source import Judged


def evaluate(
    models: Models, table: NewTable, out: Path | None = None, tell: Output = PLAIN
) -> None:
    """Score a run's answer on a labelled table, and say whether cross-validation's promise held.

    Args:
        models: of a run.
        table: the rows, with the target column.
        out: an .html page to write, or None.
        tell: prints.

    Raises:
        FoldwiseError: bad input, or `out` isn't ours to replace.
    """
    if out is not None:
        from foldwise.report.evaluate_page import MAKER
        from foldwise.report.page import check_page

        check_page(out, MAKER)
    predictor, frame = load_both(models, table, labelled=True, tell=tell)
    from rich.text import Text

    from foldwise.evaluation.new_rows import evaluate_rows
    from foldwise.preparation.rows import row_groups

    labels = predictor.predict(frame)
    groups = row_groups(frame, predictor.config)
    found = evaluate_rows(
        labels, groups, predictor.run, predictor.config, predictor.task, member=models.member
    )
    tell.show(_shown(found, models.run.name), Text(found.told))
    for note in found.notes:
        tell.note(note)
    if out is not None:
        from foldwise.report.evaluate_page import evaluate_page
        from foldwise.report.page import write_page

        judged = _judged(predictor, frame, labels, groups)
        write_page(out, evaluate_page(found, judged, table.path, who_labels(predictor)))
        tell.say(f"page: {called(out)}")
    score = found.scores[found.judged]["value"]
    tell.end(
        f"{found.judged}: {score:.3f} on {found.rows} rows, by {who_labels(predictor)}",
        {
            "run": called(models.run),
            "data": table.path,
            "rows": found.rows,
            "model": predictor.model,
            "folds": list(predictor.folds),
            "members": list(predictor.chosen.voting),
            "scores": found.scores,
            "promised": None if found.promise is None else found.promise.as_json(),
            "promised_each": [each.as_json() for each in found.promises],
            "unknown_labels": found.unknown,
            "told": found.told,
            "page": out and called(out),
        },
    )


def _shown(found: Evaluation, name: str) -> Table:
    from rich.table import Table

    promised = {each.metric: f"{each.low:.3f} to {each.high:.3f}" for each in found.promises}
    more = ["promised"] if promised else []
    shown = Table("metric", "value", "95% interval", *more, title=f"{name} on {found.rows} rows")
    for metric, entry in found.scores.items():
        ends = f"[{entry['low']:.3f}, {entry['high']:.3f}]"
        beside = [promised[metric]] if promised else []
        shown.add_row(metric, f"{entry['value']:.3f}", ends, *beside)
    return shown


def _judged(
    predictor: Predictor, frame: pl.DataFrame, labels: pl.DataFrame, groups: np.ndarray
) -> Judged:
    from foldwise.report.source import Judged, lengths_of

    task = predictor.task
    lengths, bounded = lengths_of(task.dataset(frame))
    arrays = task.to_arrays(labels)
    where = "on the new rows"
    return Judged(predictor.config, task, labels, arrays, groups, where, frame, lengths, bounded)
