"""The command line: parse, call one command, print. Imports no torch."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from foldwise.commands.options import (
    ConfigPath,
    Delimiter,
    Encoding,
    FoldList,
    Json,
    Member,
    Online,
    Overrides,
    Precision,
    Quiet,
    RunPath,
    TrustCode,
)
from foldwise.commands.output import output

EXIT_CODES = (
    "Exit codes: 0 done; 1 stopped, the same command goes on; 2 bad input, nothing lost; "
    "128 + n ended by signal n."
)

app = typer.Typer(
    name="foldwise",
    help="Cross-validated fine-tuning of language models on tables, from one YAML config.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Fetch and prepare the data of a use case.", no_args_is_help=True)
app.add_typer(data_app, name="data")


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"foldwise {version('foldwise')}")
        raise typer.Exit


@app.callback()
def foldwise(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print it and exit."),
    ] = False,
) -> None:
    """Cross-validated fine-tuning of language models on tables, from one YAML config."""


@app.command()
def init(
    data: Annotated[str, typer.Argument(metavar="DATA", help="Table: .csv, .parquet, .jsonl.")],
    target: Annotated[str, typer.Option("--target", metavar="COL", help="Column to predict.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Config to write (not overwritten).")
    ] = None,
    code: Annotated[
        bool, typer.Option("--code", help="Write my_parts.py too, with a pooling of your own.")
    ] = False,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write a starter config by looking at a table."""
    from foldwise.commands.init import init as command

    command(data, target, out, code, delimiter, encoding, tell=output(quiet, as_json))


