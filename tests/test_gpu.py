"""What only a CUDA device can show; `make test-gpu` runs it."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from foldwise.config.load import dump_config
from foldwise.config.schema import Config
from foldwise.config.training import Optimizer, Schedule
from foldwise.parts.usercode import UserCode
from foldwise.preparation.resolve import resolve
from foldwise.run import checkpoints
from foldwise.run.files import sha256
from foldwise.run.folder import FoldFolder, RunFolder
from foldwise.run.readers import read_json
from foldwise.training.averaging import WeightAverage
from foldwise.training.optimizers import build_optimizer
from foldwise.training.resume import TrainingState, capture, resume
from foldwise.training.schedules import build_schedule
from foldwise.training.update import Update
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


def train_elsewhere(config: Config, folder: Path) -> subprocess.Popen[bytes]:
    """Begin a run in a process of its own: cuBLAS reads its workspace when CUDA begins."""
    path = folder / f"{config.run.name}.yaml"
    path.write_text(dump_config(config), encoding="utf-8")
    command = [sys.executable, "-m", "foldwise", "train", str(path)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def deterministic(make_config: Callable[..., Config], name: str, **training: Any) -> Config:
    run = {"name": name, "deterministic": True}
    placed = {"device": "auto", "precision": "auto", **training}
    return make_config(run=run, folds={"n": 2}, training=placed)


def bytes_of(config: Config) -> list[str]:
    run = RunFolder(Path(config.run.dir) / config.run.name)
    weights = [checkpoints.pointed(run.fold(n)) / "model.safetensors" for n in (1, 2)]
    return [sha256(path) for path in (run.out_of_fold, *weights)]


def test_two_deterministic_processes_end_with_the_same_bytes(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    configs = [deterministic(make_config, name) for name in ("first", "second")]
    for config in configs:
        process = train_elsewhere(config, tmp_path)
        _, words = process.communicate()
        assert process.returncode == 0, words.decode()
    assert bytes_of(configs[0]) == bytes_of(configs[1])


def test_a_deterministic_run_that_is_killed_ends_with_the_bytes_of_one_that_is_not(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    often = {"epochs": 6, "save_minutes": 0.0}
    whole, killed = (deterministic(make_config, name, **often) for name in ("whole", "killed"))
    assert train_elsewhere(whole, tmp_path).wait() == 0
    fold = RunFolder(Path(killed.run.dir) / "killed").fold(1)
    process = train_elsewhere(killed, tmp_path)
    while process.poll() is None and len(list(fold.checkpoints.glob("step-*"))) < 1:
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL  # it was at work
    process = train_elsewhere(killed, tmp_path)
    _, words = process.communicate()
    assert process.returncode == 0, words.decode()
    assert bytes_of(killed) == bytes_of(whole)


@pytest.mark.parametrize("name", ["adamw_8bit", "paged_adamw", "paged_adamw_8bit"])
def test_optimizer_of_bitsandbytes_goes_on_bit_for_bit_and_stays_paged(
    tmp_path: Path, name: str
) -> None:
    pytest.importorskip("bitsandbytes")
    fold = FoldFolder(tmp_path, 1)
    config = Optimizer.model_validate({"name": name, "lr": 0.01})

    def made() -> tuple[torch.nn.Linear, Update]:
        torch.manual_seed(0)
        model = torch.nn.Linear(512, 512, device="cuda")  # paged from 100,000 weights on
        optimizer = build_optimizer(model, config, UserCode())
        schedule = build_schedule(optimizer, Schedule(), 10, UserCode())
        return model, Update(optimizer, schedule, WeightAverage(model, None))

    def steps(model: torch.nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
        torch.manual_seed(seed)
        for _ in range(3):
            model(torch.randn(4, 512, device="cuda")).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()

    model, update = made()
    steps(model, update.optimizer, 1)
    saved = capture(TrainingState(step=3), model, update, whole=True)
    checkpoints.save(fold, saved, best=False, last=True)
    other, resumed = made()
    resume(fold, other, resumed)
    steps(model, update.optimizer, 2)
    steps(other, resumed.optimizer, 2)
    assert torch.equal(model.weight, other.weight)
    paged = getattr(resumed.optimizer.state[other.weight]["state1"], "is_paged", False)
    assert paged == name.startswith("paged")


@pytest.mark.parametrize("width", ["8bit", "4bit"])
def test_adapters_beside_quantized_weights_learn_and_are_validated(
    make_config: Callable[..., Config], width: str
) -> None:
    from safetensors.torch import load_file

    from foldwise.workflow import validate

    pytest.importorskip("bitsandbytes")
    backbone = on_cuda(make_config, width).model.backbone
    model = {"lora": {"r": 8}, "quantize": width, "checkpoint_activations": True}
    placed = {"device": "auto", "precision": "auto"}
    run = cross_validate(
        make_config(
            run={"name": width},
            folds={"n": 2},
            model={"backbone": backbone, **model},
            training=placed,
        )
    )
    weights = load_file(next(run.fold(1).checkpoints.glob("step-*/model.safetensors")))
    moved = [tensor for name, tensor in weights.items() if "lora_B" in name]
    assert all(tensor.any() for tensor in moved)  # they start at zero
    value = read_json(run.metrics)["oof"]["f1_macro"]["value"]
    assert validate(run.path)["oof"]["f1_macro"]["value"] == pytest.approx(value, abs=0.05)


def test_fp16_learns_with_scaled_losses_and_keeps_float32_weights(
    make_config: Callable[..., Config],
) -> None:
    from safetensors.torch import load_file

    placed = {"device": "auto", "precision": "fp16", "keep": "all"}
    run = cross_validate(make_config(run={"name": "half"}, folds={"n": 2}, training=placed))
    folder = next(run.fold(1).checkpoints.glob("step-*"))
    weights = load_file(folder / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    assert all(bool(tensor.isfinite().all()) for tensor in weights.values())
    assert read_json(folder / "state.json")["scaler"]["scale"] >= 1


def test_quiet_steps_wait_for_nothing(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import masking_utils

    from foldwise.training import loop

    # Between two readings any wait for the GPU is an error, but for the one that transformers makes
    # where it asks whether a batch is padded.
    monkeypatch.setattr(masking_utils, "_ignore_bidirectional_mask_sdpa", lambda *given: False)
    read, due = loop._read, loop._is_read

    def reading(*given: Any) -> Any:
        torch.cuda.set_sync_debug_mode("default")
        return read(*given)

    def asking(*given: Any) -> bool:
        found = due(*given)
        torch.cuda.set_sync_debug_mode("default" if found else "error")
        return found

    monkeypatch.setattr(loop, "_read", reading)
    monkeypatch.setattr(loop, "_is_read", asking)
    placed = {"device": "auto", "precision": "auto", "log_every": 5, "save_minutes": 60.0}
    try:
        cross_validate(make_config(run={"name": "quiet"}, folds={"n": 2}, training=placed))
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_nccl_adds_up_what_lies_on_the_gpu_and_a_run_trains_beside_it(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    from foldwise.hardware import team
    from foldwise.hardware.launched import Launch

    # A team of one: NCCL takes a GPU for each process.
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": "0", "WORLD_SIZE": "1"}
    for name, value in meeting.items():
        monkeypatch.setenv(name, value)
    sums = [torch.tensor([1.5, -2.0], device=device) for device in ("cuda", "cpu")]
    team.join(Launch())
    try:
        for total in sums:
            team.add_up(total)
        config = on_cuda(make_config, "team")
        score = read_json(cross_validate(config).metrics)["mean"]["f1_macro"]
    finally:
        team.end(0, None)
    assert [total.tolist() for total in sums] == 2 * [[1.5, -2.0]]
    alone = read_json(cross_validate(on_cuda(make_config, "alone")).metrics)["mean"]["f1_macro"]
    assert score == pytest.approx(alone, abs=0.1)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one CUDA device")
@pytest.mark.parametrize("shard", [False, True])
def test_two_gpus_have_the_losses_of_one(
    make_config: Callable[..., Config], tmp_path: Path, shard: bool
) -> None:
    from foldwise.run.history import read_history

    runs = []
    for processes in (1, 2):
        name = f"of_{processes}"
        placed = {"device": "cuda", "precision": "float32", "shares": 2, "log_every": 1}
        placed |= {"shard": shard}  # of one process nothing
        config = make_config(run={"name": name}, folds={"n": 2}, training=placed)
        path = tmp_path / f"{name}.yaml"
        path.write_text(dump_config(config), encoding="utf-8")
        torchrun = ["-m", "torch.distributed.run", "--nproc_per_node", str(processes)]
        command = [sys.executable, *torchrun, "-m", "foldwise", "train", str(path)]
        subprocess.run(command, check=True, capture_output=True)
        runs.append(RunFolder(Path(config.run.dir) / name))
    lines = [read_history(run.fold(1).history) for run in runs]
    for one, other in zip(*lines, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-4)
