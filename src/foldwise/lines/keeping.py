"""Commands that look at runs, compare and keep them, and fetch the data of a use case."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foldwise.commands.output import output
from foldwise.lines.options import (
    Json,
    Online,
    Quiet,
    RunNames,
    RunPath,
    RunPaths,
    TrustCode,
    here_at,
    output_at,
    run_at,
)

app = typer.Typer()
data_app = typer.Typer(help="Fetch and prepare the data of a use case.", no_args_is_help=True)
app.add_typer(data_app, name="data")


@app.command()
def report(
    run: RunPath,
    trust_code: TrustCode = False,
    online: Online = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Draw a finished run's report.html again."""
    from foldwise.commands.report import report as command

    tell = output(quiet, as_json)
    command(run, trust_code, online, tell=tell)


@app.command()
def compare(
    runs: RunPaths,
    metric: Annotated[
        str | None, typer.Option(help="Metric to compare by; what the first run selected by.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Write a page (.html) too, with the charts.", parser=output_at
        ),
    ] = None,
    trust_code: TrustCode = False,
    online: Online = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Say which of several runs on the same folds is best, and by how much."""
    from foldwise.commands.compare import compare as command

    tell = output(quiet, as_json)
    command(runs, metric, out, trust_code, online, tell=tell)


@app.command()
def verify(
    run: RunPath,
    seal: Annotated[
        bool,
        typer.Option("--seal", help="Accept the files as they lie, and seal the run anew first."),
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Check that every file of a run is as it was written."""
    from foldwise.commands.verify import verify as command

    command(run, seal, tell=output(quiet, as_json))


@app.command()
def status(
    runs: RunNames,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Say where runs stand, from files alone: done, running, stopped or failed, and how far."""
    from foldwise.commands.status import status as command

    command(runs, tell=output(quiet, as_json))


@app.command()
def clean(
    run: Annotated[
        Path | None,
        typer.Argument(metavar="[RUN]", help="Run folder, such as runs/demo.", parser=run_at),
    ] = None,
    cache: Annotated[
        bool,
        typer.Option("--cache", help="Of the copies here of runs and tables in stores, instead."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Remove it without asking.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """List what of a run can go and how much that frees, and remove it if you say so."""
    from foldwise.commands.clean import clean as command
    from foldwise.commands.clean import clean_cache
    from foldwise.errors import FoldwiseError

    if (run is None) != cache:
        raise FoldwiseError("clean: give a run's folder, or --cache, and not both")
    if run is None:
        clean_cache(yes, tell=output(quiet, as_json))
    else:
        command(run, yes, tell=output(quiet, as_json))


@app.command()
def schema() -> None:
    """Print the config's JSON Schema, for editors that complete and check."""
    from foldwise.config.reference import json_schema

    print(json_schema())


@data_app.command()
def cfpb(
    to: Annotated[
        Path, typer.Option(metavar="PATH", help="Folder for the tables.", parser=here_at)
    ] = Path("data"),
    archive: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="An archive downloaded by hand, instead of fetching it.",
            parser=here_at,
        ),
    ] = None,
    url: Annotated[str | None, typer.Option(help="Fetch from here instead.")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Fetch the CFPB Consumer Complaint Database and write its full, partial and debug tables."""
    from foldwise.commands.data import data_cfpb

    data_cfpb(to, archive, url, tell=output(quiet, as_json))
