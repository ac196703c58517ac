"""Training throughput beside the HF Trainer's, on the same rows, model, batch size and length cap.

    python benchmarks/vs_trainer.py [--data cfpb_dev.csv.gz] [--rows 640] [--batch 32] [--rounds 1]

Each contender trains all-MiniLM-L6-v2 for one epoch in a process of its own, one after the other:
foldwise, the Trainer as it comes, and the Trainer with length grouping in float32 (and in bf16
where the machine computes it natively). Tokenizing, and one step of the widest batch, are done
beforehand for all. Printed are seconds, real tokens a second, peak memory (of the GPU, where there
is one), the ratios, and which share of the machine's matrix-product rate foldwise reaches; seconds
are the median of the rounds. Nothing else should run on the machine meanwhile.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
NAME = "sentence-transformers/all-MiniLM-L6-v2"
CAP = 256
DEFAULT = Path(__file__).resolve().parents[2] / "shared" / "data" / "cfpb_dev.csv.gz"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DEFAULT)
    parser.add_argument("--rows", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--child")
    options = parser.parse_args()
    if not options.data.exists():
        sys.exit(
            f"skipped: {options.data} isn't there; give --data a CFPB table (foldwise data cfpb)"
        )
    if options.child:
        print(json.dumps(run(options)))
        return
    import torch

    bf16 = torch.cuda.is_available() or torch.cpu.get_capabilities().get("avx512_bf16", False)
    contenders = ["foldwise", "trainer", "trainer-grouped-float32"]
    contenders += ["trainer-grouped-bf16"] if bf16 else []
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in contenders}
    for _ in range(options.rounds):
        for name in contenders:
            command = [sys.executable, __file__, "--child", name]
            command += ["--data", str(options.data), "--rows", str(options.rows)]
            command += ["--batch", str(options.batch)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                sys.exit(done.stderr)
            results[name].append(json.loads(done.stdout.splitlines()[-1]))
            print(f"{name}: {results[name][-1]}", file=sys.stderr, flush=True)
    report(results, bf16)


def report(results: dict[str, list[dict[str, Any]]], bf16: bool) -> None:
    def median(name: str) -> float:
        times = sorted(entry["seconds"] for entry in results[name])
        return times[len(times) // 2]

    ours = sorted(results["foldwise"], key=lambda entry: entry["seconds"])[
        len(results["foldwise"]) // 2
    ]
    print(f"{ours['device']}, {ours['threads']} threads, bf16 {'native' if bf16 else 'not native'}")
    print(f"precision of foldwise: {ours['precision']}; {ours['tokens']} real tokens an epoch")
    print(
        f"matrix products: {ours['matmul_gflops']:.0f} GFLOP/s; "
        f"foldwise reaches {ours['share']:.0%}"
    )
    print(f"{'contender':<26}{'seconds':>9}{'tokens/s':>10}{'peak MiB':>10}{'ratio':>8}")
    for name, entries in results.items():
        seconds = median(name)
        peak = max(entry["peak_mib"] for entry in entries)
        speed, ratio = entries[0]["tokens"] / seconds, seconds / median("foldwise")
        print(f"{name:<26}{seconds:>9.1f}{speed:>10.0f}{peak:>10.0f}{ratio:>7.2f}x")


def run(options: argparse.Namespace) -> dict[str, Any]:
    import torch
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    name, batch = options.child, options.batch
    texts, labels = read(options.data, options.rows)
    if name == "foldwise":
        outcome = foldwise(texts, labels, batch)
    else:
        outcome = trainer(texts, labels, batch, name)
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        peak = torch.cuda.max_memory_reserved() / 2**20
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rate = matmul_rate(torch.bfloat16 if outcome["precision"] == "bf16" else torch.float32)
    flops = outcome.pop("flops", 0.0)
    return {
        **outcome,
        "peak_mib": peak,
        "matmul_gflops": rate,
        "share": flops / outcome["seconds"] / rate / 1e9,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name()
        if on_gpu
        else torch.backends.cpu.get_cpu_capability(),
    }


def read(data: Path, rows: int) -> tuple[list[str], list[str]]:
    opened = gzip.open if data.suffix == ".gz" else open
    with opened(data, "rt", encoding="utf-8", newline="") as file:
        lines = csv.DictReader(file)
        pairs = [(line["Consumer complaint narrative"], line["Product"]) for line in lines]
    pairs = pairs[:: max(1, len(pairs) // rows)][:rows]
    return [text for text, _ in pairs], [label for _, label in pairs]


def matmul_rate(dtype: Any) -> float:
    """Measure GFLOP/s of products the size of the model's larger ones."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    a = torch.randn(4096, 1536, dtype=dtype, device=device)
    b = torch.randn(1536, 1536, dtype=dtype, device=device)
    best = 1e9
    for _ in range(8):
        wait()
        start = time.perf_counter()
        a @ b
        wait()
        best = min(best, time.perf_counter() - start)
    return 2 * 4096 * 1536 * 1536 / best / 1e9


