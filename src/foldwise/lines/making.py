"""Commands that make a run: from a table to trained and scored folds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foldwise.commands.output import output
from foldwise.lines.options import (
    ConfigPath,
    Delimiter,
    Encoding,
    FoldList,
    Jobs,
    Json,
    On,
    Overrides,
    Precision,
    Quiet,
    RunPath,
    TrustCode,
    here_at,
    output_at,
)

app = typer.Typer()


@app.command()
def init(
    data: Annotated[str, typer.Argument(metavar="DATA", help="Table: .csv, .parquet, .jsonl.")],
    target: Annotated[str, typer.Option("--target", metavar="COL", help="Column to predict.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="PATH",
            help="Config to write (not overwritten).",
            parser=here_at,
        ),
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
        Path,
        typer.Option(
            "--out",
            "-o",
            help="Page to write (.html); one by eda is replaced.",
            parser=output_at,
        ),
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
def prepare(
    configs: Annotated[
        list[Path], typer.Argument(metavar="CONFIGS...", help="YAML configs, or folders of them.")
    ],
    overrides: Overrides = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Do ahead what needs no GPU: near-duplicates and tokens; train and sweep find them."""
    from foldwise.commands.prepare import prepare as command

    command(configs, overrides or [], tell=output(quiet, as_json))


@app.command()
def train(
    config: ConfigPath,
    overrides: Overrides = None,
    folds: FoldList = None,
    jobs: Jobs = None,
    on: On = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train and validate a model for each fold; continues an interrupted run."""
    from foldwise.commands.train import train as command
    from foldwise.places.where import Where

    command(config, overrides or [], folds, Where(on, jobs), tell=output(quiet, as_json))


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
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="PATH",
            help="Folder; RUN_DIR/NAME.lr-find by default.",
            parser=here_at,
        ),
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
        list[Path],
        typer.Argument(
            metavar="CONFIGS...", help="YAML configs, or folders of them.", parser=here_at
        ),
    ],
    overrides: Overrides = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would run.")] = False,
    jobs: Jobs = None,
    on: On = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run many configs, or the variants of a sweep section; finished ones are skipped."""
    from foldwise.commands.sweep import sweep as command
    from foldwise.places.where import Where

    command(configs, overrides or [], dry_run, Where(on, jobs), tell=output(quiet, as_json))


@app.command()
def tune(
    config: ConfigPath,
    overrides: Overrides = None,
    jobs: Jobs = None,
    on: On = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Search a sweep section's values with Optuna, giving up trials between folds."""
    from foldwise.commands.tune import tune as command
    from foldwise.places.where import Where

    command(config, overrides or [], Where(on, jobs), tell=output(quiet, as_json))
