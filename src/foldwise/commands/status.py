"""`foldwise status`: where runs stand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from foldwise.commands.output import PLAIN, Output


def status(runs: Sequence[str], tell: Output = PLAIN) -> None:
    """Print where each run stands, and of a single one its folds.

    Nothing is written, no torch imported, and a run at work isn't disturbed.

    Args:
        runs: run folders, or URLs of runs in a store, of which only small files are fetched.
        tell: prints.

    Raises:
        FoldwiseError: one of them isn't a run folder, or can't be read.
    """
    from foldwise.report.upkeep_terminal import folds_table, in_a_line, standings_table
    from foldwise.upkeep.standing import standing_at

    stood = [standing_at(named) for named in runs]
    result = {"runs": [standing.as_json() for standing in stood]}
    if len(stood) == 1:
        tell.show(folds_table(stood[0]))
        tell.end(in_a_line(stood[0]), result)
        return
    tell.show(standings_table(stood))
    for standing in stood:
        if standing.message is not None:
            tell.show(f"{standing.path}: {standing.message}")
    counts = Counter(standing.state for standing in stood)
    states = ", ".join(f"{n} {state}" for state, n in counts.items())
    tell.end(f"{len(stood)} runs: {states}", result)
