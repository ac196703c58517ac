"""MLflow and Weights & Biases hold what a run told them, once, and never cost it anything."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from foldwise.config.schema import Config
from foldwise.run.history import read_history
from foldwise.training.remote import Told, flat, summary_numbers
from foldwise.workflow import cross_validate

mlflow = pytest.importorskip("mlflow")


def small(make_config: Callable[..., Config], trackers: list[object]) -> Config:
    return make_config(folds={"n": 2}, training={"epochs": 1, "log_every": 2}, trackers=trackers)


def by_name(client: object, name: str) -> object:
    experiment = client.get_experiment_by_name("foldwise")  # type: ignore[attr-defined]
    runs = client.search_runs([experiment.experiment_id])  # type: ignore[attr-defined]
    found = [run for run in runs if run.info.run_name == name]
    assert len(found) == 1, [run.info.run_name for run in runs]
    return found[0]


def check_mlflow(uri: str, run: object) -> None:
    client = mlflow.MlflowClient(uri)
    for fold in (1, 2):
        told = by_name(client, f"test, fold {fold}")
        history = read_history(run.fold(fold).history)  # type: ignore[attr-defined]
        losses = [(h["step"], h["loss"]) for h in history if h["split"] == "step"]
        points = client.get_metric_history(told.info.run_id, "step/loss")  # type: ignore[attr-defined]
        assert [(p.step, p.value) for p in points] == losses
        assert told.info.status == "FINISHED"  # type: ignore[attr-defined]
        assert told.data.params["training.epochs"] == "1"  # type: ignore[attr-defined]
    whole = by_name(client, "test")
    scores = json.loads(run.metrics.read_text())  # type: ignore[attr-defined]
    value = scores["oof"]["f1_macro"]["value"]
    assert whole.data.metrics["oof_f1_macro"] == pytest.approx(value)  # type: ignore[attr-defined]


def test_mlflow_holds_every_point_once_after_a_stop(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    config = small(make_config, [{"name": "mlflow", "uri": uri}])
    training = config.training.model_copy(update={"keep": "all"})
    config = config.model_copy(update={"training": training})
    run = cross_validate(config, only=[1])
    # As if the first fold had been killed after its last log and before it was done.
    run.fold(1).trained.unlink()
    run.fold(1).validation.unlink()
    cross_validate(config)
    check_mlflow(uri, run)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{tmp_path}/server.db"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL)
    uri = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{uri}/health", timeout=1).close()
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.5)
        yield uri
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.slow
def test_a_real_server_holds_the_run(make_config: Callable[..., Config], server: str) -> None:
    run = cross_validate(small(make_config, [{"name": "mlflow", "uri": server}]))
    check_mlflow(server, run)


def test_a_server_that_is_gone_costs_no_training(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    gone = {"name": "mlflow", "uri": "http://127.0.0.1:9"}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        run = cross_validate(small(make_config, [gone]))
    assert run.finished
    told = [str(w.message) for w in said if "trackers:" in str(w.message)]
    assert any("MLflow.log fails" in line for line in told)
    assert any("MLflow.summarize fails" in line for line in told)


def test_wandb_writes_its_files_offline(make_config: Callable[..., Config]) -> None:
    pytest.importorskip("wandb")
    run = cross_validate(small(make_config, ["tensorboard", "wandb"]))
    for name in ("fold-1", "fold-2", "summary"):
        found = list((run.path / "wandb" / name / "wandb").glob("offline-run-*/*.wandb"))
        assert len(found) == 1, name
        assert found[0].stat().st_size > 500


def test_what_was_told_is_kept(tmp_path: Path) -> None:
    told = Told(tmp_path)
    told.keep_id("abc")
    told.keep(7, "step")
    again = Told(tmp_path)
    assert again.id == "abc"
    assert [again.is_new(step, "step") for step in (6, 7, 8)] == [False, False, True]
    assert again.is_new(1, "validation")


def test_configs_are_flattened_and_scores_named() -> None:
    assert flat({"a": {"b": 1, "c": {}}, "d": [2]}) == {"a.b": 1, "a.c": {}, "d": [2]}
    scores = {
        "oof": {"f1": {"value": 0.5}},
        "mean": {"f1": 0.4},
        "std": {"f1": None},
        "holdout": None,
    }
    assert summary_numbers(scores) == {"oof_f1": 0.5, "mean_f1": 0.4}
