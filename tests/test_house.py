"""The layout is what docs/architecture.md says: rooms in one order, arrows downwards only."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "foldwise"
FILES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts): path
    for path in sorted(SOURCE.rglob("*.py"))
}
OF_DATA = {"synthetic.phrases"}  # sentences, no code
MOST_LINES = 400
MOST_ROOT_FILES = 8
SCREEN = 60  # lines, with signature and docstring


def imports(name: str) -> Iterator[str]:
    """Yield the files that a file imports, inside functions and for types too."""
    for node in ast.walk(ast.parse(FILES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("foldwise"):
            module = str(node.module).removeprefix("foldwise").removeprefix(".")
            for alias in node.names:
                inner = f"{module}.{alias.name}".removeprefix(".")
                target = inner if inner in FILES else module
                if target in FILES:
                    yield target


def rooms() -> list[str]:
    """Return the rooms as the document lists them, from the top down."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    tree = text.split("```\n")[1]
    return [name.removesuffix(".py") for name in re.findall(r"^(\w+(?:\.py|/))", tree, re.M)]


def test_the_root_tells_the_story_and_nothing_else() -> None:
    assert len([name for name in FILES if "." not in name]) <= MOST_ROOT_FILES


def test_the_document_lists_every_room() -> None:
    found = {name.split(".")[0] for name in FILES} - {"__init__", "__main__"}
    assert {name.removesuffix("/") for name in rooms()} == found


@pytest.mark.parametrize("name", sorted(set(FILES) - {"__init__", "__main__"}))
def test_no_arrow_goes_up(name: str) -> None:
    order = [room.removesuffix("/") for room in rooms()]
    mine = name.split(".")[0]
    for target in imports(name):
        room = target.split(".")[0]
        assert room == mine or order.index(room) > order.index(mine), f"{name} imports {target}"


def test_no_files_import_each_other_in_a_circle() -> None:
    graph = {name: set(imports(name)) - {name} for name in FILES}
    assert len(list(TopologicalSorter(graph).static_order())) >= len(FILES)  # CycleError otherwise


def test_every_folder_lies_in_a_room_one_level_deep() -> None:
    assert all(name.count(".") <= 1 for name in FILES)


@pytest.mark.parametrize("name", sorted(set(FILES) - OF_DATA))
def test_a_file_is_one_idea_long(name: str) -> None:
    assert len(FILES[name].read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize(("file", "name"), [("loop", "fit"), ("fold", "train_fold")])
def test_the_training_reads_on_one_screen(file: str, name: str) -> None:
    tree = ast.parse(FILES[f"training.{file}"].read_text(encoding="utf-8"))
    found = next(
        node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name
    )
    assert found.end_lineno is not None
    assert found.end_lineno - found.lineno + 1 < SCREEN
