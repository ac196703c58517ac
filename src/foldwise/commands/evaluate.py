"""`foldwise evaluate`: metrics on labelled rows that no fold has seen."""

from __future__ import annotations

from foldwise.commands.labelling import Models, NewTable, load_both, who_labels
from foldwise.commands.output import PLAIN, Output


def evaluate(models: Models, table: NewTable, tell: Output = PLAIN) -> None:
    """Score a run's answer on a labelled table and print the scores.

    Args:
        models: of a run.
        table: the rows, with the target column.
        tell: prints.

    Raises:
        FoldwiseError: bad input.
    """
    predictor, frame = load_both(models, table, labelled=True, tell=tell)
    from rich.table import Table

    from foldwise.evaluation.bootstrap import intervals
    from foldwise.preparation.rows import row_groups

    arrays = predictor.task.to_arrays(predictor.predict(frame))
    groups = row_groups(frame, predictor.config)
    seed = predictor.config.folds.seed
    scores = intervals(predictor.task.metrics(), *arrays, groups=groups, seed=seed)
    title = f"{models.run.name} on {frame.height} rows"
    shown = Table("metric", "value", "95% interval", title=title)
    for name, entry in scores.items():
        shown.add_row(name, f"{entry['value']:.3f}", f"[{entry['low']:.3f}, {entry['high']:.3f}]")
    tell.show(shown)
    first, entry = next(iter(scores.items()))
    tell.end(
        f"{first}: {entry['value']:.3f} on {frame.height} rows, by {who_labels(predictor)}",
        {
            "run": str(models.run),
            "data": table.path,
            "rows": frame.height,
            "model": predictor.model,
            "folds": list(predictor.folds),
            "members": list(predictor.chosen.voting),
            "scores": scores,
        },
    )
