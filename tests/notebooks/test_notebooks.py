"""The notebooks run from top to bottom on the embedded sample, and are kept without outputs."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
SMALL = {
    "eda": '["data.path=synthetic:150"]',
    "training": '["run.name=notebook", "run.dir={runs}", "data.path=synthetic:150", "folds.n=2", '
    '"training.epochs=1", "text.max_length=16", "data.rare_classes=drop", "model.freeze=5"]',
}


@pytest.mark.parametrize("name", ["eda", pytest.param("training", marks=pytest.mark.slow)])
def test_it_runs_from_top_to_bottom(name: str, tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    cell = next(c for c in notebook.cells if "parameters" in c.metadata.get("tags", []))
    first, _, _ = cell.source.partition("OVERRIDES = ")
    cell.source = f"{first}OVERRIDES = {SMALL[name].replace('{runs}', str(tmp_path / 'runs'))}"
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


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_it_is_kept_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert path.stem in SMALL
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
