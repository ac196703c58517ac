"""A folder that labels rows as the run's own model does, without torch and without Foldwise."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from foldwise.cli import app
from foldwise.errors import FoldwiseError
from foldwise.export.bundle import check
from foldwise.export.quantize import quantize
from foldwise.export.source import open_source
from foldwise.predictor import Predictor
from foldwise.run.folder import RunFolder

BLOCKED = ("torch", "transformers", "foldwise", "polars", "sklearn", "scipy", "onnx")


def label(folder: Path, table: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a folder's predict.py where nothing but its three packages can be imported."""
    block = ";".join(["import sys", *(f"sys.modules[{name!r}] = None" for name in BLOCKED)])
    path = str(folder / "predict.py")
    code = f"{block}; import runpy; sys.argv = {[path, str(table), *options]!r}; "
    code += f"runpy.run_path({path!r}, run_name='__main__')"
    return subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True)


def test_the_folder_labels_as_the_runs_model_without_torch(
    run: RunFolder, bundle: Path, new_rows: pl.DataFrame, tmp_path: Path
) -> None:
    new_rows.write_csv(tmp_path / "new.csv")
    told = label(bundle, tmp_path / "new.csv", "-o", str(tmp_path / "out.csv"), "--raw")
    assert (told.returncode, told.stderr) == (0, "")
    found = pl.read_csv(tmp_path / "out.csv")
    predictor = Predictor(run.path, [1], member="model", device="cpu", precision="float32")
    expected = predictor.predict(predictor.read(str(tmp_path / "new.csv"), labelled=False))
    assert found["row"].to_list() == list(range(30))
    assert found["prediction"].to_list() == expected["prediction"].to_list()
    wanted = [name for name in expected.columns if name.startswith("prob_")]
    assert found.columns == ["row", "prediction", *wanted]
    apart = np.abs(found.select(wanted).to_numpy() - expected.select(wanted).to_numpy())
    assert apart.max() < 1e-5


def test_odd_tables_are_told_and_leave_no_file(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,kind\nx,y\n", encoding="utf-8")
    told = label(bundle, tmp_path / "a.csv", "-o", str(tmp_path / "out.csv"))
    assert told.returncode == 1
    assert f"error: {tmp_path}/a.csv: has no column 'amount'; it has: 'text', 'kind'" in told.stderr
    (tmp_path / "a.csv").write_text("text,kind,amount\nx,y,1\nx,y,1_0\n", encoding="utf-8")
    told = label(bundle, tmp_path / "a.csv", "-o", str(tmp_path / "out.csv"))
    assert told.stderr == "error: row 1: column 'amount' holds '1_0', not a finite number\n"
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_the_folder_holds_what_it_needs_and_nothing_of_this_machine(bundle: Path) -> None:
    names = {path.name for path in bundle.iterdir()}
    assert names == {"README.md", "foldwise.json", "model.onnx", "predict.py", "tokenizer.json"}
    for name in ("README.md", "foldwise.json", "tokenizer.json", "predict.py"):
        assert str(Path.home()) not in (bundle / name).read_text(encoding="utf-8")
        assert str(bundle.parent) not in (bundle / name).read_text(encoding="utf-8")


def test_the_graph_has_free_axes_and_names_its_opset(bundle: Path) -> None:
    import onnx

    graph = onnx.load(bundle / "model.onnx")
    assert [each.version for each in graph.opset_import if each.domain == ""] == [18]
    axes = {i.name: [d.dim_param for d in i.type.tensor_type.shape.dim] for i in graph.graph.input}
    assert axes == {"input_ids": ["batch", "length"], "attention_mask": ["batch", "length"]}


def test_an_export_that_answers_otherwise_is_not_left(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bundle: Path
) -> None:
    def damaged(task: Any, model: Any, path: Path) -> None:
        import onnx

        graph = onnx.load(bundle / "model.onnx")
        bias = next(i for i in graph.graph.initializer if i.name.endswith("layers.4.bias"))
        wrong = onnx.numpy_helper.to_array(bias) + np.array([0.0, 0.5, 0.0], dtype=np.float32)
        bias.CopyFrom(onnx.numpy_helper.from_array(wrong, bias.name))
        onnx.save(graph, path)

    monkeypatch.setattr("foldwise.export.bundle.write_graph", damaged)
    told = CliRunner().invoke(app, ["export", str(run.path), "-o", str(tmp_path / "out")])
    assert isinstance(told.exception, FoldwiseError)
    assert "the exported model doesn't answer as the run's: of 54 rows" in str(told.exception)
    assert list(tmp_path.iterdir()) == []


def test_int8_is_measured_on_rows_the_model_has_not_trained_on(
    run: RunFolder, bundle: Path, tmp_path: Path
) -> None:
    quantize(bundle / "model.onnx", tmp_path / "model.onnx")
    for name in ("foldwise.json", "tokenizer.json"):
        shutil.copy(bundle / name, tmp_path / name)
    source = open_source(run.path, "fold-1")
    found = check(source, tmp_path)
    assert found.rows == "54 rows that the model has not trained on"
    assert 0 < found.largest < 0.1
    held = pl.read_parquet(run.fold(1).holdout)
    scored = pl.read_parquet(run.fold(1).predictions)
    seen = pl.concat([held, scored], how="vertical_relaxed")
    right = (seen["target"] == seen["prediction"]).mean()
    assert found.before["accuracy"] == pytest.approx(right)
