"""A served model's labels by onnxruntime: the same ones, or none."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from foldwise.errors import FoldwiseError
from foldwise.export.bundle import NEAR, spec, write_bundle
from foldwise.export.quantize import quantize
from foldwise.export.source import Source, open_source
from foldwise.predictor import Predictor
from foldwise.run.files import write_json
from foldwise.serving.answers import labels_by
from foldwise.serving.app import Server
from foldwise.serving.described import describe
from foldwise.serving.explaining import explains_by
from foldwise.serving.limits import Limits
from foldwise.serving.onnx import open_export

from .test_app import rows_of


@pytest.fixture(scope="module")
def source(trained: Predictor) -> Source:
    return open_source(trained.run.path, "fold-1")


@pytest.fixture(scope="module")
def exported(source: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("onnx")
    write_bundle(source, folder, int8=False)
    return folder


@pytest.fixture(scope="module")
def one(trained: Predictor) -> Predictor:
    return Predictor(trained.run.path, model="fold-1", precision="float32")


def test_an_export_in_float32_gives_the_labels_of_the_run_and_metadata_names_it(
    one: Predictor, exported: Path, client: Callable[..., Any]
) -> None:
    rows, limits = rows_of(30), Limits()
    engine = open_export(one, exported)
    about = describe(one, limits, None, engine.about)
    asking = client(Server(labels_by(one, engine), about, explains_by(one), limits))
    found = asking.post("/predict", json={"rows": rows}).json()["rows"]
    expected = client(Server(labels_by(one), about)).post("/predict", json={"rows": rows}).json()
    for mine, run in zip(found, expected["rows"], strict=True):
        assert mine["prediction"] == run["prediction"]
        assert mine["confidence"] == pytest.approx(run["confidence"], abs=NEAR)
        assert mine["probabilities"] == pytest.approx(run["probabilities"], abs=NEAR)
    assert about.about["scored"] == "the model, out of fold, all folds, in float32"
    told = asking.get("/metadata").json()["engine"]
    assert (told["name"], told["precision"], told["other_labels"]) == ("onnxruntime", "float32", 0)
    assert 0 < told["largest_difference"] <= NEAR
    assert describe(one, limits, None).about["engine"] == {"name": "torch", "precision": "float32"}
    assert asking.post("/explain", json={"rows": rows[:1]}).status_code == 200


def test_an_export_in_int8_says_so_and_how_far_it_is(
    one: Predictor, source: Source, exported: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "int8"
    shutil.copytree(exported, folder)
    quantize(folder / "model.onnx", folder / "model.int8.onnx")
    write_json(folder / "foldwise.json", spec(source, ["model.int8.onnx"]))
    engine = open_export(one, folder)
    assert engine.about["precision"] == "int8"
    assert engine.about["largest_difference"] > 0
    made = engine.label(pl.DataFrame(rows_of(10)))
    np.testing.assert_allclose(made.select("^prob_.*$").sum_horizontal(), 1.0, atol=1e-6)


def test_what_is_no_export_of_the_served_model_is_refused(
    trained: Predictor, one: Predictor, exported: Path, tmp_path: Path
) -> None:
    with pytest.raises(FoldwiseError, match=r"an export is one fine-tuned model.*--model fold-1"):
        open_export(trained, exported)
    other = Predictor(trained.run.path, model="fold-2", precision="float32")
    with pytest.raises(FoldwiseError, match=r"doesn't answer as .* does: of 64 made-up rows"):
        open_export(other, exported)
    with pytest.raises(FoldwiseError, match=r"is no folder of foldwise export RUN -o FOLDER"):
        open_export(one, tmp_path)
    folder = tmp_path / "others"
    shutil.copytree(exported, folder)
    text = (folder / "foldwise.json").read_text()
    (folder / "foldwise.json").write_text(text.replace('"debt"', '"duty"'))
    with pytest.raises(FoldwiseError, match="has other classes than"):
        open_export(one, folder)
    (folder / "foldwise.json").write_text(text)
    (folder / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(FoldwiseError, match="is no folder of foldwise export"):
        open_export(one, folder)
