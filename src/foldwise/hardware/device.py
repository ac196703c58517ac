"""Where and in which precision a run computes."""

from __future__ import annotations

import os
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch.amp import GradScaler

from foldwise.config.training import Training
from foldwise.errors import FoldwiseError
from foldwise.hardware import team
from foldwise.hardware.launched import Launch, launched, on_cpu
from foldwise.hardware.memory import keep_freed_memory

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
_DETERMINISTIC_WORKSPACES = (":4096:8", ":16:8")  # NVIDIA, cuBLAS, "Results reproducibility"
_set = [False]  # whether set_deterministic has set anything in this process


def resolve_device(device: str) -> str:
    """Return cpu, cuda or mps for `auto`, and check that the device is there.

    Raises:
        FoldwiseError: the device isn't on this machine.
    """
    if device == "auto" and on_cpu():
        return "cpu"
    if device == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if _available(name))
    if not _available(device):
        raise FoldwiseError(f"training.device: {device} isn't available here; use auto or cpu")
    return device


def resolve_precision(precision: str, device: str) -> str:
    """Return float32 or bf16 for `auto`: bf16 only where it is faster.

    That is CUDA with bf16, and CPUs with AMX tiles. On a CPU with AVX512-BF16 alone a bf16 epoch
    took 1.6 times as long as float32, and without either torch emulates it more slowly still, so
    "bf16 works" proves nothing.
    """
    if precision != "auto":
        return precision
    if device == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    tiles = device == "cpu" and torch.cpu.get_capabilities().get("amx_bf16", False)
    return "bf16" if tiles else "float32"


def computes_bf16(device: str) -> bool:
    """Say whether a device multiplies bf16 by itself.

    A CPU does with AMX tiles, AVX512-BF16, or ARM's bf16 instructions. Elsewhere torch emulates it
    and nothing is gained: MiniLM's inference took 2.4 times as long as float32 with AVX512 and 4.7
    times with AVX2, and its probabilities were no nearer to those of a CPU with AVX512-BF16 (up to
    0.0036 away) than float32's (0.0032), because each set of instructions rounds in its own places.
    """
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    has = torch.cpu.get_capabilities() if device == "cpu" else {}
    return any(has.get(name, False) for name in ("amx_bf16", "avx512_bf16", "bf16"))


def placement(training: Training) -> tuple[str, str]:
    """Return a run's device and precision here; one trained on a GPU may have come to a CPU."""
    device: str = training.device
    if device == "auto" or not _available(device):
        device = resolve_device("auto")
    return device, resolve_precision(training.precision, device)


def set_deterministic(on: bool, device: str) -> None:
    """Let this process compute on CUDA by algorithms that give the same bytes again, or by any.

    On a CPU the same threads give the same bytes either way, and nothing is set.

    Args:
        on: `run.deterministic`.
        device: resolved.

    Raises:
        FoldwiseError: on MPS, which promises nothing; or CUDA has begun without cuBLAS's workspace.
    """
    if on and device == "mps":
        raise FoldwiseError("run.deterministic: nothing makes mps give the same bytes; use cpu")
    on = on and device == "cuda"
    if on == _set[0]:
        return  # what the process's own code has set is left as it is
    if on and os.environ.get(_WORKSPACE) not in _DETERMINISTIC_WORKSPACES:
        # Read once, when cuBLAS begins: set later it would do nothing and say nothing.
        cuda: Any = torch.cuda
        if cuda.is_initialized():
            raise FoldwiseError(
                f"run.deterministic: CUDA has begun in this process; set {_WORKSPACE}="
                f"{_DETERMINISTIC_WORKSPACES[0]} before, or begin with this run"
            )
        os.environ[_WORKSPACE] = _DETERMINISTIC_WORKSPACES[0]
    torch.use_deterministic_algorithms(on)  # an error, not a warning, where torch has none
    torch.backends.cudnn.deterministic = on
    torch.backends.cudnn.benchmark = False
    _set[0] = on


def build_accelerator(training: Training) -> Accelerator:
    """Build the process's Accelerator; device and precision are resolved already.

    Raises:
        FoldwiseError: started as one of several processes that don't train a fold together, or
            that have no GPU each.
    """
    launch = launched()
    if launch.size != team.size():
        raise FoldwiseError(
            "this process is one of several that a launcher has started; to train a fold with all "
            "of them give accelerate launch -m foldwise train CONFIG, otherwise start one process"
        )
    if team.size() > 1:
        _check_devices(training.device, launch)
    if training.device == "cpu":
        keep_freed_memory()
    if training.device == "cuda":
        # torch 2.11 prefers it on Hopper and Blackwell, and it plans anew, in tenths of a second,
        # for each shape; batches padded to their longest row have a hundred of them.
        torch.backends.cuda.enable_cudnn_sdp(False)
    AcceleratorState._reset_state(reset_partial_state=True)  # another run of this process left it
    return Accelerator(
        cpu=training.device == "cpu",
        mixed_precision={"float32": "no"}.get(training.precision, training.precision),
    )


def build_scaler(accelerator: Accelerator) -> GradScaler:
    """Build what multiplies the loss of one training in float16; elsewhere it does nothing."""
    on = accelerator.mixed_precision == "fp16"
    return GradScaler(accelerator.device.type, enabled=on)


def _check_devices(device: str, launch: Launch) -> None:
    if device == "mps":
        raise FoldwiseError("training.device: mps is one device; start one process, or use cpu")
    if device == "cuda" and launch.local_size > torch.cuda.device_count():
        raise FoldwiseError(
            f"{launch.local_size} processes on this machine, and {torch.cuda.device_count()} GPUs; "
            "start one process a GPU (accelerate launch --num_processes N)"
        )


def _available(device: str) -> bool:
    if device == "cuda":
        return torch.cuda.is_available()
    return device == "cpu" or torch.backends.mps.is_available()
