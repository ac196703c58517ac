"""A look at a frame, as the tests of this folder ask for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from foldwise.config.schema import Config
from foldwise.eda.findings import Finding
from foldwise.eda.look import Look, look_at
from foldwise.eda.rules import find

Looking = Callable[..., tuple[Look, dict[str, list[Finding]]]]


@pytest.fixture
def look(make_config: Callable[..., Config], tmp_path: Path) -> Looking:
    """Look at a frame: the look, and its findings by kind."""

    def at(frame: pl.DataFrame | Path, **sections: Any) -> tuple[Look, dict[str, list[Finding]]]:
        path = frame
        if isinstance(frame, pl.DataFrame):
            path = tmp_path / "table.csv"
            frame.write_csv(path)
        data = {"path": str(path), "categorical": ["shop"], "numeric": ["price"]}
        sections["data"] = data | sections.get("data", {})
        sections["folds"] = {"n": 3, "duplicates": "near"} | sections.get("folds", {})
        sections.setdefault("text", {"max_length": 60})
        found = look_at(make_config(**sections))
        kinds: dict[str, list[Finding]] = {}
        for finding in find(found):
            kinds.setdefault(finding.kind, []).append(finding)
        return found, kinds

    return at
