"""A run's precision is part of what it promised: whoever uses the run computes in it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from conftest import make_table
from foldwise import cli, workflow
from foldwise.config.load import load_config
from foldwise.config.schema import Config
from foldwise.models.adapters import linear_layers
from foldwise.predictor import Predictor
from foldwise.run.folder import RunFolder
from foldwise.run.readers import read_json
from foldwise.workflow import cross_validate

PROBABILITIES = pl.col("^prob_.*$")
# New rows are predicted in batches of another size than those that are validated.
NEARLY = 1e-6


@pytest.fixture(scope="module", params=["float32", "bf16"])
def run(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    backbone: Path,
    table_path: Path,
) -> RunFolder:
    """A run of either precision, with a holdout that was validated in it."""
    place = tmp_path_factory.mktemp("precision")
    make_table(rows=20, seed=5).write_csv(place / "held.csv")
    values = {
        "run": {"name": request.param, "dir": str(place / "runs"), "seed": 7},
        "data": {"path": str(table_path), "target": "label", "text": ["text"]},
        "holdout": {"path": str(place / "held.csv")},
        "folds": {"n": 2, "duplicates": "ignore"},
        "selection": {"rows": "last"},
        "text": {"max_length": 24},
        "model": {"backbone": str(backbone), "attention": "eager"},
        "optimizer": {"lr": 3e-3, "head_lr": 1e-2},
        "training": {"epochs": 1, "batch_size": 8, "device": "cpu", "precision": request.param},
        "trackers": [],
        "baselines": False,
        "ensemble": "model",
    }
    return cross_validate(Config.model_validate(values))


def trained_in(run: RunFolder) -> str:
    return load_config(run.config).training.precision


def held(run: RunFolder) -> str:
    path = load_config(run.config).holdout.path
    assert path is not None
    return path


@pytest.fixture
def report_bf16(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Have torch report AMX and AVX512-BF16, or neither."""

    def report(there: bool) -> None:
        reported = {"amx_bf16": there, "avx512_bf16": there}
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: reported)

    return report


def labelled(run: RunFolder, predictor: Predictor) -> np.ndarray:
    rows = predictor.predict(predictor.read(held(run), labelled=True))
    return rows.select(PROBABILITIES).to_numpy()


def validated(run: RunFolder) -> np.ndarray:
    return pl.read_parquet(run.holdout).select(PROBABILITIES).to_numpy()


def apart(found: np.ndarray, run: RunFolder) -> float:
    return float(np.abs(found - validated(run)).max())


def test_predict_gives_the_probabilities_that_were_validated(
    run: RunFolder, report_bf16: Callable[[bool], None], capsys: pytest.CaptureFixture[str]
) -> None:
    report_bf16(True)
    assert apart(labelled(run, Predictor(run.path, device="cpu")), run) < NEARLY
    assert "note:" not in capsys.readouterr().err


def test_a_cpu_that_would_emulate_bf16_says_so_in_a_line_and_takes_float32(
    run: RunFolder, report_bf16: Callable[[bool], None], capsys: pytest.CaptureFixture[str]
) -> None:
    report_bf16(False)
    predictor = Predictor(run.path, device="cpu")
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note:")]
    expected = [
        "note: bf16 was trained in bf16, which this cpu would emulate, slowly; it computes in "
        "float32, so that probabilities differ a little (--precision bf16 emulates)"
    ]
    assert notes == (expected if trained_in(run) == "bf16" else [])
    assert predictor.config.training.precision == "float32"
    away = apart(labelled(run, predictor), run)
    assert NEARLY < away < 0.02 if trained_in(run) == "bf16" else away < NEARLY


@pytest.mark.parametrize("there", [True, False])
def test_the_precision_asked_for_is_taken_whatever_the_cpu(
    run: RunFolder, report_bf16: Callable[[bool], None], there: bool
) -> None:
    report_bf16(there)
    for precision in ("float32", "bf16"):
        found = labelled(run, Predictor(run.path, device="cpu", precision=precision))
        assert (apart(found, run) < NEARLY) == (precision == trained_in(run))


def test_validate_computes_in_the_runs_precision_and_writes_which(
    run: RunFolder,
    report_bf16: Callable[[bool], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(workflow, "_write_report", lambda _: None)
    first, scores = run.out_of_fold.read_bytes(), read_json(run.metrics)
    if trained_in(run) == "bf16":
        report_bf16(False)
        workflow.validate(run.path)
        assert "would emulate" in capsys.readouterr().err
        assert read_json(run.fold(1).validation)["precision"] == "float32"
        assert run.out_of_fold.read_bytes() != first
    report_bf16(True)
    assert workflow.validate(run.path)["oof"] == scores["oof"]
    assert "note:" not in capsys.readouterr().err
    assert run.out_of_fold.read_bytes() == first
    assert read_json(run.fold(1).validation)["precision"] == trained_in(run)


@pytest.mark.parametrize("command", ["predict", "evaluate", "validate"])
def test_each_command_takes_the_precision(
    run: RunFolder,
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    report_bf16: Callable[[bool], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    report_bf16(False)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr(workflow, "_write_report", lambda _: None)
    out_of_fold = run.out_of_fold.read_bytes()
    out = tmp_path / "out.parquet"
    rest = {
        "predict": [held(run), "-o", str(out)],
        "evaluate": [held(run)],
        "validate": [],
    }
    given = ["foldwise", command, str(run.path), *rest[command], "--precision", trained_in(run)]
    monkeypatch.setattr(sys, "argv", given)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    message = capsys.readouterr().err
    assert ended.value.code == 0, message
    assert "would emulate" not in message
    assert run.out_of_fold.read_bytes() == out_of_fold
    if command == "predict":
        assert apart(pl.read_parquet(out).select(PROBABILITIES).to_numpy(), run) < NEARLY


def test_a_precision_that_there_is_not_ends_with_exit_code_2(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["foldwise", "validate", str(run.path), "--precision", "fp8"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert "'fp8' is not one of" in capsys.readouterr().err


def test_predict_computes_attention_as_the_run_did(run: RunFolder) -> None:
    predictor = Predictor(run.path, device="cpu", precision="float32")
    assert predictor.task.attention == "eager"  # type: ignore[attr-defined]


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_adapters_are_merged_only_where_it_does_not_change_the_probabilities(
    make_config: Callable[..., Config], report_bf16: Callable[[bool], None], precision: str
) -> None:
    report_bf16(True)
    config = make_config(
        model={"lora": {"r": 4}},
        folds={"n": 2},
        training={"epochs": 1, "precision": precision},
    )
    run = cross_validate(config, only=[1])
    predictor = Predictor(run.path, device="cpu")
    model = predictor._folds[0].model
    assert model is not None
    merged = not any("lora_A" in name for name in linear_layers(model.backbone))
    assert merged == (precision == "float32")
    rows = pl.read_parquet(run.fold(1).predictions)
    found = predictor.predict(predictor.read(str(config.data.path), labelled=False))
    found = rows.select("row").join(found, on="row", how="left")
    np.testing.assert_allclose(
        found.select(PROBABILITIES).to_numpy(),
        rows.select(PROBABILITIES).to_numpy(),
        atol=1e-6 if precision == "float32" else 0.01,  # rows are batched with others here
    )
