"""Does the out-of-fold interval of a run's answer hold on new rows as often as its model's does?

    python benchmarks/honest.py [--draws 20] [--rows 2000] [--dir runs-honest] [--shared DIR]

Each draw takes other rows of the clothing reviews (rating by text and columns): so many for three
folds, as many more for a holdout that nothing sees. The backbone is a small one with random
weights, two blocks of 64 units, so that a draw takes a minute: what is asked is whether the
estimate is honest, not how good the model is. A draw that is finished is kept. Counted for the
answer, the model and every other member: draws whose holdout score lies within the 95% interval
that cross-validation gave, above it and below it, on macro-F1 and accuracy. The holdout is answered
by the mean of three folds, the out-of-fold rows by one, so scores above the interval are to be
expected.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import polars as pl
import torch
from transformers import AutoTokenizer, BertConfig, BertModel

from foldwise.config.schema import Config
from foldwise.models.resolve import resolve_backbone
from foldwise.run.readers import read_json
from foldwise.workflow import cross_validate

DEFAULT = Path(__file__).resolve().parents[2] / "shared" / "data"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
METRICS = ("f1_macro", "accuracy")


def main() -> None:
    """Train the draws and count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--dir", type=Path, default=Path("runs-honest"))
    parser.add_argument("--shared", type=Path, default=DEFAULT)
    options = parser.parse_args()
    folder = options.dir.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    table = pl.read_parquet(options.shared / "women_clothing" / "train.parquet")
    backbone = small_backbone(folder / "backbone")
    counts: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    for draw in range(options.draws):
        for name, scores in scores_of(table, draw, options.rows, folder, backbone).items():
            for metric in METRICS:
                low, high = (scores["oof"][metric][end] for end in ("low", "high"))
                value = scores["holdout"][metric]["value"]
                counts[name, metric][0 if low <= value <= high else 1 if value > high else 2] += 1
        print(f"draw {draw + 1} of {options.draws}", flush=True)
    print("| member | metric | within | above | below |")
    for (name, metric), (within, above, below) in counts.items():
        print(f"| {name} | {metric} | {within} | {above} | {below} |")


def scores_of(table: pl.DataFrame, draw: int, rows: int, folder: Path, backbone: Path) -> dict:
    """Return a draw's scores out of fold and on the holdout, of the answer and each member."""
    run = folder / "runs" / f"draw-{draw}"
    if not (run / "metrics.json").exists():
        drawn = table.sample(2 * rows, seed=draw, shuffle=True)
        drawn[:rows].write_parquet(folder / f"{draw}.parquet")
        drawn[rows:].write_parquet(folder / f"{draw}-held.parquet")
        cross_validate(
            Config.model_validate(
                {
                    "run": {"name": run.name, "dir": str(run.parent), "seed": draw},
                    "data": {
                        "path": str(folder / f"{draw}.parquet"),
                        "target": "Rating",
                        "text": ["Title", "Review Text"],
                        "categorical": ["Department Name", "Class Name"],
                        "numeric": ["Age", "Positive Feedback Count"],
                        "missing": {"text": "fill"},
                    },
                    "holdout": {"path": str(folder / f"{draw}-held.parquet")},
                    "folds": {"n": 3},
                    "text": {"max_length": 48},
                    "model": {"backbone": str(backbone)},
                    "optimizer": {"lr": 2e-3, "head_lr": 2e-3, "layer_decay": 1.0},
                    "training": {"epochs": 4},
                    "trackers": [],
                }
            )
        )
    metrics = read_json(run / "metrics.json")
    return {"answer": metrics, **metrics["members"]}


def small_backbone(folder: Path) -> Path:
    """Write a small backbone of random weights with MiniLM's tokenizer, once."""
    if not (folder / "config.json").exists():
        tokenizer = AutoTokenizer.from_pretrained(resolve_backbone(MINILM).folder)
        tokenizer.save_pretrained(folder)
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=128,
            max_position_embeddings=64,
        )
        BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


if __name__ == "__main__":
    main()
