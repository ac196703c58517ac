"""Commands that put a finished run to work on other rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from foldwise.commands.output import output
from foldwise.lines.options import (
    Abstain,
    ByClass,
    Costs,
    Delimiter,
    Encoding,
    Export,
    FoldList,
    Jobs,
    Json,
    Member,
    Model,
    On,
    Online,
    Page,
    Precision,
    Quiet,
    RunPath,
    Sets,
    TokenFile,
    TrustCode,
    here_at,
    output_at,
)

app = typer.Typer()


@app.command()
def predict(
    run: RunPath,
    data: Annotated[str, typer.Argument(metavar="DATA", help="Table of new rows.")],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            help="Where to write: .parquet, .csv or .jsonl (not overwritten), or such a URL in a "
            "store. An interrupted call leaves what it has done; the same call goes on.",
            parser=output_at,
        ),
    ],
    folds: FoldList = None,
    carry: Annotated[
        str | None,
        typer.Option(
            "--carry", metavar="A,B", help="Columns of DATA to write too; `all` for every one."
        ),
    ] = None,
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
    model: Model = "all",
    abstain: Abstain = None,
    costs: Costs = None,
    sets: Sets = None,
    by_class: ByClass = False,
    jobs: Jobs = None,
    on: On = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Label new rows by the run's answer: its members, blended, fold by fold."""
    from foldwise.commands.labelling import Models
    from foldwise.commands.predict import Written
    from foldwise.commands.predict import predict as command
    from foldwise.decisions.asked import Asked
    from foldwise.places.where import Where
    from foldwise.table.written import NewTable

    models = Models(run, folds, trust_code, online, precision, member, model)
    table, written = NewTable(data, delimiter, encoding), Written(out, raw, carry)
    asked = Asked(abstain, costs, sets, by_class)
    command(models, table, written, asked, Where(on, jobs), tell=output(quiet, as_json))


