"""Processes that train together, forked from one that has imported everything.

    python tests/jobs/forked.py SIZE CONFIG...

They train the configs in turn, as so many started by torchrun would, and end as those do; what each
has imported once isn't imported again by all of them, which is most of what a tiny training takes.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

# What a training imports on its way.
import torch.distributed.fsdp  # noqa: F401
import transformers.models.auto.modeling_auto  # noqa: F401

import foldwise.report.run_report
import foldwise.workflow  # noqa: F401
from foldwise.cli import _follow, _told
from foldwise.commands.quiet import quiet_libraries
from foldwise.config.load import load_config
from foldwise.hardware.launched import launched
from foldwise.jobs.together import take_part
from foldwise.workflow import cross_validate


def main(size: int, configs: list[Path]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free.getsockname()[1]}
    os.environ |= {name: str(value) for name, value in place.items()}
    os.environ |= {"WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size)}
    rank = next((rank for rank in range(1, size) if os.fork() == 0), 0)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}

    def lead() -> None:
        quiet_libraries(online=False)
        for config in configs:
            cross_validate(load_config(config), only=[1])

    take_part(launched(), _follow if rank else lead, _told)


if __name__ == "__main__":
    main(int(sys.argv[1]), [Path(text) for text in sys.argv[2:]])
