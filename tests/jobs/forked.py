"""Processes that train together, forked from one that has imported everything.

    python tests/jobs/forked.py SIZE FOLDER CONFIG...

They train the first fold of the configs in turn, as so many that torchrun has started would, and
end as those do. What one has imported the others needn't: that is most of what a tiny training
takes. In FOLDER they say when they have left the others (`left-RANK`, those that follow after a
while of doing nothing), and when Python has ended them in its own way (`ended-RANK`).
"""

from __future__ import annotations

import atexit
import os
import socket
import sys
import time
from pathlib import Path

import torch.distributed.fsdp
import transformers.models.auto.modeling_auto  # noqa: F401

import foldwise.report.run_report
import foldwise.workflow  # noqa: F401
from foldwise.cli import _follow, _told, app
from foldwise.hardware.launched import launched
from foldwise.jobs.together import take_part


def main(size: int, folder: Path, configs: list[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free.getsockname()[1]}
    place |= {"WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
    rank = next((rank for rank in range(1, size) if os.fork() == 0), 0)
    place |= {"RANK": rank, "LOCAL_RANK": rank}
    os.environ |= {name: str(value) for name, value in place.items()}
    leave = torch.distributed.destroy_process_group

    def left() -> None:
        leave()
        time.sleep(0.5 * (rank > 0))
        (folder / f"left-{rank}").write_text(str(time.monotonic()))

    torch.distributed.destroy_process_group = left
    atexit.register(lambda: (folder / f"ended-{rank}").write_text(str(time.monotonic())))

    def lead() -> None:
        for config in configs:
            app(["train", config, "--folds", "1"], standalone_mode=False)

    take_part(launched(), _follow if rank else lead, _told)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
