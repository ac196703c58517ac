"""What processes that train in parts (`training.shard`) take of main memory before the first step.

    python benchmarks/parts.py [--processes 2]

A random BERT of 16 blocks of width 512 (193 MiB in float32), saved in bfloat16, so that no process
can read its weights from the file's own pages, is about to be trained by as many processes on the
CPU. Printed for each is its own memory (pages of files don't count) over what its imports took: at
most while the run is opened and while the model is built, and once its part is there.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import socket
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import torch
import transformers
import yaml
from transformers.models.auto import modeling_auto  # noqa: F401

import foldwise.workflow  # noqa: F401
from foldwise.cli import _follow, _told, app
from foldwise.hardware.launched import launched
from foldwise.jobs.together import take_part
from foldwise.training import fold
from on_ray import make_world


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=2)
    size = parser.parse_args().processes
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = make_large(folder, size)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": size}
        place |= {"LOCAL_WORLD_SIZE": size}
        os.environ |= {key: str(value) for key, value in place.items()}
        anew = multiprocessing.get_context("spawn")  # torch's threads don't outlive a fork
        processes = [anew.Process(target=begin, args=(config, rank)) for rank in range(size)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        print("process  opening, MiB  building, MiB  with its part, MiB")
        for rank in range(size):
            told = [float(x) for x in (folder / f"rank-{rank}").read_text().split()]
            print(f"{rank:7d}  {told[0]:12.0f}  {told[1]:13.0f}  {told[2]:18.0f}")


def make_large(folder: Path, size: int) -> Path:
    """Write a backbone and a config; return the config's path."""
    make_world(folder)
    shape = {"hidden_size": 512, "num_hidden_layers": 16, "intermediate_size": 2048}
    words = {"vocab_size": 13, "num_attention_heads": 8, "max_position_embeddings": 16}
    model = transformers.AutoModel.from_config(transformers.BertConfig(**shape, **words))
    model.to(torch.bfloat16).save_pretrained(folder / "bert")
    values = yaml.safe_load((folder / "run.yaml").read_text(encoding="utf-8"))
    values["training"] |= {"shard": True, "shares": size, "batch_size": 20}
    (folder / "run.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    return folder / "run.yaml"


def begin(config: Path, rank: int) -> None:
    """Begin the first fold as one of the processes, and write what it took to `rank-N`."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    most, start, begin_fold = [0.0], own_mib(), fold.begin_fold

    def watch() -> None:
        while True:
            most[0] = max(most[0], own_mib())
            time.sleep(0.002)

    def noted(*given: Any) -> Any:
        opening, most[0] = most[0], 0.0
        begin_fold(*given)
        told = " ".join(str(mib - start) for mib in (opening, most[0], own_mib()))
        (config.parent / f"rank-{rank}").write_text(told)
        torch.distributed.barrier()
        os._exit(0)

    def lead() -> None:
        app(["train", str(config), "--folds", "1", "--quiet"], standalone_mode=False)

    threading.Thread(target=watch, daemon=True).start()
    fold.begin_fold = noted
    take_part(launched(), _follow if rank else lead, _told)


def own_mib() -> float:
    """Return this process's own memory, MiB."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(r"RssAnon:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else 0.0


if __name__ == "__main__":
    main()