def wait() -> None:
    """Wait until a GPU has done what it was given."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def foldwise(texts: list[str], labels: list[str], batch: int) -> dict[str, Any]:
    import numpy as np
    import polars as pl

    from foldwise.config.schema import Config
    from foldwise.hardware.device import build_accelerator
    from foldwise.parts.usercode import UserCode
    from foldwise.preparation.build import build_task
    from foldwise.preparation.resolve import resolve
    from foldwise.progress.shown import show_progress
    from foldwise.run.folder import FoldFolder
    from foldwise.training.averaging import WeightAverage
    from foldwise.training.batching import Sampler
    from foldwise.training.loading import TrainingRows
    from foldwise.training.loop import Destination, Settings, fit
    from foldwise.training.optimizers import build_optimizer
    from foldwise.training.schedules import build_schedule
    from foldwise.training.tracking import Tracker
    from foldwise.training.update import Update

    values = {
        "run": {"name": "bench"},
        "data": {"path": "bench", "target": "label", "text": ["text"]},
        "text": {"max_length": CAP},
        "model": {"backbone": NAME},
        "training": {"epochs": 1, "batch_size": batch},
    }
    config, code = resolve(Config.model_validate(values)), UserCode()
    task = build_task(config, code)
    frame = pl.DataFrame({"text": texts, "label": labels})
    task.fit_target(frame)
    task.fit_rows(frame)
    dataset = task.dataset(frame)
    accelerator = build_accelerator(config.training)
    rows = np.arange(len(texts))
    sampler = Sampler(dataset.lengths, len(rows), batch, None, 1, (0, 1))
    model = task.build_model().to(accelerator.device)
    steps = len(sampler.windows(0))
    optimizer = build_optimizer(model, config.optimizer, code)
    schedule = build_schedule(optimizer, config.schedule, steps, code)
    settings = Settings(
        seed=(0, 1),
        epochs=1,
        clip=1.0,
        evaluate_every=None,
        patience=None,
        save_seconds=1e9,
        log_every=10,
        metric="loss",
        greater_is_better=False,
        workers=0,
    )
    warm_up(model, batch)
    with tempfile.TemporaryDirectory() as folder:
        fold = FoldFolder(Path(folder), 1)
        tracker = Tracker(fold.history, None, dataset.lengths, show_progress(None, "bench", steps))
        started = time.perf_counter()
        outcome = fit(
            model,
            task,
            TrainingRows(dataset, rows, sampler),
            Update(optimizer, schedule, WeightAverage(model, None)),
            None,
            Destination(fold, tracker),
            accelerator,
            settings,
        )
        wait()
        with_save = time.perf_counter() - started
    lengths = dataset.lengths
    blocks = sum(p.numel() for layer in model.layers()[1:] for p in layer)
    depth, width = len(model.layers()) - 1, model.backbone.config.hidden_size
    flops = 6 * blocks * lengths.sum() + 12 * depth * width * (lengths.astype(float) ** 2).sum()
    return {
        "seconds": outcome.elapsed_s,
        "seconds_with_checkpoint": with_save,
        "tokens": int(lengths.sum()),
        "precision": config.training.precision,
        "flops": float(flops),
    }


def trainer(texts: list[str], labels: list[str], batch: int, name: str) -> dict[str, Any]:
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        Trainer,
        TrainingArguments,
    )

    from foldwise.models.resolve import resolve_backbone

    folder = resolve_backbone(NAME).folder
    classes = sorted(set(labels))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    encoded = tokenizer(texts, truncation=True, max_length=CAP)["input_ids"]
    rows = [
        {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": classes.index(label)}
        for ids, label in zip(encoded, labels, strict=True)
    ]
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=len(classes))
    grouped = {"train_sampling_strategy": "group_by_length"} if "grouped" in name else {}
    with tempfile.TemporaryDirectory() as output:
        arguments = TrainingArguments(
            output_dir=output,
            num_train_epochs=1,
            per_device_train_batch_size=batch,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            logging_strategy="no",
            bf16=name.endswith("bf16"),
            **grouped,
        )
        peer = Trainer(model=model, args=arguments, train_dataset=rows, processing_class=tokenizer)
        warm_up(peer.model, batch)
        started = time.perf_counter()
        peer.train()
        wait()
        seconds = time.perf_counter() - started
    return {
        "seconds": seconds,
        "tokens": sum(len(ids) for ids in encoded),
        "precision": "bf16" if name.endswith("bf16") else "float32",
    }


def warm_up(model: Any, batch: int) -> None:
    """Make the widest step there can be: first use of memory is in nobody's time."""
    import torch

    ids = torch.full((batch, CAP), 100, device=next(model.parameters()).device)
    model.train()
    outputs = model(input_ids=ids, attention_mask=torch.ones_like(ids))
    getattr(outputs, "logits", outputs).sum().backward()
    model.zero_grad(set_to_none=True)
    wait()


if __name__ == "__main__":
    main()
