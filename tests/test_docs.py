"""The documents say what is true: snippets run, configs load, links lead somewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from foldwise.config.load import load_config
from foldwise.config.schema import Config
from foldwise.run.readers import read_json
from foldwise.workflow import cross_validate

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "examples/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]


def snippets(document: str, heading: str) -> dict[str, str]:
    """Return a section's blocks by language, those of one language joined."""
    text = (ROOT / document).read_text(encoding="utf-8")
    section = re.split(r"^## ", text.split(f"## {heading}\n", 1)[1], flags=re.MULTILINE)[0]
    blocks: dict[str, str] = {}
    for language, body in re.findall(r"```(\w+)\n(.*?)```", section, flags=re.DOTALL):
        blocks[language] = blocks.get(language, "") + body
    return blocks


@pytest.mark.parametrize(
    ("document", "heading"),
    [
        ("README.md", "Your own pooling in ten lines"),
        ("docs/customize.md", "Pooling"),
        ("docs/customize.md", "Fusion"),
        ("docs/customize.md", "Columns beside the text"),
        ("docs/customize.md", "Head"),
        ("docs/customize.md", "Activation"),
        ("docs/customize.md", "Loss"),
        ("docs/customize.md", "Member"),
        ("docs/customize.md", "Metric"),
        ("docs/customize.md", "Splitter"),
        ("docs/customize.md", "Optimizer"),
        ("docs/customize.md", "Schedule"),
        ("docs/customize.md", "Tracker"),
        ("docs/customize.md", "Optimizer and schedule from torch"),
        ("docs/customize.md", "Optimizers, schedules and averages that are built in"),
        ("docs/customize.md", "Another target"),
        ("docs/customize.md", "A task of another kind"),
    ],
)
def test_a_documented_part_trains(
    document: str, heading: str, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    found = snippets(document, heading)
    base = make_config(folds={"n": 2}, training={"epochs": 1}).model_dump(mode="json")
    if "A task" in heading:
        base["data"] = {}
    (tmp_path / "base.yaml").write_text(json.dumps(base), encoding="utf-8")
    config = {"extends": "base.yaml", **yaml.safe_load(found["yaml"])}
    if "python" in found:
        (tmp_path / "my_parts.py").write_text(found["python"], encoding="utf-8")
        config["code"] = ["my_parts.py"]
    (tmp_path / "config.yaml").write_text(json.dumps(config), encoding="utf-8")
    run = cross_validate(load_config(tmp_path / "config.yaml"))
    scores = read_json(run.metrics)
    assert set(scores["folds"]) == {"1", "2"}
    assert all(0 <= value <= 1 for value in scores["mean"].values())


@pytest.mark.parametrize("config", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.name)
def test_a_shipped_config_loads(config: Path) -> None:
    assert load_config(config).data.target == "Product"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_links_lead_to_files(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
        assert target.startswith("http") or (document.parent / target).exists(), target


def test_the_readme_shows_the_calls_that_the_workflow_makes_in_their_order() -> None:
    workflow = (ROOT / "src/foldwise/workflow.py").read_text(encoding="utf-8")
    shown = (ROOT / "README.md").read_text(encoding="utf-8").split("with the locks left out:")[1]
    block = re.search(r"```python\n(.*?)```", shown, flags=re.DOTALL)
    assert block is not None
    for line in block.group(1).splitlines():
        call = line.split("#")[0].strip()
        assert call in workflow, line
        workflow = workflow.split(call, 1)[1]
