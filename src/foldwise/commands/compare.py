"""`foldwise compare`: which of several finished runs is best, and by how much."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from foldwise.commands.output import PLAIN, Output
from foldwise.storage.places import called


def compare(
    runs: Sequence[Path],
    metric: str | None,
    out: Path | None,
    trust_code: bool,
    online: bool = False,
    tell: Output = PLAIN,
) -> None:
    """Print the table of runs, what differs in their configs, the paired tests and the verdict.

    The verdict is the last line, in one piece whatever the terminal's width.

    Args:
        runs: two or more finished run folders.
        metric: what to compare by; None for what the first run selected its epochs by.
        out: an .html page to write, or None.
        trust_code: run the Python files that lie in the run folders.
        online: ask the hub for what is needed.
        tell: prints.

    Raises:
        FoldwiseError: runs that aren't finished or can't be paired, or no such metric.
    """
    from foldwise.report.page import check_page

    if out is not None:
        check_page(out)
    # Imported only now: a wrong path is told in a blink, torch takes seconds.
    from foldwise.commands.quiet import quiet_libraries
    from foldwise.evaluation import compare as tests
    from foldwise.evaluation.candidates import read_candidates
    from foldwise.report.compare_terminal import comparison_tables

    quiet_libraries(online=online)
    comparison = tests.compare(read_candidates(runs, trust_code=trust_code, online=online), metric)
    tell.show(*comparison_tables(comparison))
    if out is not None:
        from foldwise.report.compare_page import comparison_page
        from foldwise.report.page import write_page

        write_page(out, comparison_page(comparison))
        tell.say(f"page: {called(out)}")
    result = {**comparison.as_json(), "told": comparison.told, "page": out and called(out)}
    tell.end(comparison.verdict, result)
