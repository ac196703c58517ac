"""`foldwise evaluate`: metrics on labelled rows that no fold has seen."""

from __future__ import annotations

from pathlib import Path

from foldwise.commands.output import PLAIN, Output
from foldwise.commands.train import parse_folds
from foldwise.config.training import Precision
from foldwise.run.folder import RunFolder


def evaluate(
    run: Path,
    data: str,
    folds: str | None,
    trust_code: bool,
    delimiter: str | None = None,
    encoding: str | None = None,
    online: bool = False,
    precision: Precision | None = None,
    tell: Output = PLAIN,
) -> None:
    """Score the fold models' mean probability on a labelled table and print the scores.

    Args:
        run: the run folder.
        data: the table, as in data.path, with the target column.
        folds: comma-separated folds whose models vote; None for all.
        trust_code: run the Python files that lie in the run folder.
        delimiter: of the table, instead of data.delimiter.
        encoding: of the table, instead of data.encoding.
        online: ask the hub for what is needed.
        precision: float32 or bf16; None: the run's, where the device computes in it.
        tell: prints.

    Raises:
        FoldwiseError: bad input.
    """
    RunFolder(run).check_is_run()
    voting = None if folds is None else parse_folds(folds)
    # Imported only now: a wrong path is told in a blink, torch takes seconds.
    from rich.table import Table

    from foldwise.commands.quiet import quiet_libraries, stay_offline
    from foldwise.evaluation.bootstrap import intervals
    from foldwise.predictor import Predictor
    from foldwise.preparation.rows import row_groups

    stay_offline(online)
    quiet_libraries()
    predictor = Predictor(run, voting, trust_code=trust_code, online=online, precision=precision)
    frame = predictor.read(data, labelled=True, delimiter=delimiter, encoding=encoding)
    for note in predictor.notes:
        tell.note(note)
    arrays = predictor.task.to_arrays(predictor.predict(frame))
    groups = row_groups(frame, predictor.config)
    seed = predictor.config.folds.seed
    scores = intervals(predictor.task.metrics(), *arrays, groups=groups, seed=seed)
    table = Table("metric", "value", "95% interval", title=f"{run.name} on {frame.height} rows")
    for name, entry in scores.items():
        table.add_row(name, f"{entry['value']:.3f}", f"[{entry['low']:.3f}, {entry['high']:.3f}]")
    tell.show(table)
    first, entry = next(iter(scores.items()))
    tell.end(
        f"{first}: {entry['value']:.3f} on {frame.height} rows",
        {
            "run": str(run),
            "data": data,
            "rows": frame.height,
            "folds": list(predictor.folds),
            "scores": scores,
        },
    )