@app.command()
def evaluate(
    run: RunPath,
    data: Annotated[str, typer.Argument(metavar="DATA", help="Table of labelled rows.")],
    out: Page = None,
    folds: FoldList = None,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    trust_code: TrustCode = False,
    online: Online = False,
    precision: Precision = None,
    member: Member = None,
    model: Model = "all",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Score the run's answer on labelled rows, and hold it against what was promised."""
    from foldwise.commands.evaluate import evaluate as command
    from foldwise.commands.labelling import Models
    from foldwise.table.written import NewTable

    models = Models(run, folds, trust_code, online, precision, member, model)
    command(models, NewTable(data, delimiter, encoding), out, tell=output(quiet, as_json))


@app.command()
def drift(
    run: RunPath,
    data: Annotated[str, typer.Argument(metavar="DATA", help="Table of new rows.")],
    out: Page = None,
    fail_above: Annotated[
        float | None,
        typer.Option(
            "--fail-above",
            metavar="SHARE",
            min=0.0,
            max=1.0,
            help="Exit with 1 if a clear difference is in more than this share of the rows.",
        ),
    ] = None,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    trust_code: TrustCode = False,
    online: Online = False,
    precision: Precision = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Compare new rows, which need no labels, with those that the run was made from."""
    from foldwise.commands.drift import drift as command
    from foldwise.commands.labelling import Models
    from foldwise.table.written import NewTable

    models = Models(run, None, trust_code, online, precision)
    table = NewTable(data, delimiter, encoding)
    command(models, table, out, fail_above, tell=output(quiet, as_json))


@app.command()
def refit(
    run: RunPath,
    every: Annotated[
        bool,
        typer.Option("--all", help="Train on the holdout too; then nothing is left to measure."),
    ] = False,
    trust_code: TrustCode = False,
    online: Online = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train one model for all folds on all their rows; predict --model refit uses it."""
    from foldwise.commands.refit import refit as command

    command(run, every, trust_code, online, tell=output(quiet, as_json))


@app.command()
def distill(
    run: RunPath,
    unlabelled: Annotated[
        str | None,
        typer.Option("--unlabelled", metavar="TABLE", help="More rows to teach the answer to."),
    ] = None,
    label_share: Annotated[
        float,
        typer.Option(
            "--label-share",
            min=0.0,
            max=1.0,
            help="How much a row's own label counts in what is taught; the rest is the answer.",
        ),
    ] = 0.5,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    trust_code: TrustCode = False,
    online: Online = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Teach one model the run's answer; predict --model distilled uses it."""
    from foldwise.commands.distill import distill as command
    from foldwise.table.written import NewTable

    more = None if unlabelled is None else NewTable(unlabelled, delimiter, encoding)
    command(run, more, label_share, trust_code, online, tell=output(quiet, as_json))


@app.command()
def export(
    run: RunPath,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="PATH",
            help="The folder to make (not overwritten).",
            parser=here_at,
        ),
    ],
    to: Annotated[
        Literal["onnx", "huggingface"],
        typer.Option("--to", help="A folder for onnxruntime, or one for transformers."),
    ] = "onnx",
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="NAME",
            help="distilled, refit, fold-1 (or another), or all for the folds' mean; by default "
            "the first of them that is there.",
        ),
    ] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="Matrix products in 8 bits: smaller, quicker, a bit off.")
    ] = False,
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="TABLE", help="Rows to check on, instead of the run's own."),
    ] = None,
    push: Annotated[
        str | None,
        typer.Option("--push", metavar="OWNER/NAME", help="Upload the folder to the hub, too."),
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="For all to see; by default only you do.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what --push would upload; send nothing.")
    ] = False,
    trust_code: TrustCode = False,
    online: Online = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write the fine-tuned model as a folder that works without Foldwise, and check it."""
    from foldwise.commands.export import Push, Wanted
    from foldwise.commands.export import export as command
    from foldwise.errors import FoldwiseError

    if push is None and (public or dry_run):
        raise FoldwiseError("--public and --dry-run belong to --push OWNER/NAME")
    wanted = Wanted(run, to, out, model, int8, data, trust_code, online)
    to_hub = None if push is None else Push(push, public, dry_run)
    command(wanted, to_hub, tell=output(quiet, as_json))


@app.command()
def serve(
    run: RunPath,
    host: Annotated[
        str,
        typer.Option(
            "--host", help="Address to listen on; others than this machine's own need a token."
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")
    ] = 8000,
    token_file: TokenFile = None,
    host_name: Annotated[
        list[str] | None,
        typer.Option("--host-name", metavar="NAME", help="Another name the server is called by."),
    ] = None,
    max_rows: Annotated[
        int, typer.Option("--max-rows", min=1, max=100_000, help="Of a request.")
    ] = 100,
    max_chars: Annotated[
        int, typer.Option("--max-chars", min=1, help="Characters of a text.")
    ] = 200_000,
    max_body: Annotated[
        float, typer.Option("--max-body", min=0.001, max=1024, help="MiB of a request.")
    ] = 2.0,
    queue: Annotated[
        int, typer.Option("--queue", min=1, help="Rows that may wait; then it answers 429.")
    ] = 1000,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.1, max=3600, help="Seconds until an answer.")
    ] = 30.0,
    explain_timeout: Annotated[
        float,
        typer.Option("--explain-timeout", min=0.1, max=3600, help="Seconds until an explanation."),
    ] = 120.0,
    batch_rows: Annotated[
        int, typer.Option("--batch-rows", min=1, max=100_000, help="Labelled together.")
    ] = 64,
    batch_wait: Annotated[
        float,
        typer.Option("--batch-wait", min=0, max=1000, help="Milliseconds to wait for company."),
    ] = 2.0,
    folds: FoldList = None,
    trust_code: TrustCode = False,
    online: Online = False,
    precision: Precision = None,
    member: Member = None,
    model: Model = "all",
    onnx: Export = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Answer rows by HTTP, with a page to try the model, until it is stopped."""
    from foldwise.commands.labelling import Models
    from foldwise.commands.serve import Bounds, Place
    from foldwise.commands.serve import serve as command

    models = Models(run, folds, trust_code, online, precision, member, model)
    place = Place(host, port, tuple(host_name or ()), token_file)
    times = (timeout, explain_timeout)
    bounds = Bounds(max_rows, max_chars, max_body, queue, *times, batch_rows, batch_wait)
    command(models, place, bounds, onnx, tell=output(quiet, as_json))


@app.command()
def explain(
    run: RunPath,
    data: Annotated[str, typer.Argument(metavar="DATA", help="Table of rows, labelled or not.")],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="PAGE",
            help="The page to write, an .html file.",
            parser=output_at,
        ),
    ] = Path("explain.html"),
    rows: Annotated[
        str | None,
        typer.Option("--rows", metavar="0,5,17", help="These rows, numbered from 0."),
    ] = None,
    most_unsure: Annotated[
        int | None,
        typer.Option(
            "--most-unsure", metavar="N", min=1, max=1000, help="The N least sure answers."
        ),
    ] = None,
    first: Annotated[
        int,
        typer.Option("--first", metavar="N", min=1, max=1000, help="Else the first N rows."),
    ] = 20,
    numbers: Annotated[
        Path | None,
        typer.Option(
            "--numbers",
            metavar="FILE",
            help="Write the numbers too: .parquet.",
            parser=output_at,
        ),
    ] = None,
    labelled: Annotated[
        bool,
        typer.Option(
            "--labelled", help="Read the target too, and say what each column is worth to a score."
        ),
    ] = False,
    folds: FoldList = None,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    trust_code: TrustCode = False,
    online: Online = False,
    precision: Precision = None,
    member: Member = None,
    model: Model = "all",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Show which words, columns and members drove the answers to rows, on one page."""
    from foldwise.commands.explain import Which
    from foldwise.commands.explain import explain as command
    from foldwise.commands.labelling import Models
    from foldwise.table.written import NewTable

    models = Models(run, folds, trust_code, online, precision, member, model)
    which = Which(rows, most_unsure, first)
    table = NewTable(data, delimiter, encoding)
    command(models, table, which, out, numbers, labelled, tell=output(quiet, as_json))
