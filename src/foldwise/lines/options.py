"""The arguments and options that several commands share, as Typer takes them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def here_at(named: object) -> Path:
    """Return a path on this disk, where it is no URL of a store."""
    from foldwise.errors import FoldwiseError
    from foldwise.storage.urls import is_url, local_path

    if is_url(str(named)):
        raise FoldwiseError(
            f"{named}: this has to lie on a disk: give a local path, and copy to or from the store"
        )
    return Path(local_path(str(named)))


def run_at(named: str) -> Path:
    """Return a run's folder; of one in a store its working copy."""
    from foldwise.storage.mirror import local_run

    return local_run(named)


def output_at(named: object) -> Path:
    """Return where an output is written; one for a store is sent from there once it is whole."""
    from foldwise.storage.outputs import output_path

    return output_path(str(named))


ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML config.", parser=here_at)]
RunPath = Annotated[
    Path, typer.Argument(metavar="RUN", help="Run folder, such as runs/demo.", parser=run_at)
]
RunPaths = Annotated[
    list[Path], typer.Argument(metavar="RUN...", help="Run folders.", parser=run_at)
]
RunNames = Annotated[list[str], typer.Argument(metavar="RUN...", help="Run folders.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Replace a value, such as training.epochs=3."),
]
FoldList = Annotated[
    str | None, typer.Option("--folds", metavar="1,2", help="Only these folds; all by default.")
]
TrustCode = Annotated[
    bool, typer.Option("--trust-code", help="Run the Python files that lie in the run folder.")
]
Delimiter = Annotated[
    str | None,
    typer.Option("--delimiter", metavar="CHAR", help="Between a CSV's cells, instead of found."),
]
Encoding = Annotated[
    str | None,
    typer.Option("--encoding", metavar="NAME", help="Of a text file, such as cp1252."),
]
Precision = Annotated[
    Literal["float32", "bf16", "fp16"] | None,
    typer.Option("--precision", help="Compute in this precision; in the run's by default."),
]
Member = Annotated[
    str | None,
    typer.Option("--member", metavar="NAME", help="One member alone, such as model or linear."),
]
Model = Annotated[
    str,
    typer.Option(
        "--model",
        metavar="NAME",
        help="all fold models, one of them (fold-2), or the one that stands for all: refit, "
        "distilled.",
    ),
]
Abstain = Annotated[
    float | None,
    typer.Option("--abstain", metavar="P", help="No prediction below this confidence."),
]
Costs = Annotated[
    str | None,
    typer.Option(
        "--costs",
        metavar="FILE",
        help="What each decision (a column) costs for each true class (a row): writes the "
        "decision of least expected cost.",
    ),
]
Sets = Annotated[
    float | None,
    typer.Option(
        "--sets",
        metavar="LEVEL",
        help="Write the labels (or the interval) that hold the truth of this share of new rows, "
        "such as 0.9.",
    ),
]
ByClass = Annotated[
    bool, typer.Option("--by-class", help="Hold the level of --sets in each class.")
]
Online = Annotated[
    bool, typer.Option("--online", help="Ask the hub for a backbone that isn't here.")
]
Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        metavar="N",
        min=1,
        help="How much at a time, each in a process; 1, with --on as many as there is room for.",
    ),
]
On = Annotated[
    str | None,
    typer.Option(
        "--on",
        metavar="ray[://ADDRESS]",
        help="Work on the machines of a Ray: ray (of this machine's own), ray://auto, "
        "ray://host:6379.",
    ),
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="Print only the last line; errors and warnings still come."),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="Print the result as one JSON object; all else goes to stderr."),
]
Page = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="PAGE.html", help="Write a page, too.", parser=output_at),
]
Export = Annotated[
    Path | None,
    typer.Option(
        "--onnx",
        metavar="FOLDER",
        help="What export made of the model: it labels, quicker.",
        parser=here_at,
    ),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        metavar="FILE",
        help="Holds the token that requests must bring; or the variable FOLDWISE_TOKEN does.",
        parser=here_at,
    ),
]
