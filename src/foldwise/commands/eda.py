"""`foldwise eda`: a look at a config's table before anything is trained."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from foldwise.commands.output import PLAIN, Output
from foldwise.config.load import load_config
from foldwise.config.schema import Config
from foldwise.errors import FoldwiseError
from foldwise.storage.outputs import send
from foldwise.storage.places import called


def eda(
    config_path: Path,
    out: Path,
    overrides: Sequence[str],
    subsets: bool,
    tell: Output = PLAIN,
) -> None:
    """Print what the table holds and what stands out, and write the page.

    A page that eda made is replaced, any other file is left alone.

    Args:
        config_path: the YAML config.
        out: the .html page.
        overrides: `--set` texts.
        subsets: write the full, partial and debug tables beside the page too.
        tell: prints.

    Raises:
        FoldwiseError: bad input, or `out` isn't ours to replace; nothing was written.
    """
    from foldwise.report.eda_page import MAKER, eda_page
    from foldwise.report.page import check_page, write_page

    check_page(out, MAKER)
    config = load_config(config_path, overrides)
    if subsets and config.task in ("multilabel", "regression"):
        raise FoldwiseError(
            f"--write-subsets: draws rows by class, and task {config.task} has none; draw rows "
            "with data.sample"
        )
    # Imported only now: a wrong config is told in a blink.
    from foldwise.eda.findings import as_config
    from foldwise.eda.look import look_at
    from foldwise.eda.rules import find
    from foldwise.report.eda_terminal import eda_tables
    from foldwise.table.subsets import write_subsets

    look = look_at(config)
    findings = find(look)
    page = eda_page(look, findings, as_config(findings, config, config_path.name), str(config_path))
    written = []
    if subsets:  # first: a file in the way leaves nothing behind
        stem, seed = _stem(config), config.folds.seed
        written = write_subsets(look.rows.full, look.rows.target, out.parent, stem, seed)
    write_page(out, page)
    tell.show(*eda_tables(look, findings))
    for path in written:
        send(path)
        tell.say(f"table: {called(path)}")
    tell.end(
        f"page: {called(out)}",
        {
            "page": called(out),
            "tables": [called(path) for path in written],
            "rows": {"table": look.rows.frame.height, "used": look.rows.used.height},
            "findings": [
                {
                    "level": finding.level,
                    "kind": finding.kind,
                    "says": finding.says,
                    "changes": [asdict(change) for change in finding.changes],
                }
                for finding in findings
            ],
        },
    )


def _stem(config: Config) -> str:
    # The table's own name, without its endings; a glob's or the sample's is the run's.
    name = Path(str(config.data.path)).name.split(".")[0]
    return name if re.fullmatch(r"[\w -]+", name) else config.run.name
