"""The notebooks run from top to bottom on the embedded sample, and are kept without outputs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from foldwise.config.schema import Config
from foldwise.run.readers import read_json

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
SMALL: dict[str, dict[str, Any]] = {
    "eda": {"data.path": "synthetic:150"},
    "training": {
        "run.name": "notebook",
        "data.path": "synthetic:150",
        "folds.n": 2,
        "training.epochs": 1,
        "text.max_length": 16,
        "data.rare_classes": "drop",
        "model.freeze": 5,
    },
}


@pytest.mark.parametrize("name", ["eda", pytest.param("training", marks=pytest.mark.slow)])
def test_it_runs_from_top_to_bottom(name: str, tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    cell = next(c for c in notebook.cells if "parameters" in c.metadata.get("tags", []))
    first, _, _ = cell.source.partition("OVERRIDES = ")
    cell.source = f"{first}OVERRIDES = {SMALL[name] | {'run.dir': str(tmp_path / 'runs')}}"
    NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(NOTEBOOKS)}}
    ).execute()
    kinds = {
        kind
        for c in notebook.cells
        for output in c.get("outputs", [])
        for kind in output.get("data", {})
    }
    assert "image/png" in kinds  # pictures that show anywhere, without a script
    assert not any(o.output_type == "error" for c in notebook.cells for o in c.get("outputs", []))


def test_a_cell_shows_progress_and_each_folds_score_unasked(
    tmp_path: Path, make_config: Callable[..., Config]
) -> None:
    config = make_config(folds={"n": 2}, training={"epochs": 1}, trackers=[]).model_dump()
    code = f"""
import polars as pl
from foldwise import cross_validate
frame = pl.read_csv({config["data"]["path"]!r})
run = cross_validate({config!r}, data=frame)
"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    NotebookClient(notebook, timeout=300).execute()
    (cell,) = notebook.cells
    streams = {name: "" for name in ("stdout", "stderr")}
    for output in cell.outputs:
        streams[output.name] += output.text
    shown = streams["stdout"]
    assert "folds of 45, 45 rows" in shown
    for number in (1, 2):
        scores = read_json(tmp_path / "runs" / "test" / f"fold-{number}" / "validation.json")
        line = next(x for x in shown.splitlines() if f"fold {number} of 2: f1_macro" in x)
        assert f"{scores['scores']['f1_macro']:.3f}" in line
    assert "\x1b" not in shown  # a cell can't move a cursor
    assert "Loading weights" not in streams["stderr"]


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_it_is_kept_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert path.stem in SMALL
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
