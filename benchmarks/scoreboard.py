"""Is a run's answer the best in its own table? Real and made-up tables, every member beside it.

    python benchmarks/scoreboard.py [CELL ...] [--dir runs-score] [--shared DIR] [--rows N]
                                    [--tokens N] [--steps N] [--minutes N] [--trainer]
                                    [--autogluon PYTHON]

Each cell is a table, its columns and a number of rows, trained with three folds and Foldwise's
defaults; --rows and --tokens bound the rows and the tokens of every cell, --steps sets the
optimizer steps of a fold, and the lines say so. A cell that is finished is kept, a training that
was stopped goes on, and no cell is begun once the minutes are over. Printed for each: the answer's
out-of-fold score on the metric that picks it, with its interval, the best member alone and the
difference, every member, two peers on the same rows (`peers.py`; --trainer and --autogluon ask for
them), what the language model adds, the minutes of its training and of all other members, and the
peak memory of the whole run. Last come the bars: the mean difference, and the lowest.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from first_hour import GOOD, Source, draw, made_flats, made_tickets
from foldwise.config.load import load_config
from foldwise.run.files import write_json, write_text
from foldwise.run.folder import RunFolder
from foldwise.run.readers import read_json
from peers import autogluon, trainer

REPOSITORY = Path(__file__).resolve().parents[1]
DEFAULT = REPOSITORY.parent / "shared" / "data"
BATCH, FOLDS = 32, 3
MEMBERS = ("model", "linear", "embedding", "network", "boosting", "lookup")
PEERS = ("trainer", "autogluon")
DEFAULTS = {"regression": "rmse"}  # of the others: f1_macro


@dataclass(frozen=True)
class Cell:
    """A table, what is read of it, and how much.

    Attributes:
        source: where the rows come from, and the target.
        rows: at most so many, drawn at random.
        tokens: text.max_length.
        settings: further sections of the config; `data` is completed.
    """

    source: Source
    rows: int
    tokens: int = 64
    settings: dict[str, Any] = field(default_factory=dict)


def main() -> None:
    """Train the cells and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="CELL", default=[])
    parser.add_argument("--dir", type=Path, default=Path("runs-score"))
    parser.add_argument("--shared", type=Path, default=DEFAULT)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--tokens", type=int)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--minutes", type=float, default=600.0)
    parser.add_argument("--trainer", action="store_true")
    parser.add_argument("--autogluon", type=Path, metavar="PYTHON")
    options = parser.parse_args()
    if unknown := set(options.names) - set(CELLS):
        sys.exit(f"no cell {', '.join(sorted(unknown))}; there are {', '.join(CELLS)}")
    options.dir.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * options.minutes
    print("| cell | rows | metric | answer | best alone | gain | " + " | ".join(MEMBERS), end="")
    print(" | Trainer | AutoGluon | model adds | minutes, model + rest | GiB |")
    gains = []
    for name in options.names or CELLS:
        run = RunFolder(options.dir / "runs" / name)
        if not run.finished:
            if time.monotonic() > end:
                print(f"| {name} | not begun: the minutes are over |")
                continue
            if not train(name, options):
                print(f"| {name} | failed: see {options.dir / name}.txt |")
                continue
        if options.trainer and not (path := options.dir / f"{name}-trainer.json").exists():
            write_json(path, trainer(run, options.dir / f"{name}.csv"))
        if options.autogluon and not (path := options.dir / f"{name}-autogluon.json").exists():
            write_json(path, autogluon(run, options.dir / f"{name}.csv", options.autogluon))
        told, gain = line(name, run, options.dir)
        gains.append(gain)
        print(told, flush=True)
    if gains:
        mean, least = np.mean(gains), min(gains)
        print(f"{len(gains)} cells: gain {mean:+.4f} in the mean, {least:+.4f} at least")


