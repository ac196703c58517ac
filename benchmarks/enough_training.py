"""How many optimizer steps are enough on a small table, and does a tenth of it pick the epoch well?

    python benchmarks/enough_training.py [--minutes 15] [--dir runs-enough] [--shared DIR]

Six real tables, a sample of each, one of two folds, one text column, all-MiniLM-L6-v2, batches of
8, at most 32 tokens. Each is trained for 15, 60, 120, 240 and 480 steps (in whole epochs, as the
schedule ends with one) without picking an epoch (`last`), and for 240 with `inner`. Runs that are
there already are kept, and no new one is begun once the minutes are over; short ones come first,
table by table. The lines printed at the end are those of docs/experiments.md.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from foldwise.commands.quiet import quiet_libraries
from foldwise.config.schema import Config
from foldwise.run.readers import read_json
from foldwise.workflow import cross_validate

REPOSITORY = Path(__file__).resolve().parents[1]
DEFAULT = REPOSITORY.parent / "shared" / "data"
FOLDS, BATCH = 2, 8


@dataclass(frozen=True)
class Table:
    """A sample of a table.

    Attributes:
        file: under the folder of tables.
        text: the column that is read.
        target: the column to predict.
        rows: how many are drawn.
        metric: what is shown.
        settings: what the config needs beside this.
    """

    file: str
    text: str
    target: str
    rows: int
    metric: str
    settings: dict[str, Any]


TABLES = {
    "alexa": Table("small/alexa.tsv", "verified_reviews", "rating", 200, "f1_macro", {}),
    "banking": Table("small/banking77.csv", "text", "category", 200, "f1_macro", {}),
    "complaints": Table(
        "cfpb_dev.csv.gz", "Consumer complaint narrative", "Product", 200, "f1_macro", {}
    ),
    "clothing": Table(
        "women_clothing/train.parquet",
        "Review Text",
        "Rating",
        200,
        "quadratic_kappa",
        {"task": "ordinal"},
    ),
    "ramen": Table("small/ramen.csv", "variety", "stars", 200, "r2", {"task": "regression"}),
    "titles": Table(
        "small/netflix.csv",
        "descriptions",
        "listed_in",
        200,
        "f1_macro",
        {"task": "multilabel", "separator": ","},
    ),
}
# Optimizer steps and selection.rows, those first that tell most for their time.
KINDS = [
    (15, "last"),
    (60, "last"),
    (240, "last"),
    (240, "inner"),
    (120, "last"),
    (480, "last"),
]


def main() -> None:
    """Train what is missing while there is time, then print a line a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--dir", type=Path, default=Path("runs-enough"))
    parser.add_argument("--shared", type=Path, default=DEFAULT)
    options = parser.parse_args()
    quiet_libraries(online=True)
    options.dir.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * options.minutes
    kinds = [(name, *kind) for kind in KINDS for name in TABLES]
    for name, steps, rows in kinds:
        path = options.dir / f"{name}-{steps}-{rows}"
        if time.monotonic() < end and not (path / "metrics.json").exists():
            print(train(name, steps, rows, options.dir, options.shared), flush=True)
    names = [f"{steps} {rows}" for steps, rows in sorted(KINDS)]
    print(f"| table | metric | linear | {' | '.join(names)} |")
    for name in TABLES:
        print(line(name, options.dir))


def train(name: str, steps: int, rows: str, runs: Path, shared: Path) -> str:
    """Train one run and say what it has cost and brought."""
    table = TABLES[name]
    path = sample(name, runs, shared)
    training_rows = pl.read_csv(path, infer_schema=False).height * (FOLDS - 1) / FOLDS
    epoch = math.ceil(training_rows * (0.9 if rows == "inner" else 1.0) / BATCH)
    settings = dict(table.settings)
    data = {"path": str(path), "target": table.target, "text": [table.text]}
    if separator := settings.pop("separator", None):
        data["separator"] = separator
    config = Config.model_validate(
        {
            "run": {"name": f"{name}-{steps}-{rows}", "dir": str(runs)},
            "data": data,
            "folds": {"n": FOLDS, "run": [1]},
            "selection": {"rows": rows},
            "text": {"max_length": 32},
            "training": {"epochs": max(1, round(steps / epoch)), "batch_size": BATCH},
            "trackers": [],
            "baselines": (steps, rows) == KINDS[0],
            "ensemble": "model",
            **settings,
        }
    )
    start = time.process_time()
    cross_validate(config)
    scores = read_json(runs / config.run.name / "metrics.json")
    value = scores["oof"][table.metric]["value"]
    seconds = time.process_time() - start
    return f"{config.run.name}: {table.metric} {value:.3f}, {seconds:.0f} s of CPU"


def sample(name: str, runs: Path, shared: Path) -> Path:
    """Draw a table's sample, once, and return its file."""
    table, path = TABLES[name], runs / f"{name}.csv"
    if path.exists():
        return path
    file = shared / table.file
    if file.suffix == ".parquet":
        frame = pl.read_parquet(file)
    else:
        separator = "\t" if file.suffix == ".tsv" else ","
        frame = pl.read_csv(file, infer_schema=False, encoding="utf8-lossy", separator=separator)
    frame = frame.rename({column: column.strip() for column in frame.columns})
    frame = frame.select(table.text, table.target).cast(pl.String).drop_nulls()
    if table.settings.get("task") == "regression":
        number = pl.col(table.target).cast(pl.Float64, strict=False)
        frame = frame.filter(number.is_not_null())
    elif "separator" not in table.settings:
        counts = frame[table.target].value_counts(sort=True).head(10)
        frame = frame.filter(pl.col(table.target).is_in(counts[table.target].to_list()))
    frame = frame.sample(table.rows, seed=1)
    if "separator" in table.settings:
        # Labels with fewer rows than a sample of this size can learn from are left out of cells.
        labels = frame[table.target].str.split(",").list.eval(pl.element().str.strip_chars())
        often = labels.explode().value_counts(sort=True).head(8)[table.target].to_list()
        kept = labels.list.eval(pl.element().filter(pl.element().is_in(often))).list.join(",")
        frame = frame.with_columns(kept).filter(pl.col(table.target) != "")
    elif table.settings.get("task") != "regression":
        least = frame[table.target].value_counts().filter(pl.col("count") >= 6)
        frame = frame.filter(pl.col(table.target).is_in(least[table.target].to_list()))
    frame.write_csv(path)
    return path


def line(name: str, runs: Path) -> str:
    """Return a table's line: its linear baseline, then every run that is there."""
    metric, linear, cells = TABLES[name].metric, "", []
    for steps, rows in sorted(KINDS):
        path = runs / f"{name}-{steps}-{rows}" / "metrics.json"
        if not path.exists():
            cells.append("")
            continue
        scores = read_json(path)
        cells.append(f"{scores['oof'][metric]['value']:.3f}")
        if scores["baselines"]:
            *_, best = scores["baselines"].values()  # the linear model comes last
            linear = f"{best['oof'][metric]['value']:.3f}"
    return f"| {name} | {metric} | {linear} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
