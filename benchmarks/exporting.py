"""An exported model beside the run's own: does it agree, what does int8 lose, how quick is each?

    python benchmarks/exporting.py RUN [--model fold-1] [--rows 1000] [--rounds 3]

Rows that the model has not trained on go from cells to labels by `Predictor` in PyTorch, by the
exported folder's own predict.py in float32, and by it in int8: one thread each, turn by turn.
Seconds are of CPU, the least of the rounds, so that a busy machine matters little.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy as np
import polars as pl
import torch

from foldwise.export import source as sources
from foldwise.export.bundle import write_bundle
from foldwise.export.runner import Model
from foldwise.export.source import open_source, probabilities
from foldwise.metrics.metric import score


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--model", default="fold-1")
    parser.add_argument("--rows", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    sources.ROWS_SCORED = options.rows
    source = open_source(options.run, options.model, scored=True)
    rows = source.rows.frame.drop("row").to_dicts()
    with tempfile.TemporaryDirectory() as folder:
        models: dict[str, Callable[[], pl.DataFrame]] = {
            "PyTorch float32": lambda: source.predictor.predict(source.rows.frame)
        }
        for name in ("float32", "int8"):
            place = Path(folder) / name
            place.mkdir()
            write_bundle(source, place, int8=name == "int8")
            size = sum(path.stat().st_size for path in place.glob("*.onnx"))
            print(f"{name}: {size / 2**20:.1f} MiB")
            models[f"ONNX {name}"] = by_runner(Model(place, threads=1), rows)
        tables, seconds = timed(models, options.rounds)
    report(source, tables, seconds)


def by_runner(model: Model, rows: list[dict[str, Any]]) -> Callable[[], pl.DataFrame]:
    return lambda: pl.DataFrame(model.predict(rows))


def timed(
    models: dict[str, Callable[[], pl.DataFrame]], rounds: int
) -> tuple[dict[str, pl.DataFrame], dict[str, float]]:
    tables: dict[str, pl.DataFrame] = {}
    seconds = dict.fromkeys(models, float("inf"))
    for _ in range(rounds):
        for name, label in models.items():
            start = time.process_time()
            tables[name] = label()
            seconds[name] = min(seconds[name], time.process_time() - start)
    return tables, seconds


def report(source: Any, tables: dict[str, pl.DataFrame], seconds: dict[str, float]) -> None:
    task, target = source.task, source.rows.target
    first, slowest = next(iter(tables.items()))[1], next(iter(seconds.values()))
    print(f"{source.rows.what}")
    print("| | other labels | largest difference | macro-F1 | accuracy | rows/s | speed |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for name, table in tables.items():
        other = int((table["prediction"] != first["prediction"]).sum())
        apart = np.abs(probabilities(table) - probabilities(first)).max()
        scores = {}
        if target is not None:
            scores = score(task.metrics(), *task.to_arrays(table.with_columns(target=target)))
        f1, accuracy = (scores.get(key, float("nan")) for key in ("f1_macro", "accuracy"))
        rate = table.height / seconds[name]
        print(
            f"| {name} | {other} | {apart:.1e} | {f1:.4f} | {accuracy:.4f} | {rate:.1f} | "
            f"{slowest / seconds[name]:.2f} |"
        )


if __name__ == "__main__":
    main()
