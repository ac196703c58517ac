"""`foldwise explain`: which words, columns and members drove the answers to rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from foldwise.commands.labelling import Models, load_both, who_labels
from foldwise.commands.output import PLAIN, Output
from foldwise.errors import FoldwiseError
from foldwise.storage.outputs import check_new, send
from foldwise.storage.places import called
from foldwise.table.written import NewTable

if TYPE_CHECKING:
    import polars as pl

    from foldwise.explanation.explained import Explanation
    from foldwise.predictor import Predictor

MOST = 1_000  # rows of a page


@dataclass(frozen=True)
class Which:
    """The rows to explain.

    Attributes:
        rows: comma-separated numbers; None for others.
        most_unsure: so many whose answer is least sure; None for the first ones.
        first: so many from the start, where neither of the others is given.
    """

    rows: str | None = None
    most_unsure: int | None = None
    first: int = 20


def explain(
    models: Models,
    table: NewTable,
    which: Which,
    out: Path,
    numbers: Path | None,
    labelled: bool = False,
    tell: Output = PLAIN,
) -> None:
    """Explain rows of a table, and write a page, and the numbers where they are asked for.

    Args:
        models: of a run.
        table: the rows.
        which: of them are explained.
        out: an .html page, which replaces one of ours.
        numbers: a .parquet file that doesn't exist yet, or None.
        labelled: read the target too, and find what each column is worth to the metric.
        tell: prints.

    Raises:
        FoldwiseError: bad input, captum isn't installed, or a file is in the way.
    """
    from foldwise.report.page import check_page, write_page

    wanted = parse_rows(which)
    check_page(out)
    if numbers is not None:
        _check_numbers(numbers)
    predictor, frame = load_both(models, table, labelled=labelled, tell=tell)
    from foldwise.explanation.explain import explain as explained
    from foldwise.report.explain_page import explanation_page, passed_in_words
    from foldwise.run.files import write_parquet

    found = explained(predictor, frame, _places(predictor, frame, which, wanted))
    who = who_labels(predictor)
    write_page(out, explanation_page(found, models.run.resolve().name, who, predictor.notes))
    if numbers is not None:
        write_parquet(numbers, found.table())
        send(numbers)
    result = {
        "run": called(models.run),
        "model": predictor.model,
        "members": list(predictor.chosen.voting),
        **found.as_json(),
        "page": called(out),
        "numbers": numbers and called(numbers),
    }
    tell.end(f"{_count(found)}, {passed_in_words(found)}: {called(out)}", result)


def parse_rows(which: Which) -> list[int] | None:
    """Read `--rows`; None where other rows are wanted.

    Raises:
        FoldwiseError: it isn't a list of row numbers, or two ways to choose rows are given.
    """
    if which.rows is None:
        return None
    if which.most_unsure is not None:
        raise FoldwiseError("--rows and --most-unsure: give one of them")
    try:
        rows = [int(part) for part in which.rows.split(",")]
    except ValueError:
        rows = [-1]
    if min(rows) < 0 or len(set(rows)) < len(rows):
        raise FoldwiseError(
            f"--rows {which.rows}: give different row numbers from 0, with commas: --rows 0,5,17"
        )
    if len(rows) > MOST:
        raise FoldwiseError(f"--rows: {len(rows)} rows; a page has {MOST:,} at most")
    return rows


def _check_numbers(numbers: Path) -> None:
    if numbers.suffix != ".parquet":
        raise FoldwiseError(f"--numbers {called(numbers)}: the file's name must end in .parquet")
    if numbers.exists():
        raise FoldwiseError(f"--numbers {numbers}: is there already; choose another name")
    if not numbers.parent.is_dir():
        raise FoldwiseError(f"--numbers {numbers}: there is no folder {numbers.parent}")
    check_new(numbers)


def _places(
    predictor: Predictor, frame: pl.DataFrame, which: Which, wanted: Sequence[int] | None
) -> list[int]:
    from foldwise.explanation.explain import least_sure

    if wanted is not None:
        place = {row: at for at, row in enumerate(frame["row"].to_list())}
        if unknown := [row for row in wanted if row not in place]:
            raise FoldwiseError(
                f"--rows: there is no row {unknown[0]} to explain; the table has {frame.height} "
                f"rows, {min(place)} to {max(place)}"
            )
        return [place[row] for row in wanted]
    if which.most_unsure is not None:
        return least_sure(predictor, frame, which.most_unsure)
    return list(range(min(which.first, frame.height)))


def _count(found: Explanation) -> str:
    n = len({row.row for row in found.rows})
    return f"{n} row{'s' if n != 1 else ''} explained"
