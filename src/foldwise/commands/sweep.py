"""`foldwise sweep`: many configs, or many variants of one, run one after the other."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from foldwise.commands.output import PLAIN, Output
from foldwise.errors import FoldwiseError
from foldwise.places.where import HERE, Where
from foldwise.run.lock import lock
from foldwise.storage.mirror import refresh
from foldwise.storage.places import called, folder_of


def sweep(
    paths: Sequence[Path],
    overrides: Sequence[str],
    dry_run: bool,
    where: Where = HERE,
    tell: Output = PLAIN,
) -> None:
    """Run every variant that isn't finished, and print all of them, best first.

    Args:
        paths: config files, or folders of them.
        overrides: `key=value` texts of --set, for all.
        dry_run: only list what would run.
        where: the runs are made; by default here, one after the other.
        tell: prints.

    Raises:
        FoldwiseError: a config that doesn't load; nothing was run.
        SystemExit: with code 1 if a run failed.
    """
    from rich.live import Live

    from foldwise.report.sweep_terminal import outcomes_table, ranking_table
    from foldwise.sweep.runner import Outcome, ranked, run_all
    from foldwise.sweep.variants import expand, find_configs

    configs = find_configs(paths)
    variants = expand(configs, overrides)
    for variant in variants:  # another machine may have finished one in a store
        refresh(variant.run)
    if dry_run:
        states = ["finished" if variant.run.finished else "would run" for variant in variants]
        runs = [called(variant.run.path) for variant in variants]
        listed = list(zip(states, runs, strict=True))
        for state, run in listed[:-1]:
            tell.say(f"{state}: {run}")
        found = [{"run": run, "state": state} for state, run in listed]
        tell.end(": ".join(listed[-1]), {"runs": found})
        return
    first = variants[0].config.run
    name = configs[0].stem if len(configs) == 1 else "configs"
    folder = folder_of(first.dir) / f"{name}.sweep"
    if (folder / "config.yaml").exists():
        raise FoldwiseError(f"{folder}: is a run's folder; rename the run or the config")
    page = tell.page
    todo = [variant for variant in variants if not variant.run.finished]
    loaded = [variant.config for variant in variants]
    where = where.of(loaded) if todo else HERE
    files = [*configs, *(Path(file) for config in loaded for file in config.code)]
    with (
        lock(folder / ".lock", f"the sweep in {folder}"),
        where.opened(loaded, len(todo), files) as place,
    ):
        if page is not None and page.is_terminal:
            with Live(console=page, auto_refresh=False) as live:

                def show(outcomes: list[Outcome]) -> None:
                    live.update(outcomes_table(outcomes), refresh=True)

                outcomes = run_all(variants, folder, show, place)
        else:
            told: set[tuple[str, str]] = set()

            def say(outcomes: list[Outcome]) -> None:
                for outcome in outcomes:
                    if outcome.state != "waiting" and (outcome.name, outcome.state) not in told:
                        told.add((outcome.name, outcome.state))
                        tell.say(f"{outcome.name}: {outcome.state} {outcome.message}")

            outcomes = run_all(variants, folder, say, place)
    best = ranked(variants)
    if best:
        tell.show(ranking_table(best))
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    for outcome in failed:
        print(f"failed: {outcome.name}: {outcome.message} (log: {outcome.log})", file=sys.stderr)
    done = f"{len(outcomes) - len(failed)} of {len(outcomes)} runs finished"
    compare = "; compare: foldwise compare " + " ".join(called(v.run.path) for v in best[:2])
    tell.end(
        done + (compare if len(best) > 1 else ""),
        {
            "folder": str(folder),
            "runs": [
                {"path": called(variant.run.path), **asdict(outcome)}
                for variant, outcome in zip(variants, outcomes, strict=True)
            ],
            "ranked": [variant.name for variant in best],
        },
    )
    if failed:
        sys.exit(1)
