"""How often does `foldwise drift` cry wolf, and how much drift does it see? Real tables, dealt.

    python benchmarks/drift.py [--data FOLDER] [--draws 200] [--first 10000] [NAME ...]

Of each table training rows and new rows are drawn at random, near-duplicates once, so there is no
drift: a line says in what share of the draws any comparison was called clear (at most 5% may be),
in what share one counted as drift, and in what share the classifier alone had p below 5%. No seed
here has been used to choose anything: whoever tunes on these takes later ones for the figures.
Then CFPB complaints by time (new rows are the latest), and reviews of one department among others'.
Predictions stand in for a run's: the label, with a made-up confidence. `folds` shows on made-up
numbers why the classifier scores half of the rows once, and isn't cross-validated.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
from scipy.stats import norm

from foldwise.config.schema import Config
from foldwise.drift.look import Drift, find_drift
from foldwise.drift.sides import Sides
from foldwise.metrics.metric import pairs_in_order
from foldwise.table.duplicates import find_duplicates

FIRST = 10_000  # seed; those below 1,000 were used while the checks were made
DEFAULT = Path(__file__).resolve().parents[2] / "shared" / "data"


@dataclass(frozen=True)
class Source:
    """A table, the columns used of it, by what it drifts, rows drawn, words kept of a text."""

    file: str
    target: str
    text: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()
    by: str = ""
    training: int = 1500
    new: int = 400
    words: int | None = None


SOURCES = {
    "cfpb": Source(
        "cfpb_dev.csv.gz",
        "Product",
        ("Consumer complaint narrative",),
        ("Sub-issue", "ZIP code"),
        by="Date received",
    ),
    "cfpb-short": Source(
        "cfpb_dev.csv.gz",
        "Product",
        ("Consumer complaint narrative",),
        ("Sub-issue", "ZIP code"),
        by="Date received",
        training=800,
        new=300,
        words=60,
    ),
    "clothing": Source(
        "women_clothing/train.parquet",
        "Rating",
        ("Review Text",),
        ("Class Name",),
        ("Age", "Positive Feedback Count"),
        by="Department Name",
    ),
    "clothing-columns": Source(
        "women_clothing/train.parquet",
        "Rating",
        (),
        ("Class Name", "Clothing ID"),
        ("Age", "Positive Feedback Count"),
        by="Department Name",
    ),
    "ramen": Source(
        "small/ramen.csv", "stars", (), ("brand", "style", "country"), (), "", 1200, 600
    ),
}


def read(source: Source, folder: Path) -> pl.DataFrame:
    """Read a table, and keep one row of each group of near-duplicates."""
    path = folder / source.file
    if path.suffix == ".parquet":
        frame = pl.read_parquet(path)
    else:
        frame = pl.read_csv(path, infer_schema_length=0)
    names = [*source.text, *source.categorical]
    frame = frame.with_columns(pl.col(names).cast(pl.String), pl.col(source.numeric).cast(float))
    if source.text:
        group = find_duplicates(frame.select(source.text), "near", 0.6).group
        frame = frame[np.sort(np.unique(group, return_index=True)[1])]
    if source.words is not None:
        cut = pl.col(source.text).str.split(" ").list.head(source.words).list.join(" ")
        frame = frame.with_columns(cut)
    return frame.with_row_index("row")


def compare(training: pl.DataFrame, new: pl.DataFrame, source: Source, seed: int) -> Drift:
    """Compare two parts of a table as the command does."""
    config = Config.model_validate(
        {
            "run": {"name": "benchmark"},
            "data": {
                "path": "table.csv",
                "target": source.target,
                "text": list(source.text),
                "categorical": list(source.categorical),
                "numeric": list(source.numeric),
            },
            "folds": {"seed": seed},
            "model": {"fusion": "text" if source.text else "concat"},
        }
    )
    filled = pl.col(source.categorical).fill_null("missing")
    sides = [part.with_columns(filled) for part in (training, new)]
    rows = (training.height, new.height)
    found = Sides(
        *sides, "", rows[1], rows[1], rows[0], rows[0], 0, 0, 0, ((0, rows[0]), (0, rows[1]))
    )
    answers = [_answered(part, source, seed + place) for place, part in enumerate(sides)]
    return find_drift(found, answers[1], answers[0], config, SimpleNamespace(columns=[]))


def _answered(rows: pl.DataFrame, source: Source, seed: int) -> pl.DataFrame:
    random = np.random.default_rng([seed, 9])
    sure = random.beta(4, 2, rows.height)
    label = rows[source.target].cast(pl.String)
    return pl.DataFrame({"prediction": label, "prob_a": sure, "prob_b": 1 - sure})


def without_drift(name: str, source: Source, frame: pl.DataFrame, seeds: range) -> None:
    """Print how often parts of one table are told apart."""
    clear = found = classifier = 0
    kinds = dict[str, list[bool]]()
    began = time.process_time()
    for seed in seeds:
        order = np.random.default_rng(seed).permutation(frame.height)
        training = frame[np.sort(order[: source.training])]
        new = frame[np.sort(order[source.training : source.training + source.new])]
        drift = compare(training, new, source, seed)
        clear += bool(drift.clear)
        found += bool(drift.found)
        for check in drift.tested:
            kinds.setdefault(check.kind, []).append(check.p <= 0.05)
        if drift.apart is not None:
            classifier += drift.apart.p <= 0.05
    draws = len(seeds)
    seconds = (time.process_time() - began) / draws
    shares = ", ".join(f"{kind} {np.mean(low):.3f}" for kind, low in sorted(kinds.items()))
    print(
        f"| {name} | {source.training} | {source.new} | {clear / draws:.3f} | {found / draws:.3f} "
        f"| {classifier / draws:.3f} | {seconds:.1f} s | p <= 0.05: {shares}",
        flush=True,
    )


def with_drift(name: str, source: Source, frame: pl.DataFrame, seeds: range) -> None:
    """Print how often rows of another time, or another department, are told apart."""
    frame = frame.sort(source.by)
    places = np.arange(frame.height)
    if source.by == "Date received":
        early, late = places[: frame.height // 2], places[-frame.height // 4 :]
    else:
        values = frame[source.by].to_numpy()
        early, late = places, places[values == "Dresses"]
    for new in (50, 150, 400):
        found, told, sizes, aucs = 0, 0, [], []
        for seed in seeds:
            random = np.random.default_rng(seed)
            training = np.sort(random.choice(early, source.training, replace=False))
            others = np.setdiff1d(late, training)
            drawn = np.sort(random.choice(others, new, replace=False))
            drift = compare(frame[training], frame[drawn], source, seed)
            found += bool(drift.found)
            sizes.append(drift.size)
            told += any(check.kind == "classifier" for check in drift.clear)
            aucs.append(drift.apart.auc if drift.apart else np.nan)
        print(
            f"| {name} by {source.by} | {source.training} | {new} | {found / len(seeds):.2f} | "
            f"by the classifier {told / len(seeds):.2f} | "
            f"{np.mean(sizes):.2f} | {np.mean(aucs):.2f} |",
            flush=True,
        )


def folds_against_half(draws: int = 1500, rows: int = 450, width: int = 60) -> None:
    """Print how far an AUC strays under one source: mean of five folds, and of one half.

    The classifier is the difference of the tables' means, on independent normal columns. In units
    of the variance of Mann and Whitney's statistic on rows that have no part in their own scores.
    """
    for name, sizes in (("alike", np.ones(width)), ("falling", 1 / np.arange(1, width + 1))):
        random = np.random.default_rng(777_000)
        is_new = np.arange(rows) >= rows * 2 // 3
        far: dict[str, list[float]] = {"five folds": [], "half": []}
        for _ in range(draws):
            matrix = random.normal(size=(rows, width)) * sizes
            for how, parts in (("five folds", 5), ("half", 2)):
                part = np.empty(rows, dtype=int)
                for side in (is_new, ~is_new):
                    part[side] = random.permutation(side.sum()) % parts
                aucs, spreads = [], []
                for number in range(parts if how == "five folds" else 1):
                    out = part == number
                    fit = [matrix[~out & side].mean(axis=0) for side in (is_new, ~is_new)]
                    aucs.append(pairs_in_order(matrix[out] @ (fit[0] - fit[1]), is_new[out]))
                    pairs = is_new[out].sum() * (~is_new[out]).sum()
                    spreads.append((out.sum() + 1) / (12 * pairs))
                far[how].append((np.mean(aucs) - 0.5) * len(aucs) / np.sqrt(sum(spreads)))
        for how, z in far.items():
            wrong = np.mean(norm.sf(z) <= 0.05)
            print(f"| {name} columns, {how} | variance {np.var(z):.2f} | p <= 0.05: {wrong:.3f} |")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="of: folds, " + ", ".join(SOURCES))
    parser.add_argument("--data", type=Path, default=DEFAULT)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--first", type=int, default=FIRST, help="seed of the first draw")
    given = parser.parse_args(argv)
    for name in given.names or ["folds", *SOURCES]:
        if name == "folds":
            folds_against_half()
            continue
        source = SOURCES[name]
        frame = read(source, given.data)
        seeds = range(given.first, given.first + given.draws)
        without_drift(name, source, frame, seeds)
        if source.by:
            with_drift(name, source, frame, seeds[: max(1, given.draws // 10)])


if __name__ == "__main__":
    main()
