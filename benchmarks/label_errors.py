"""Are planted label errors found? One label in twenty of real tables is changed, then looked for.

    python benchmarks/label_errors.py [--data FOLDER] [NAME ...]

Each table is read with its near-duplicates kept together in five folds. Labels are changed in two
ways: to any other class, or to one that the row's class is mistaken for (drawn by the mean
probability that the linear model gives each other class, which is how people go wrong and much
harder to see). The out-of-fold probabilities come from Foldwise's linear model, trained on the
changed labels. A line of the table of docs/experiments.md is printed for each: precision and recall
of the list, and the precision of its first 100 rows and first twentieth, by probability of the own
label (as the list is ranked) and by its margin to the likeliest other one. Real errors, which these
tables have too, count as false finds.

With a fine-tuned model instead: write a changed table, train on it, and name the run.

    python benchmarks/label_errors.py five-products --write flipped.parquet
    foldwise train CONFIG --set data.path=flipped.parquet
    python benchmarks/label_errors.py five-products --run runs/RUN
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from foldwise.evaluation.label_errors import likely_label_errors
from foldwise.members.linear import Linear
from foldwise.members.member import Columns
from foldwise.split.splitters import deal
from foldwise.table.duplicates import find_duplicates

DEFAULT = Path(__file__).resolve().parents[2] / "shared" / "data"
SHARE = 0.05  # of the labels is changed
FOLDS = 5
WAYS = ("any", "confused")


@dataclass(frozen=True)
class Source:
    """A table, and the columns used of it; `only` keeps rows of these classes."""

    file: str
    target: str
    text: list[str]
    categorical: list[str]
    only: tuple[str, ...] = ()


FIVE = (
    "Debt collection",
    "Credit reporting",
    "Credit card or prepaid card",
    "Student loan",
    "Vehicle loan or lease",
)
NARRATIVE = ["Consumer complaint narrative"]
SOURCES = {
    "five-products": Source("cfpb_dev.csv.gz", "Product", NARRATIVE, ["Sub-issue"], FIVE),
    "complaints": Source("cfpb_dev.csv.gz", "Product", NARRATIVE, ["Sub-issue"]),
    "narratives": Source("cfpb_dev.csv.gz", "Product", NARRATIVE, []),
    "departments": Source(
        "women_clothing/train.parquet", "Department Name", ["Title", "Review Text"], []
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(SOURCES))
    parser.add_argument("--data", type=Path, default=DEFAULT)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", type=Path, help="write the table with any labels changed")
    parser.add_argument("--run", type=Path, help="a run trained on the table that --write wrote")
    options = parser.parse_args()
    names = options.names or list(SOURCES)
    if unknown := sorted(set(names) - set(SOURCES)):
        sys.exit(f"{unknown[0]!r} is not one of {', '.join(SOURCES)}")
    if (options.write or options.run) and len(names) != 1:
        sys.exit("--write and --run are about one table: name it")
    for name in names:
        source = SOURCES[name]
        frame = read(source, options.data)
        classes, target = np.unique(frame[source.target].to_numpy(), return_inverse=True)
        random = np.random.default_rng(options.seed)
        if options.write or options.run:
            given, changed = plant(target, even(len(classes)), random)
            if options.write:
                labels = pl.Series(source.target, classes[given].astype(str))
                frame.with_columns(labels).write_parquet(options.write)
            else:
                rows, probabilities = of_run(options.run, list(classes), given)
                told = report(given[rows], changed[rows], probabilities)
                print(f"| {name} | any | {told}", flush=True)
            continue
        group = find_duplicates(frame.select(source.text), "near", 0.6).group
        clean = out_of_fold(frame, source, target, len(classes), group, options.seed)
        accuracy = (clean.argmax(axis=1) == target).mean()
        for way in WAYS:
            weights = even(len(classes)) if way == "any" else mistaken(target, clean)
            given, changed = plant(target, weights, random)
            found = out_of_fold(frame, source, given, len(classes), group, options.seed)
            told = report(given, changed, found)
            print(f"| {name}, {len(target):,} rows | {accuracy:.3f} | {way} | {told}", flush=True)


def read(source: Source, folder: Path) -> pl.DataFrame:
    """Read the rows that have a label, of classes with at least a row a fold."""
    path = folder / source.file
    if not path.exists():
        sys.exit(f"{path} is not there; --data names the folder of the tables")
    if path.suffix == ".parquet":
        frame = pl.read_parquet(path)
    else:
        frame = pl.read_csv(path, infer_schema=False)
    frame = frame.filter(pl.col(source.target).is_not_null())
    if source.only:
        frame = frame.filter(pl.col(source.target).is_in(source.only))
    return frame.filter(pl.len().over(source.target) >= FOLDS)


def even(classes: int) -> np.ndarray:
    """Return how much each class is taken for each other, (classes, classes): all alike."""
    return np.ones((classes, classes))


def mistaken(target: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return the mean probability of each class over the rows of each class."""
    return np.stack([probabilities[target == c].mean(axis=0) for c in range(target.max() + 1)])


def plant(
    target: np.ndarray, weights: np.ndarray, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Change a share of the labels to other classes; return the labels, and which were changed."""
    given, changed = target.copy(), np.zeros(len(target), dtype=bool)
    for row in random.permutation(len(target))[: round(SHARE * len(target))]:
        others = weights[target[row]].copy()
        others[target[row]] = 0
        given[row] = random.choice(len(others), p=others / others.sum())
        changed[row] = True
    return given, changed


def out_of_fold(
    frame: pl.DataFrame,
    source: Source,
    given: np.ndarray,
    classes: int,
    group: np.ndarray,
    seed: int,
) -> np.ndarray:
    """Return a linear model's probabilities of each row, by one that didn't see its group."""
    fold = deal(given, group, FOLDS, np.random.default_rng(seed))
    probabilities = np.zeros((len(given), classes))
    columns = Columns(tuple(source.text), tuple(source.categorical), ())
    for number in range(FOLDS):
        train, scored = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        model = Linear("label", classes, columns, seed)
        model.fit(frame[train], given[train], np.zeros(len(train), dtype=bool))
        probabilities[scored] = model.predict(frame[scored])
    return probabilities


def of_run(run: Path, classes: list[str], given: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows that a run scored and its probabilities of them, repeats averaged."""
    names = [f"prob_{name}" for name in classes]
    scored = pl.read_parquet(run / "oof.parquet")
    mean = scored.group_by("row").agg(pl.col("target").first(), pl.col(names).mean()).sort("row")
    rows = mean["row"].to_numpy()
    if (
        rows.max() >= len(given)
        or (mean["target"].to_numpy() != np.array(classes)[given[rows]]).any()
    ):
        sys.exit(f"{run} was not trained on the table that --write wrote with this seed")
    return rows, mean.select(names).to_numpy()


def report(given: np.ndarray, changed: np.ndarray, probabilities: np.ndarray) -> str:
    """Say how well the list of likely label errors names the rows that were changed."""
    found = likely_label_errors(given, probabilities)
    own = probabilities[np.arange(len(given)), given]
    rest = probabilities.copy()
    rest[np.arange(len(given)), given] = 0
    margin = own - rest.max(axis=1)
    twentieth = max(1, len(found) // 20)
    cells = [f"{len(found):,}", f"{changed[found].mean():.2f}"]
    cells += [f"{changed[found].sum() / changed.sum():.2f}"]
    for first in (100, twentieth):
        for key in (own, margin):
            ranked = found[np.argsort(key[found], kind="stable")]
            cells.append(f"{changed[ranked[:first]].mean():.2f}")
    return " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
