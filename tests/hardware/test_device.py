"""What `auto` means on a machine, by what torch says of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
import torch

from foldwise.config.schema import Config
from foldwise.config.training import Training
from foldwise.errors import FoldwiseError
from foldwise.hardware import team
from foldwise.hardware.device import (
    build_accelerator,
    computes_bf16,
    placement,
    resolve_device,
    resolve_precision,
    set_deterministic,
)
from foldwise.hardware.launched import Launch, check_launch, launched
from foldwise.preparation.resolve import resolve, resolve_stored


def pretend(monkeypatch: pytest.MonkeyPatch, *there: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in there)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in there)


@pytest.mark.parametrize(
    ("there", "expected"), [(("cuda", "mps"), "cuda"), (("mps",), "mps"), ((), "cpu")]
)
def test_auto_takes_the_fastest_device_there_is(
    monkeypatch: pytest.MonkeyPatch, there: tuple[str, ...], expected: str
) -> None:
    pretend(monkeypatch, *there)
    assert resolve_device("auto") == expected


def test_cpu_can_be_chosen_beside_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "cuda")
    assert resolve_device("cpu") == "cpu"


@pytest.mark.parametrize("wanted", ["cuda", "mps"])
def test_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch, wanted: str) -> None:
    pretend(monkeypatch)
    message = f"^training.device: {wanted} isn't available here; use auto or cpu$"
    with pytest.raises(FoldwiseError, match=message):
        resolve_device(wanted)


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_run_of_a_device_that_is_not_there_is_placed_on_what_is(
    monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    pretend(monkeypatch)
    assert placement(Training(device=device, precision="bf16")) == ("cpu", "bf16")


@pytest.mark.parametrize(("tiles", "expected"), [(True, "bf16"), (False, "float32")])
def test_cpu_takes_bf16_only_with_amx_tiles(
    monkeypatch: pytest.MonkeyPatch, tiles: bool, expected: str
) -> None:
    capabilities = {"amx_bf16": tiles, "avx512_bf16": True}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert resolve_precision("auto", "cpu") == expected


@pytest.mark.parametrize(("supported", "expected"), [(True, "bf16"), (False, "float32")])
def test_cuda_takes_bf16_where_it_is_not_emulated(
    monkeypatch: pytest.MonkeyPatch, supported: bool, expected: str
) -> None:
    asked = []

    def is_supported(including_emulation: bool = True) -> bool:
        asked.append(including_emulation)
        return supported

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_supported)
    assert resolve_precision("auto", "cuda") == expected
    assert asked == [False]


@pytest.mark.parametrize("there", ["amx_bf16", "avx512_bf16", "bf16", None])
def test_cpu_computes_bf16_with_any_instructions_for_it(
    monkeypatch: pytest.MonkeyPatch, there: str | None
) -> None:
    capabilities = {"amx_bf16": False, "avx512_bf16": False, "avx512_f": True}
    if there is not None:
        capabilities[there] = True
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert computes_bf16("cpu") == (there is not None)
    assert not computes_bf16("mps")


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_precision_that_is_chosen_stands(precision: str) -> None:
    assert resolve_precision(precision, "mps") == precision


def test_mps_takes_float32() -> None:
    assert resolve_precision("auto", "mps") == "float32"


def test_accelerator_follows_each_config_of_one_process() -> None:
    linear = torch.nn.Linear(2, 2)
    for precision, expected in (("bf16", torch.bfloat16), ("float32", torch.float32)):
        accelerator = build_accelerator(Training(device="cpu", precision=precision))
        assert accelerator.device.type == "cpu"
        with accelerator.autocast():
            assert linear(torch.ones(1, 2)).dtype == expected


def test_fp16_is_for_cuda_alone(make_config: Callable[..., Config]) -> None:
    config = make_config(training={"precision": "fp16"})
    with pytest.raises(FoldwiseError, match=r"^training\.precision: fp16 is for CUDA, not for cpu"):
        resolve(config)


def test_run_in_fp16_computes_in_float32_elsewhere(
    make_config: Callable[..., Config], capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config(training={"precision": "fp16"})
    assert resolve_stored(config).training.precision == "float32"
    assert "was trained in fp16, which needs CUDA" in capsys.readouterr().err
    with pytest.raises(FoldwiseError, match="fp16 is for CUDA"):
        resolve_stored(config, precision="fp16")


def launch(monkeypatch: pytest.MonkeyPatch, rank: int, size: int, **more: str) -> None:
    told = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
    told |= {"LOCAL_WORLD_SIZE": str(size), "MASTER_ADDR": "localhost", "MASTER_PORT": "1", **more}
    for name, value in told.items():
        monkeypatch.setenv(name, value)


def test_one_of_several_processes_is_refused_where_they_have_not_met(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    launch(monkeypatch, 1, 2)
    with pytest.raises(FoldwiseError, match=r"^this process is one of several .* start one"):
        build_accelerator(Training(device="cpu", precision="float32"))


@pytest.mark.parametrize(
    ("where", "message"),
    [("mps", "mps is one device"), ("cuda", "^2 processes on this machine, and 1 GPUs")],
)
def test_processes_need_a_device_each(
    monkeypatch: pytest.MonkeyPatch, where: str, message: str
) -> None:
    launch(monkeypatch, 1, 2)
    monkeypatch.setattr(team, "size", lambda: 2)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(FoldwiseError, match=message):
        build_accelerator(Training(device=where, precision="float32"))


def test_launcher_that_wants_a_cpu_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "cuda")
    launch(monkeypatch, 0, 2, ACCELERATE_USE_CPU="true")
    assert resolve_device("auto") == "cpu"


def test_process_knows_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    assert launched() == Launch(0, 1, 0, 1)
    launch(monkeypatch, 3, 4, LOCAL_RANK="1", LOCAL_WORLD_SIZE="2")
    assert launched() == Launch(3, 4, 1, 2)
    monkeypatch.delenv("MASTER_ADDR")  # a cluster's own variables, and no launcher
    assert launched().size == 1


@pytest.mark.parametrize(
    ("command", "name", "message"),
    [
        ("sweep", None, "^foldwise sweep works in one process"),
        ("train", "ACCELERATE_USE_FSDP", "asks for FSDP, .* training.shard: true .* model.lora"),
        ("train", "ACCELERATE_USE_DEEPSPEED", "asks for DeepSpeed"),
    ],
)
def test_what_several_processes_can_not_do_is_refused(
    monkeypatch: pytest.MonkeyPatch, command: str, name: str | None, message: str
) -> None:
    check_launch(command)  # alone it says nothing
    launch(monkeypatch, 0, 2)
    if name is not None:
        check_launch(command)
        monkeypatch.setenv(name, "true")
    with pytest.raises(FoldwiseError, match=message):
        check_launch(command)


@pytest.fixture
def _as_before() -> Iterator[None]:
    yield
    set_deterministic(False, "cpu")


@pytest.mark.usefixtures("_as_before")
def test_deterministic_sets_torch_and_the_workspace_before_cuda_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    set_deterministic(True, "cpu")
    assert not torch.are_deterministic_algorithms_enabled()
    set_deterministic(True, "cuda")
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.is_deterministic_algorithms_warn_only_enabled()
    assert (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark) == (True, False)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    set_deterministic(False, "cuda")  # another run of the same process
    assert not torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.deterministic


@pytest.mark.usefixtures("_as_before")
def test_deterministic_is_set_before_cuda_is_asked_what_it_can_do(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Asking begins CUDA, and then it is too late.
    workspaces = []

    def supported(including_emulation: bool) -> bool:
        workspaces.append(os.environ["CUBLAS_WORKSPACE_CONFIG"])
        return True

    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    placed = {"device": "auto", "precision": "auto"}
    resolve(make_config(run={"deterministic": True}, training=placed))
    assert workspaces == [":4096:8"]


@pytest.mark.usefixtures("_as_before")
def test_deterministic_is_refused_where_it_would_do_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with pytest.raises(FoldwiseError, match=r"^run\.deterministic: CUDA has begun in this process"):
        set_deterministic(True, "cuda")
    with pytest.raises(FoldwiseError, match=r"^run\.deterministic: nothing makes mps"):
        set_deterministic(True, "mps")
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    set_deterministic(True, "cuda")
    assert torch.are_deterministic_algorithms_enabled()


def test_attention_on_cuda_is_not_planned_anew_for_each_length() -> None:
    enabled = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(True)
    try:
        build_accelerator(Training(device="cpu", precision="float32"))
        assert torch.backends.cuda.cudnn_sdp_enabled()
        build_accelerator(Training(device="cuda", precision="float32"))
        assert not torch.backends.cuda.cudnn_sdp_enabled()
    finally:
        torch.backends.cuda.enable_cudnn_sdp(enabled)


def test_what_other_code_has_set_is_left_as_it_is() -> None:
    torch.use_deterministic_algorithms(True)
    try:
        set_deterministic(False, "cpu")
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
