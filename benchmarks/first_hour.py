"""Does the first hour end well? init, eda, train, report and predict on small tables, by the CLI.

    python benchmarks/first_hour.py [NAME ...] [--dir runs-first] [--shared DIR] [--rows 300]
                                    [--minutes 60]

Twelve tables: samples of six real ones, and made-up ones for an order, label lists, numbers and
categories without text. Each goes through the five commands as a new user would give them; nothing
is edited or set. A table that is finished is kept, a training that was stopped goes on, and no
table is begun once the minutes are over. Printed for each: minutes, the scores of the run's answer,
of the model alone and of the linear model, the difference, and whether a fold model says the same
of every row. It exits with 1 where a step fails, where the answer is far behind the linear model,
or where a model is constant and train's output doesn't say so.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from foldwise.config.load import load_config
from foldwise.run.files import write_json, write_text
from foldwise.run.readers import read_json

REPOSITORY = Path(__file__).resolve().parents[1]
DEFAULT = REPOSITORY.parent / "shared" / "data"
METRICS = {"regression": "r2", "ordinal": "quadratic_kappa"}  # of the others: f1_macro
BEHIND = 0.02


@dataclass(frozen=True)
class Source:
    """Where a table's rows come from.

    Attributes:
        file: under the folder of tables; "" where `made` makes the rows.
        target: the column to predict.
        few: keep the rows of so many of the commonest values of the target.
        numbers: keep the rows whose target is a number.
        made: rows and a random generator -> the table.
    """

    file: str
    target: str
    few: int | None = None
    numbers: bool = False
    made: Callable[[int, np.random.Generator], pl.DataFrame] | None = None


def main() -> None:
    """Take the tables through the five commands and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", default=[])
    parser.add_argument("--dir", type=Path, default=Path("runs-first"))
    parser.add_argument("--shared", type=Path, default=DEFAULT)
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--minutes", type=float, default=60.0)
    options = parser.parse_args()
    if unknown := set(options.names) - set(SOURCES):
        sys.exit(f"no table {', '.join(sorted(unknown))}; there are {', '.join(SOURCES)}")
    options.dir.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * options.minutes
    print(
        "| table | task | rows | minutes | metric | answer | model | linear | answer - linear "
        "| constant folds |"
    )
    bad = []
    for name in options.names or SOURCES:
        done = options.dir / f"{name}.json"
        if not done.exists():
            if time.monotonic() > end:
                print(f"| {name} | not begun: the minutes are over |")
                continue
            source = SOURCES[name]
            table = options.dir / f"{name}.csv"
            if not table.exists():
                frame = draw(source, options.shared, options.rows)
                write_text(table, frame.write_csv())
            failed = five_minutes(name, source.target, options.dir.resolve())
            if failed:
                print(f"| {name} | {failed} failed, see {options.dir / name}-{failed}.txt |")
                bad.append(name)
                continue
        found = read_json(done)
        print(line(name, found), flush=True)
        if found["silent"] or found["behind"]:
            bad.append(name)
    if bad:
        sys.exit(f"failed, or bad: {', '.join(bad)}")


def five_minutes(name: str, target: str, folder: Path) -> str | None:
    """Run the five commands in a folder; return the one that failed, or write what was found."""
    run = f"runs/{name}"
    commands = {
        "init": ["init", f"{name}.csv", "--target", target, "-o", f"{name}.yaml"],
        "eda": ["eda", f"{name}.yaml", "-o", f"{name}.html"],
        "train": ["train", f"{name}.yaml"],
        "report": ["report", run],
        "predict": ["predict", run, f"{name}.csv", "-o", f"{name}-predictions.csv"],
    }
    seconds = {}
    for step, arguments in commands.items():
        if step == "init" and (folder / f"{name}.yaml").exists():
            continue
        (folder / f"{name}-predictions.csv").unlink(missing_ok=True)
        start = time.monotonic()
        command = [sys.executable, "-m", "foldwise", *arguments]
        ended = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        said = ended.stdout + ended.stderr
        write_text(folder / f"{name}-{step}.txt", said)
        if ended.returncode:
            return step
        seconds[step] = round(time.monotonic() - start, 1)
    write_json(folder / f"{name}.json", outcome(name, folder) | {"seconds": seconds})
    return None


def outcome(name: str, folder: Path) -> dict[str, Any]:
    """Read a finished run's scores, and whether what is wrong with it was said."""
    run = folder / "runs" / name
    config, scores = load_config(run / "config.yaml"), read_json(run / "metrics.json")
    metric = METRICS.get(config.task, "f1_macro")
    members = scores["members"]
    entries = {"answer": scores, "model": members["model"], "linear": members["linear"]}
    values = {name: entry["oof"][metric]["value"] for name, entry in entries.items()}
    said = (folder / f"{name}-train.txt").read_text(encoding="utf-8")
    constant = list(scores["constant_predictions"])
    silent = bool(constant) and "the same for nearly every row" not in " ".join(said.split())
    return {
        "task": config.task,
        "rows": scores["rows"]["oof"],
        "metric": metric,
        **values,
        "constant": constant,
        "behind": values["answer"] < values["linear"] - BEHIND,
        "silent": silent,
    }


