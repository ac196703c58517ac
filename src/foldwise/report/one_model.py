"""One model that stands for all folds, beside their answer: measured.json in, a table out.

The same rows in a terminal and in the report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup
from rich.table import Table

from foldwise.evaluation.words import figure, signed
from foldwise.report import page
from foldwise.run.folder import DISTILLED, RunFolder
from foldwise.run.ones import read_measured
from foldwise.run.seal import read_metrics

HEADINGS = ("", "score", "difference", "log loss", "ECE", "ms/row")


def measured(run: RunFolder) -> list[dict[str, Any]]:
    """Read what each such model of a run comes to on the holdout, beside the answer it has now."""
    return [found for one in run.ones() if (found := read_measured(one)) is not None]


def stale(run: RunFolder) -> list[str]:
    """Say which such models were measured beside another answer than the run has now."""
    return [
        f"{one.title}: was measured beside an earlier answer of the run; foldwise "
        f"{'distill' if one.title == DISTILLED else one.title} {run.path} measures it again"
        for one in run.ones()
        if one.measured.exists() and read_measured(one) is None
    ]


def judged(run: RunFolder) -> str:
    """Return the metric that a finished run is judged by."""
    metrics = read_metrics(run)
    return str((metrics.get("verdict") or {}).get("metric") or next(iter(metrics["mean"])))


def lines(results: Sequence[Mapping[str, Any]], metric: str) -> tuple[list[str], list[list[str]]]:
    """Return the table's headings and rows: the folds' answer, then each model.

    What is of probabilities is left out where numbers are predicted.

    Args:
        results: of `measured`, at least one.
        metric: which score is shown with its interval.
    """
    first = results[0]
    made = [[f"all {first['folds']} folds", *_cells(first, "all", metric, "")]]
    for result in results:
        ahead = result["difference"][metric]
        told = f"{signed(ahead['value'])} {_bounds(ahead, signed)}"
        made.append([result["model"], *_cells(result, result["model"], metric, told)])
    known = [i for i in range(len(HEADINGS)) if any(row[i] is not None for row in made)]
    rows = [["n/a" if row[i] is None else str(row[i]) for i in known] for row in made]
    return [HEADINGS[i] for i in known], rows


def table(result: Mapping[str, Any], metric: str) -> Table:
    """Build what `foldwise refit` and `foldwise distill` print."""
    headings, rows = lines([result], metric)
    shown = Table(
        title=f"{metric} on the holdout's {result['rows']:,} rows",
        caption=_caption(headings),
        caption_justify="left",
        box=None,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for heading in headings:
        shown.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for row in rows:
        shown.add_row(*row)
    return shown


def verdict(result: Mapping[str, Any], metric: str) -> str:
    """Say in a clause whether a model is clearly better or worse than the folds' answer."""
    ahead = result["difference"][metric]
    low, high = ahead["low"], ahead["high"]
    told = f"{metric} {signed(ahead['value'])} {_bounds(ahead, signed)}"
    if low is None or high is None or low <= 0 <= high:
        return f"{told}: no clear difference from the folds' answer"
    better = (low > 0) != (metric in result["smaller_is_better"])
    return f"{told}: clearly {'better' if better else 'worse'} than the folds' answer"


def section(run: RunFolder) -> list[page.Section]:
    """Build the report's section; none where no such model was measured."""
    results = measured(run)
    body = Markup("").join(page.paragraph(told, "warning") for told in stale(run))
    if results:
        metric = judged(run)
        headings, rows = lines(results, metric)
        told = f"{metric} on the holdout's {results[0]['rows']:,} rows. {_caption(headings)}"
        body = page.table(told, ["model", *headings[1:]], rows, sortable=False) + body
    return [page.Section("One model for all folds", body)] if body else []


def _cells(result: Mapping[str, Any], model: str, metric: str, ahead: str) -> list[str | None]:
    scores = result["scores"][model]
    score = scores[metric]
    loss = scores.get("log_loss", {}).get("value")
    error = result["calibration_error"][model]
    return [
        f"{figure(score['value'])} {_bounds(score, figure)}",
        ahead,
        None if loss is None else figure(loss),
        None if error is None else figure(error),
        f"{result['ms_a_row'][model]:.3g}",
    ]


def _caption(headings: Sequence[str]) -> str:
    error = " ECE: mean distance of confidence and accuracy." if "ECE" in headings else ""
    return (
        "In brackets 95% intervals over groups of near-duplicates; the difference, from the folds' "
        f"answer, is paired.{error} ms/row: as it was measured."
    )


def _bounds(interval: Mapping[str, float | None], write: Any) -> str:
    return f"[{write(interval['low'])}, {write(interval['high'])}]"
