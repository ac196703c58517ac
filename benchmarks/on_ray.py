"""What a Ray of several nodes gains and costs, all of them on this machine.

    python benchmarks/on_ray.py sweep
    python benchmarks/on_ray.py predict [--rows 200000]

`sweep` sets a Ray of two workers of one core each beside a Ray of one: the same sweep of four tiny
runs on both at the same time, so that other work on the machine slows both; the bar is 0.65 of one
worker's time. `predict` labels a table by `predict` and by `predict --on` with two actors, of which
one is killed on the way: the bytes, and the most memory that the command held, beside what it held
for 1,000 rows; the bar is 300 MiB. Everything computes in one thread. The model is a random BERT of
one block of width 16 on three words a row: what counts here is rows and processes.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml

from predicting import held

os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
os.environ |= {"RAY_worker_niceness": "0"}  # else other work on the machine goes before
FOLDWISE = [sys.executable, "-m", "foldwise"]
WORDS = ["card", "fee", "limit", "loan", "payment", "balance", "debt", "collector", "letter"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["sweep", "predict"])
    parser.add_argument("--rows", type=int, default=200_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fw-bench-", dir="/tmp") as name:
        folder = Path(name)
        make_world(folder)
        if options.what == "sweep":
            sweep(folder)
        else:
            predict(folder, options.rows)


def make_world(folder: Path) -> None:
    """Write a backbone, a table and a config."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    names = {text: number for number, text in enumerate([*special, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(names, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]"
    )
    fast.save_pretrained(folder / "bert")
    config = transformers.BertConfig(
        vocab_size=len(names),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
    )
    torch.manual_seed(0)
    transformers.AutoModel.from_config(config).save_pretrained(folder / "bert")
    write_table(folder / "table.csv", 120)
    values = {
        "run": {"name": "run", "dir": str(folder / "runs")},
        "data": {"path": str(folder / "table.csv"), "target": "label", "text": ["text"]},
        "folds": {"n": 2, "duplicates": "ignore"},
        "text": {"max_length": 8},
        "model": {"backbone": str(folder / "bert")},
        "training": {"epochs": 1, "device": "cpu", "precision": "float32"},
        "ensemble": "model",
        "baselines": False,
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")


def write_table(path: Path, rows: int) -> None:
    """Write rows of three words, each with a label."""
    words = np.random.default_rng(0).integers(len(WORDS), size=(rows, 3))
    texts = [" ".join(WORDS[word] for word in row) for row in words]
    labels = [WORDS[row[0] // 3 * 3] for row in words]
    pl.DataFrame({"text": texts, "label": labels}).write_csv(path)


@contextmanager
def ray_of(workers: int) -> Iterator[tuple[str, list[int]]]:
    """Have a Ray of so many nodes of one core; its address, and its raylets' process ids."""
    from ray.cluster_utils import Cluster

    Path("/tmp/ray").mkdir(exist_ok=True)
    place = tempfile.mkdtemp(prefix="fw-bench-", dir="/tmp")
    cluster: Any = Cluster()
    store = {"object_store_memory": 100 * 2**20}
    try:
        head = cluster.add_node(num_cpus=0, temp_dir=place, include_dashboard=False, **store)
        nodes = [head, *(cluster.add_node(num_cpus=1, **store) for _ in range(workers))]
        raylets = [node.all_processes["raylet"][0].process.pid for node in nodes]
        yield f"ray://{cluster.address}", raylets
    finally:
        cluster.shutdown()
        shutil.rmtree(place, ignore_errors=True)


def sweep(folder: Path) -> None:
    grid = "sweep={grid: {optimizer.lr: [1.0e-4, 2.0e-4, 3.0e-4, 4.0e-4]}}"
    running: dict[int, subprocess.Popen[bytes]] = {}
    taken: dict[int, float] = {}
    with ray_of(1) as (one, _), ray_of(2) as (two, _):
        began, idle = time.monotonic(), idle_s()
        for workers, address in ((1, one), (2, two)):
            settings = ["--set", grid, "--set", f"run.dir={folder / str(workers)}"]
            call = ["sweep", str(folder / "run.yaml"), *settings, "--on", address, "--quiet"]
            running[workers] = subprocess.Popen([*FOLDWISE, *call], stdout=subprocess.DEVNULL)
        while len(taken) < len(running):
            for workers, process in running.items():
                if workers not in taken and process.poll() is not None:
                    assert process.returncode == 0, process.returncode
                    taken[workers] = time.monotonic() - began
            time.sleep(0.1)
        left = (idle_s() - idle) / taken[1]
    for workers, seconds in sorted(taken.items()):
        print(f"{workers} worker{'s' * (workers > 1)}: {seconds:.0f} s for 4 runs")
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, {left:.1f} of them idle")
    print(f"two workers take {taken[2] / taken[1]:.2f} of one worker's time (bar: 0.65)")


def idle_s() -> float:
    """Return the seconds that this machine's cores have idled."""
    ticks = Path("/proc/stat").read_text(encoding="ascii").split()[4]
    return int(ticks) / os.sysconf("SC_CLK_TCK")


def predict(folder: Path, rows: int) -> None:
    train = [*FOLDWISE, "train", str(folder / "run.yaml"), "--quiet"]
    subprocess.run(train, check=True, stdout=subprocess.DEVNULL)
    for count in (1000, rows):
        write_table(folder / f"{count}.csv", count)
    with ray_of(2) as (address, raylets):
        few = labelled(folder, 1000, "few.csv", [])
        whole = labelled(folder, rows, "whole.csv", [])
        on = ["--on", address, "--jobs", "2"]
        few_on = labelled(folder, 1000, "few-on.csv", on)
        spread = labelled(folder, rows, "spread.csv", on, raylets)
    for name, (seconds, most, killed) in {
        "predict, 1,000 rows": few,
        f"predict, {rows:,} rows": whole,
        "two actors, 1,000 rows": few_on,
        f"two actors, {rows:,} rows": spread,
    }.items():
        print(f"{name:<28}{seconds:>6.0f} s, at most {most:,} MiB{killed}")
    digests = {hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in OUT}
    print(
        f"same bytes: {len(digests) == 1}; {spread[1] - few[1]} MiB more than predict's for 1,000"
    )


OUT = ("whole.csv", "spread.csv")


def labelled(
    folder: Path, rows: int, out: str, on: list[str], raylets: list[int] | None = None
) -> tuple[float, int, str]:
    """Label a table; of the actors of some raylets kill one, once a part of the output is there."""
    began, most, killed = time.monotonic(), 0, ""
    words = ["predict", str(folder / "runs" / "run"), str(folder / f"{rows}.csv"), "--quiet"]
    process = subprocess.Popen(
        [*FOLDWISE, *words, "-o", str(folder / out), *on], stdout=subprocess.DEVNULL
    )
    parts = folder / f".{out}.parts"
    while process.poll() is None:
        most = max(most, held(process.pid))
        if raylets and not killed and len(list(parts.glob("*.json"))) > 20:
            actor = next(pid for raylet in raylets for pid in children(raylet) if holds(pid))
            os.kill(actor, 9)
            killed = "; an actor was killed on the way"
        time.sleep(0.05)
    assert process.returncode == 0, process.returncode
    return time.monotonic() - began, most, killed


def children(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def holds(pid: int) -> bool:
    """Say whether a process is an actor that holds models."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::Holder")


if __name__ == "__main__":
    main()
