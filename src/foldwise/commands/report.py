"""`foldwise report`: a finished run's report, drawn again from its files."""

from __future__ import annotations

from pathlib import Path

from foldwise.errors import FoldwiseError
from foldwise.run.files import read_json
from foldwise.run.folder import RunFolder


def report(path: Path, trust_code: bool) -> None:
    """Draw report.html and print where it lies.

    Without its table, or with another one than the run was made from, the report shows no texts
    and no scores by column, and says why.

    Args:
        path: the run folder.
        trust_code: run the Python files in it.

    Raises:
        FoldwiseError: not a finished run, or code that isn't trusted.
    """
    run = RunFolder(path.resolve())  # "." has its token stores beside it too
    run.check_is_run()
    if not run.finished:
        raise FoldwiseError(f"{path}: not finished (it has no metrics.json); train it to the end")
    # Imported only now: a wrong path is told in a blink, torch takes seconds.
    import polars as pl

    from foldwise.commands.quiet import quiet_libraries
    from foldwise.preparation.build import build_task, open_run
    from foldwise.preparation.prepare import encode_rows, prepare
    from foldwise.preparation.provenance import check_continues
    from foldwise.report.run_report import write_report
    from foldwise.report.source import Source, source_of
    from foldwise.split.assignment import read_assignment

    quiet_libraries()
    config, code = open_run(run, trust_code=trust_code)
    task = build_task(config, code, run=run, stores=run.token_stores)
    try:
        prepared = prepare(config, code, run, task)
        check_continues(prepared)
        source = source_of(encode_rows(prepared))
    except FoldwiseError as error:
        task.load_state({"target": read_json(run.classes), "rows": {}})
        assignment = read_assignment(pl.read_parquet(run.folds))
        source = Source(run, config, task, assignment, None, None, str(error))
    write_report(source)
    print(f"report: {run.report}")
