"""What labels batches of the sizes that a server meets quicker: torch, or an export by onnxruntime?

One model of a run, its exports and rows. Each batch is labelled by all of them in turn, so that
what else the machine does falls on all alike; told is the median CPU time of a batch, which another
process doesn't add to. Texts are tokenized in it, as a server has to.

    foldwise export RUN -o onnx --model distilled
    foldwise export RUN -o int8 --model distilled --int8
    python benchmarks/engines.py RUN --model distilled --rows table.csv onnx int8
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from foldwise import Predictor
from foldwise.config.members import MODEL
from foldwise.serving.onnx import open_export

SIZES = (1, 2, 4, 8, 16, 32)
ROWS = 320


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("exports", nargs="+", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--rows", required=True, help="a table with the run's columns")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    predictor = Predictor(
        given.run, model=given.model, member=MODEL, device="cpu", precision="float32"
    )
    engines = {"torch": predictor.predict}
    engines |= {path.name: open_export(predictor, path).label for path in given.exports}
    table = predictor.read(given.rows, labelled=False)
    rows = table.sample(min(ROWS, table.height), seed=0, shuffle=True)
    print(f"{given.threads} threads\n| rows | {' | '.join(engines)} |")
    for size in SIZES:
        spent: dict[str, list[float]] = {name: [] for name in engines}
        batches = list(rows.iter_slices(size))[: max(6, 96 // size) + 1]
        for number, batch in enumerate(batches):
            for name, label in engines.items():
                began = time.process_time()
                label(batch)
                if number:  # the first is slower
                    spent[name].append(time.process_time() - began)
        cells = [f"{1000 * np.median(times):.0f} ms" for times in spent.values()]
        print(f"| {size} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
