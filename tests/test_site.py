"""The docs site builds without a warning, and opens without a network."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
_LOADED = re.compile(r"<(?:script|img|iframe|link)\b[^>]*\b(?:src|href)=[\"']?(https?://[^\"'> ]+)")


@pytest.mark.slow
def test_the_site_builds_strictly_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    site = tmp_path / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    subprocess.run(command, cwd=ROOT, check=True)
    pages = sorted(site.rglob("*.html"))
    names = {str(page.relative_to(site)) for page in pages}
    assert {"index.html", "config/index.html", "notebooks/training/index.html"} <= names
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert _LOADED.findall(text) == [], page
    notebook = (site / "notebooks" / "training" / "index.html").read_text(encoding="utf-8")
    assert notebook.count("<img") >= 2  # with the outputs that the repository's copy lacks
    assert "cross_validate" in (site / "reference" / "index.html").read_text(encoding="utf-8")