@app.command()
def eda(
    config: ConfigPath,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Page to write (.html); one by eda is replaced.")
    ] = Path("eda.html"),
    overrides: Overrides = None,
    write_subsets: Annotated[
        bool,
        typer.Option(
            "--write-subsets",
            help="Also write full, partial (1,000 a class) and debug (5 a class) tables.",
        ),
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Look at the table: columns, target, lengths, duplicates, leaks, and what to change."""
    from foldwise.commands.eda import eda as command

    command(config, out, overrides or [], write_subsets, tell=output(quiet, as_json))


@app.command()
def train(
    config: ConfigPath,
    overrides: Overrides = None,
    folds: FoldList = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train and validate a model for each fold; continues an interrupted run."""
    from foldwise.commands.train import train as command

    command(config, overrides or [], folds, tell=output(quiet, as_json))


@app.command()
def validate(
    run: RunPath,
    trust_code: TrustCode = False,
    online: Annotated[
        bool,
        typer.Option("--online", help="Ask the hub for a backbone, and tell the run's trackers."),
    ] = False,
    precision: Precision = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Score every fold again from its checkpoint on disk."""
    from foldwise.commands.validate import validate as command

    tell = output(quiet, as_json)
    command(run, trust_code, online, precision, tell=tell)


@app.command()
def predict(
    run: RunPath,
    data: Annotated[str, typer.Argument(metavar="DATA", help="Table of new rows.")],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="Where to write: .parquet or .csv (not overwritten)."),
    ],
    folds: FoldList = None,
    raw: Annotated[
        bool,
        typer.Option(
            "--raw", help="Leave cells that a spreadsheet takes for formulas as they are."
        ),
    ] = False,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    trust_code: TrustCode = False,
    online: Online = False,
    precision: Precision = None,
    member: Member = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Label new rows by the run's answer: its members, blended, fold by fold."""
    from foldwise.commands.labelling import Models, NewTable
    from foldwise.commands.predict import predict as command

    models = Models(run, folds, trust_code, online, precision, member)
    command(models, NewTable(data, delimiter, encoding), out, raw, tell=output(quiet, as_json))


@app.command()
def evaluate(
    run: RunPath,
    data: Annotated[str, typer.Argument(metavar="DATA", help="Table of labelled rows.")],
    folds: FoldList = None,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    trust_code: TrustCode = False,
    online: Online = False,
    precision: Precision = None,
    member: Member = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Score the run's answer on labelled rows."""
    from foldwise.commands.evaluate import evaluate as command
    from foldwise.commands.labelling import Models, NewTable

    models = Models(run, folds, trust_code, online, precision, member)
    command(models, NewTable(data, delimiter, encoding), tell=output(quiet, as_json))


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


@app.command("lr-find")
def lr_find(
    config: ConfigPath,
    overrides: Overrides = None,
    fold: Annotated[int, typer.Option(help="Whose training rows are used.")] = 1,
    lowest: Annotated[
        float | None, typer.Option("--from", help="First rate; a quarter of the usual.")
    ] = None,
    highest: Annotated[
        float | None, typer.Option("--to", help="Last rate; 40 times the usual (lr: auto).")
    ] = None,
    steps: Annotated[int, typer.Option(help="Optimizer steps of the test.")] = 22,
    linear: Annotated[bool, typer.Option(help="Equal amounts instead of equal factors.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder; RUN_DIR/NAME.lr-find by default.")
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Find a learning rate: train briefly with rising rates and draw the loss."""
    from foldwise.commands.lr_find import Rates
    from foldwise.commands.lr_find import lr_find as command

    rates = Rates(lowest, highest, steps, linear)
    command(config, overrides or [], fold, rates, out, tell=output(quiet, as_json))


@app.command()
def sweep(
    configs: Annotated[
        list[Path], typer.Argument(metavar="CONFIGS...", help="YAML configs, or folders of them.")
    ],
    overrides: Overrides = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would run.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run many configs, or the variants of a sweep section; finished ones are skipped."""
    from foldwise.commands.sweep import sweep as command

    command(configs, overrides or [], dry_run, tell=output(quiet, as_json))


@app.command()
def tune(
    config: ConfigPath,
    overrides: Overrides = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Search a sweep section's values with Optuna, giving up trials between folds."""
    from foldwise.commands.tune import tune as command

    command(config, overrides or [], tell=output(quiet, as_json))


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUNS...", help="Finished run folders.")],
    metric: Annotated[
        str | None, typer.Option(help="Metric to compare by; what the first run selected by.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write a page (.html) too, with the charts.")
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
def status(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.")],
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Say where runs stand, from disk alone: done, running, stopped or failed, and how far."""
    from foldwise.commands.status import status as command

    command(runs, tell=output(quiet, as_json))


@app.command()
def clean(
    run: RunPath,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Remove it without asking.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """List what of a run can go and how much that frees, and remove it if you say so."""
    from foldwise.commands.clean import clean as command

    command(run, yes, tell=output(quiet, as_json))


@app.command()
def schema() -> None:
    """Print the config's JSON Schema, for editors that complete and check."""
    from foldwise.config.reference import json_schema

    print(json_schema())


@data_app.command()
def cfpb(
    to: Annotated[Path, typer.Option(help="Folder for the tables.")] = Path("data"),
    archive: Annotated[
        Path | None, typer.Option(help="An archive downloaded by hand, instead of fetching it.")
    ] = None,
    url: Annotated[str | None, typer.Option(help="Fetch from here instead.")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Fetch the CFPB Consumer Complaint Database and write its full, partial and debug tables."""
    from foldwise.commands.data import data_cfpb

    data_cfpb(to, archive, url, tell=output(quiet, as_json))


def main() -> None:
    """Run the command line; problems with the input end in one message and exit code 2."""
    from foldwise.errors import FoldwiseError, RunInterrupted
    from foldwise.run.space import is_broken, is_full, no_space

    # A terminated run dies of its signal: the last checkpoint stands, the same command goes on.
    signal.signal(signal.SIGTERM, _stopped)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a background job ignores it
        signal.signal(signal.SIGINT, _stopped)
    try:
        app()
    except FoldwiseError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except RunInterrupted as error:
        print(f"stopped: {error}", file=sys.stderr)
        sys.exit(1)
    except SystemExit as end:
        if end.code == 128 + signal.SIGINT:  # what Typer makes of Ctrl-C
            print("stopped: give the same command again to go on", file=sys.stderr)
        raise
    except Exception as error:
        if is_broken(error):
            told = f"the disk fails ({error}); once it works, give the same command again"
            print(f"stopped: {told}", file=sys.stderr)
            sys.exit(1)
        if not is_full(error):
            raise
        # Of a file that a library writes: our own are a RunInterrupted by now.
        named = getattr(error, "filename", None)
        told = no_space(Path(named)) if named else f"{error}; free some and give the command again"
        print(f"stopped: {told}", file=sys.stderr)
        sys.exit(1)


def _stopped(number: int, frame: object) -> None:
    # The second one ends the process at once, wherever it is: any moment is safe to die at.
    signal.signal(number, signal.SIG_DFL)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
