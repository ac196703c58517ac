"""What a launcher says to each process that it starts, by torchrun's environment variables.

`accelerate launch` sets the same. Read without torch, so that a typo is told at once.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from foldwise.errors import FoldwiseError

_NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# What an Accelerate config can ask for that is set elsewhere here, or not at all.
_SHARDED = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism_config",
}


@dataclass(frozen=True)
class Launch:
    """Which of how many processes this one is.

    Attributes:
        rank: of all, from 0; 0 leads.
        size: processes.
        local_rank: of those on this machine.
        local_size: processes on this machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1


def launched() -> Launch:
    """Say which of how many processes this one is; alone where no launcher has started it."""
    if not all(os.environ.get(name) for name in _NEEDED):
        return Launch()
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    local_rank = int(os.environ.get("LOCAL_RANK", rank))
    return Launch(rank, size, local_rank, int(os.environ.get("LOCAL_WORLD_SIZE", size)))


def check_launch(command: str | None) -> None:
    """Refuse what several processes can't do together.

    Raises:
        FoldwiseError: another command than train, or a launcher's own way to cut a model in parts.
    """
    if launched().size == 1:
        return
    if command != "train":
        raise FoldwiseError(
            f"foldwise {command} works in one process; give it without the launcher (only train "
            "takes several)"
        )
    for name, what in _SHARDED.items():
        if _on(name):
            raise FoldwiseError(
                f"accelerate launch: its config asks for {what}, whose settings nothing here would "
                "read. Launch with --multi_gpu instead; for a backbone that one card can't train: "
                "training.shard: true (each process holds a part of the model, FSDP), model.lora, "
                "model.quantize, model.checkpoint_activations"
            )


def on_cpu() -> bool:
    """Say whether the launcher wants a CPU, whatever else there is (`accelerate launch --cpu`)."""
    return launched().size > 1 and _on("ACCELERATE_USE_CPU")


def _on(name: str) -> bool:
    return os.environ.get(name, "").lower() in ("1", "true", "yes", "on")
