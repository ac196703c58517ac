"""MulTaBench's protocol on clothing reviews: the run's answer beside published systems.

    python benchmarks/multabench.py [--splits 0,1,2,3,4] [--dir runs-multabench] [--shared DIR]
                                    [--folds 5] [--set KEY=VALUE ...]

Of each of the benchmark's five splits the 10,000 training rows are cross-validated, with Foldwise's
defaults for this table, and the 1,878 test rows are a holdout that nothing sees. The score is the
benchmark's: one-against-rest AUC, macro average. A split that is finished is kept and a training
that was stopped goes on; one takes 5 fine-tunings of 8,000 reviews. Printed for each split: the AUC
of the answer and of each member on the test rows, and last the mean of the splits.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from foldwise.config.load import load_config
from foldwise.run.files import write_json, write_parquet
from foldwise.run.readers import read_json
from foldwise.workflow import cross_validate

DEFAULT = Path(__file__).resolve().parents[2] / "shared" / "data"
METRIC = "auroc_macro"


def main() -> None:
    """Train the splits and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--splits", default="0,1,2,3,4")
    parser.add_argument("--dir", type=Path, default=Path("runs-multabench"))
    parser.add_argument("--shared", type=Path, default=DEFAULT)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    options = parser.parse_args()
    options.dir.mkdir(parents=True, exist_ok=True)
    found: list[dict[str, float]] = []
    for split in map(int, options.splits.split(",")):
        found.append(scores_of(split, options))
        print(
            f"split {split}: " + ", ".join(f"{k} {v:.4f}" for k, v in found[-1].items()), flush=True
        )
    for name in found[0]:
        print(f"{name}: {np.mean([scores[name] for scores in found]):.4f}")


def scores_of(split: int, options: argparse.Namespace) -> dict[str, float]:
    """Return the AUC on a split's test rows, of the answer and of each member."""
    folder = options.dir.resolve()
    run = folder / "runs" / f"split-{split}"
    if not (run / "metrics.json").exists():
        table = pl.read_parquet(options.shared / "women_clothing" / "train.parquet")
        splits = pl.read_parquet(options.shared / "multabench" / "clothing_splits.parquet")
        rows = splits.filter(pl.col("split") == split)
        for role in ("train", "test"):
            chosen = rows.filter(pl.col("role") == role)["row"].to_list()
            write_parquet(folder / f"{split}-{role}.parquet", table[chosen])
        values: dict[str, Any] = {
            "run": {"name": run.name, "dir": str(run.parent), "seed": split},
            "data": {
                "path": str(folder / f"{split}-train.parquet"),
                "target": "Rating",
                "text": ["Title", "Review Text"],
                "categorical": ["Division Name", "Department Name", "Class Name", "Clothing ID"],
                "numeric": ["Age", "Recommended IND", "Positive Feedback Count"],
                "missing": {"text": "fill"},
            },
            "holdout": {"path": str(folder / f"{split}-test.parquet")},
            "folds": {"n": options.folds},
            "selection": {"metric": METRIC},
            "metrics": [METRIC, "f1_macro", "accuracy", "log_loss"],
            "text": {"max_length": 128},
            "loss": {"class_weights": "none"},
            "trackers": [],
        }
        write_json(folder / f"{split}.yaml", values)
        cross_validate(load_config(folder / f"{split}.yaml", options.overrides))
    metrics = read_json(run / "metrics.json")
    entries = {"answer": metrics, **metrics["members"]}
    return {name: entry["holdout"][METRIC]["value"] for name, entry in entries.items()}


if __name__ == "__main__":
    main()