def train(name: str, options: argparse.Namespace) -> bool:
    """Train a cell in a process of its own; write down its peak memory."""
    cell, table = CELLS[name], options.dir / f"{name}.csv"
    rows = min(cell.rows, options.rows or cell.rows)
    if not table.exists():
        write_text(table, draw(cell.source, options.shared, rows).write_csv())
    settings = dict(cell.settings)
    data = {"path": table.name, "target": cell.source.target, **settings.pop("data")}
    training = dict(settings.pop("training", {}))
    if options.steps:
        epoch = math.ceil(rows * (FOLDS - 1) / FOLDS / BATCH)
        training |= {"batch_size": BATCH, "epochs": max(1, round(options.steps / epoch))}
    config = {
        "run": {"name": name},
        "data": {"missing": {"text": "fill"}, **data},
        "folds": {"n": FOLDS},
        "text": {"max_length": min(cell.tokens, options.tokens or cell.tokens)},
        "training": training,
        "trackers": [],
        **settings,
    }
    write_text(options.dir / f"{name}.yaml", json.dumps(config))
    command = [sys.executable, "-m", "foldwise", "train", f"{name}.yaml"]
    with (options.dir / f"{name}.txt").open("w") as said:
        process = subprocess.Popen(command, cwd=options.dir, stdout=said, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
    write_json(options.dir / f"{name}-memory.json", usage.ru_maxrss * 1024)
    return status == 0


def line(name: str, run: RunFolder, folder: Path) -> tuple[str, float]:
    """Return a table's line, and how far the answer is ahead of the best member alone."""
    scores, manifest = read_json(run.metrics), read_json(run.manifest)
    metric = DEFAULTS.get(load_config(run.config).task, "f1_macro")
    sign = -1 if metric in scores["smaller_is_better"] else 1
    values = {n: each["oof"][metric]["value"] for n, each in scores["members"].items()}
    best = max(values, key=lambda n: sign * values[n])
    oof = scores["oof"][metric]
    # Errors are in the target's units: relative to the best member's, they can be set beside F1.
    gain = sign * (oof["value"] - values[best]) / (1 if sign > 0 else values[best])
    cells = [f"{values[n]:.3f}" if n in values else "" for n in MEMBERS]
    paths = [folder / f"{name}-{peer}.json" for peer in PEERS]
    peers = [read_json(path) if path.exists() else None for path in paths]
    beside = " | ".join("" if score is None else f"{score:.3f}" for score in peers)
    adds = scores["answer"]["adds"].get("model")
    model, rest = (sum(manifest[key].values()) / 60 for key in ("training_s", "members_s"))
    memory = read_json(folder / f"{name}-memory.json") / 2**30
    told = (
        f"| {name} | {scores['rows']['oof']} | {metric} | "
        f"**{oof['value']:.3f}** [{oof['low']:.3f}, {oof['high']:.3f}] | {best} | {gain:+.4f} | "
        f"{' | '.join(cells)} | {beside} | "
        f"{'' if adds is None else format(sign * adds, '+.3f')} | {model:.1f} + {rest:.1f} | "
        f"{memory:.1f} |"
    )
    return told, gain


def made_words(rows: int, rng: np.random.Generator) -> pl.DataFrame:
    """Make up texts whose class is the first of three words: their order tells it."""
    kinds = rng.choice(["alpha", "beta", "gamma"], rows)
    texts = []
    for kind in kinds:
        words = [kind, *rng.permutation(["alpha", "beta", "gamma"])[:2], *rng.choice(GOOD, 3)]
        texts.append(" ".join(words))
    return pl.DataFrame({"text": texts, "kind": kinds})


def made_columns(rows: int, rng: np.random.Generator) -> pl.DataFrame:
    """Make up texts that say nothing beside a category and a number that tell the class."""
    shop, size = rng.choice(list("abcdef"), rows), rng.normal(0, 1, rows).round(2)
    odd = np.isin(shop, ["a", "c", "e"])
    noise = rng.random(rows) < 0.1
    label = np.where(((size > 0) == odd) ^ noise, "keep", "return")
    texts = [" ".join(rng.choice(GOOD, 4)) for _ in range(rows)]
    return pl.DataFrame({"text": texts, "shop": shop, "size": size, "label": label})


def made_both(rows: int, rng: np.random.Generator) -> pl.DataFrame:
    """Make up texts and a category that each tell half of a class of four."""
    mood, shop = rng.integers(0, 2, rows), rng.integers(0, 2, rows)
    said = [["broken", "noisy", "slow"], ["great", "sturdy", "fast"]]
    texts = [
        f"order {rng.integers(10**6)}: {rng.choice(said[m if rng.random() < 0.9 else 1 - m])} item"
        for m in mood
    ]
    label = [
        f"{'north' if s else 'south'}-{'fan' if m else 'foe'}"
        for m, s in zip(mood, shop, strict=True)
    ]
    shops = [f"{'n' if s else 's'}{rng.integers(5)}" for s in shop]
    return pl.DataFrame({"text": texts, "shop": shops, "label": label})


def made_noise(rows: int, rng: np.random.Generator) -> pl.DataFrame:
    """Make up texts and a category that have nothing to do with the class."""
    texts = [" ".join(rng.choice(GOOD, 5)) for _ in range(rows)]
    columns = {"shop": rng.choice(list("abc"), rows), "label": rng.choice(["x", "y", "z"], rows)}
    return pl.DataFrame({"text": texts, **columns})


def of_table(file: str, target: str, rows: int, tokens: int, text: list[str], **given: Any) -> Cell:
    """Return a cell of a real table; `few` and `numbers` choose among its rows."""
    source = Source(file, target, few=given.pop("few", None), numbers=given.pop("numbers", False))
    data = {"text": text, **_of_data(given)}
    return Cell(source, rows, tokens, {"data": data, **given})


def of_made(
    made: Callable[[int, np.random.Generator], pl.DataFrame], target: str, **given: Any
) -> Cell:
    """Return a cell of 600 made-up rows."""
    return Cell(Source("", target, made=made), 600, 32, {"data": _of_data(given), **given})


def _of_data(given: dict[str, Any]) -> dict[str, Any]:
    keys = ("text", "categorical", "numeric", "separator", "rare_classes")
    return {key: given.pop(key) for key in keys if key in given}


NARRATIVE = ["Consumer complaint narrative"]
COMPLAINTS = {"categorical": ["Sub-issue", "ZIP code"], "rare_classes": "drop"}
CLOTHES = {
    "categorical": ["Division Name", "Department Name", "Class Name", "Clothing ID"],
    "numeric": ["Age", "Positive Feedback Count"],
}
REVIEW = ["Title", "Review Text"]
CELLS = {
    **{
        f"narrative-{rows}": of_table(
            "cfpb_dev.csv.gz", "Product", rows, 128, NARRATIVE, rare_classes="drop"
        )
        for rows in (1500, 3000, 9152)
    },
    **{
        f"complaints-{rows}": of_table(
            "cfpb_dev.csv.gz", "Product", rows, 128, NARRATIVE, **COMPLAINTS
        )
        for rows in (1500, 3000, 9152)
    },
    "rating": of_table("women_clothing/train.parquet", "Rating", 1500, 96, REVIEW, **CLOTHES),
    "recommended": of_table(
        "women_clothing/train.parquet", "Recommended IND", 1500, 96, REVIEW, **CLOTHES
    ),
    "alexa": of_table(
        "small/alexa.tsv", "rating", 1500, 64, ["verified_reviews"], categorical=["variation"]
    ),
    "banking": of_table("small/banking77.csv", "category", 2000, 32, ["text"], rare_classes="drop"),
    "titles": of_table(
        "small/netflix.csv",
        "listed_in",
        1500,
        64,
        ["title", "descriptions"],
        categorical=["type_s", "country", "rating"],
        separator=",",
        rare_classes="drop",
        task="multilabel",
    ),
    "ramen": of_table(
        "small/ramen.csv",
        "stars",
        1500,
        32,
        ["variety"],
        categorical=["brand", "style", "country"],
        numbers=True,
        task="regression",
    ),
    "words": of_made(made_words, "kind", text=["text"]),
    "columns": of_made(
        made_columns, "label", text=["text"], categorical=["shop"], numeric=["size"]
    ),
    "both": of_made(made_both, "label", text=["text"], categorical=["shop"]),
    "noise": of_made(made_noise, "label", text=["text"], categorical=["shop"]),
    "tickets": of_made(made_tickets, "topics", text=["ticket"], separator=";", task="multilabel"),
    "flats": of_made(
        made_flats,
        "rent",
        categorical=["district"],
        numeric=["area", "floor"],
        task="regression",
        model={"fusion": "concat"},
    ),
}


if __name__ == "__main__":
    main()
