"""What only a CUDA device can show; `make test-gpu` runs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import torch

from foldwise.config.schema import Config
from foldwise.prepare import resolve
from foldwise.runfolder import read_json, sha256
from foldwise.workflow import cross_validate

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def on_cuda(make_config: Callable[..., Config], name: str) -> Config:
    return make_config(
        run={"name": name}, folds={"n": 2}, training={"device": "auto", "precision": "auto"}
    )


def test_auto_takes_the_gpu_and_bf16_where_it_is_native(
    make_config: Callable[..., Config],
) -> None:
    resolved = resolve(on_cuda(make_config, "auto")).training
    native = torch.cuda.is_bf16_supported(including_emulation=False)
    assert (resolved.device, resolved.precision) == ("cuda", "bf16" if native else "float32")


def test_weights_stay_float32_and_scores_are_those_of_the_written_predictions(
    make_config: Callable[..., Config],
) -> None:
    from safetensors.torch import load_file
    from sklearn.metrics import f1_score

    run = cross_validate(on_cuda(make_config, "scores"))
    weights = load_file(next(run.fold(1).checkpoints.glob("step-*/model.safetensors")))
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    rows = pl.read_parquet(run.out_of_fold)
    expected = f1_score(rows["target"], rows["prediction"], average="macro")
    assert read_json(run.metrics)["oof"]["f1_macro"]["value"] == pytest.approx(expected, abs=1e-6)


def test_a_run_of_the_gpu_predicts_on_the_cpu(
    make_config: Callable[..., Config], table_path: Path
) -> None:
    from foldwise.predictor import Predictor

    run = cross_validate(on_cuda(make_config, "elsewhere"))
    labels = []
    for device in ("cuda", "cpu"):
        predictor = Predictor(run.path, device=device)
        labels.append(predictor.predict(predictor.read(str(table_path), labelled=False)))
    agree = (labels[0]["prediction"] == labels[1]["prediction"]).mean()
    assert agree is not None
    assert agree > 0.95  # bf16 against float32: a tie may fall the other way


def test_two_runs_of_one_seed_are_alike(make_config: Callable[..., Config]) -> None:
    runs = [cross_validate(on_cuda(make_config, name)) for name in ("first", "second")]
    scores = [read_json(run.metrics)["mean"]["f1_macro"] for run in runs]
    assert scores[0] == pytest.approx(scores[1], abs=0.1)
    assert sha256(runs[0].folds) == sha256(runs[1].folds)