def line(name: str, found: dict[str, Any]) -> str:
    """Return a table's line."""
    minutes = sum(found["seconds"].values()) / 60
    behind = " (behind)" if found["behind"] else ""
    return (
        f"| {name} | {found['task']} | {found['rows']} | {minutes:.1f} | {found['metric']} "
        f"| {found['answer']:.3f} | {found['model']:.3f} | {found['linear']:.3f} "
        f"| {found['answer'] - found['linear']:+.3f}{behind} "
        f"| {', '.join(found['constant']) or 'none'} |"
    )


def draw(source: Source, shared: Path, rows: int) -> pl.DataFrame:
    """Draw a sample of a table, or make one up."""
    if source.made is not None:
        return source.made(rows, np.random.default_rng(0))
    file = shared / source.file
    if not file.exists():
        sys.exit(f"{file} is not there; --shared names the folder")
    if file.suffix == ".parquet":
        frame = pl.read_parquet(file)
    else:
        separator = "\t" if file.suffix == ".tsv" else ","
        frame = pl.read_csv(file, infer_schema=False, encoding="utf8-lossy", separator=separator)
    frame = frame.rename({column: column.strip() for column in frame.columns})
    target = pl.col(source.target)
    frame = frame.filter(target.is_not_null())
    if source.numbers:
        frame = frame.filter(target.cast(pl.Float64, strict=False).is_not_null())
    if source.few is not None:
        commonest = frame[source.target].value_counts(sort=True).head(source.few)
        frame = frame.filter(target.is_in(commonest[source.target].to_list()))
    return frame.sample(min(rows, frame.height), seed=1)


GOOD = ["great", "works well", "love it", "easy to use", "fast delivery", "sturdy and quiet"]
BAD = ["broken", "waste of money", "stopped working", "slow support", "noisy", "hard to set up"]
TOPICS = {
    "billing": ["an invoice charged twice", "a refund that never came", "the wrong amount"],
    "login": ["a password reset", "a locked account", "two codes to sign in"],
    "delivery": ["a parcel that is late", "a missing box", "the wrong address"],
    "hardware": ["a cracked screen", "a dead battery", "a loose cable"],
}


def made_grades(rows: int, rng: np.random.Generator) -> pl.DataFrame:
    """Make up reviews whose grade from 1 to 5 is how much of them is praise."""
    grades, texts = [], []
    for number in range(rows):
        grade = int(rng.integers(1, 6))
        praise = rng.binomial(5, (grade - 0.5) / 5)
        parts = [*rng.choice(GOOD, praise), *rng.choice(BAD, 5 - praise)]
        grades.append(grade)
        texts.append(f"{', '.join(rng.permutation(parts))} (order {number})")
    shops = rng.choice(["north", "south", "web"], rows)
    return pl.DataFrame({"review": texts, "shop": shops, "grade": grades})


def made_tickets(rows: int, rng: np.random.Generator) -> pl.DataFrame:
    """Make up tickets about one to three topics, joined by a semicolon in the target."""
    topics, texts = [], []
    for number in range(rows):
        chosen = rng.choice(list(TOPICS), int(rng.integers(1, 4)), replace=False)
        texts.append(f"Ticket {number}: " + " and ".join(rng.choice(TOPICS[t]) for t in chosen))
        topics.append(";".join(sorted(chosen)))
    return pl.DataFrame({"ticket": texts, "topics": topics})


def made_flats(rows: int, rng: np.random.Generator) -> pl.DataFrame:
    """Make up flats without text, and their rent."""
    area = rng.normal(70, 20, rows).clip(20, 160).round(1)
    floor, district = rng.integers(0, 13, rows), rng.choice(["old town", "harbour", "hill"], rows)
    dear = np.select([district == "old town", district == "harbour"], [400.0, 150.0], 0.0)
    rent = 9.5 * area + 12 * floor + dear + rng.normal(0, 60, rows)
    columns = {"area": area, "floor": floor, "district": district, "rent": rent.round(2)}
    return pl.DataFrame(columns)


def made_loans(rows: int, rng: np.random.Generator) -> pl.DataFrame:
    """Make up loans without text, and whether they were paid back."""
    income, term = rng.lognormal(10.3, 0.4, rows).round(2), rng.choice([12, 24, 36, 60], rows)
    purpose = rng.choice(["car", "kitchen", "travel"], rows)
    risk = 1.5 * (np.log(income) - 10.3) / 0.4 - (term - 33) / 20 + (purpose == "car")
    paid = rng.random(rows) < 1 / (1 + np.exp(-risk))
    outcome = np.where(paid, "paid", "late")
    columns = {"income": income, "term": term, "purpose": purpose, "outcome": outcome}
    return pl.DataFrame(columns)


SOURCES = {
    "ramen": Source("small/ramen.csv", "stars", numbers=True),
    "titles": Source("small/netflix.csv", "listed_in"),
    "loans": Source("", "outcome", made=made_loans),
    "grades": Source("", "grade", made=made_grades),
    "alexa": Source("small/alexa.tsv", "rating"),
    "banking": Source("small/banking77.csv", "category", few=10),
    "tickets": Source("", "topics", made=made_tickets),
    "flats": Source("", "rent", made=made_flats),
    "complaints": Source("cfpb_dev.csv.gz", "Product"),
    "clothing": Source("women_clothing/train.parquet", "Rating"),
    "recommended": Source("women_clothing/train.parquet", "Recommended IND"),
    "kinds": Source("small/netflix.csv", "type_s"),
}


if __name__ == "__main__":
    main()
