"""`foldwise prepare`: all that comes before the first fold, on a machine without the GPUs."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foldwise.commands.output import PLAIN, Output
from foldwise.sweep.variants import expand, find_configs


def prepare(configs: Sequence[Path], overrides: Sequence[str], tell: Output = PLAIN) -> None:
    """Fill the token stores of some configs' runs; the runs are left alone.

    Args:
        configs: YAML files, or folders of them; of a `sweep` section every variant.
        overrides: `key=value` texts of --set.
        tell: prints.

    Raises:
        FoldwiseError: bad input; what was prepared before stands.
    """
    paths = find_configs(configs)
    variants = expand(paths, overrides)
    # Imported only now: a typo in a config is told in a blink, torch takes seconds.
    from foldwise.commands.quiet import quiet_libraries
    from foldwise.jobs.ahead import prepare_ahead
    from foldwise.report.terminal import facts

    quiet_libraries(online=True)
    found: list[dict[str, Any]] = []
    for variant in variants:
        if variant.run.finished:
            found.append({"run": str(variant.run.path), "state": "finished", "rows": None})
        else:
            prepared = prepare_ahead(variant.config, variant.run)
            rows = prepared.frame.height
            found.append({"run": str(variant.run.path), "state": "prepared", "rows": rows})
            tell.say("\n".join(facts(prepared.counts)))
        tell.say(f"{found[-1]['state']}: {variant.run.path}")
    several = len(variants) > 1 or variants[0].overrides != tuple(overrides)
    given = [*map(str, configs), *(part for text in overrides for part in ("--set", text))]
    command = shlex.join(["foldwise", "sweep" if several else "train", *given])
    stores = variants[-1].run.token_stores
    tell.end(
        f"ready in {stores}; now: {command}",
        {"stores": str(stores), "runs": found},
    )
