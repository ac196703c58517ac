"""How often does `foldwise drift` cry wolf, and how much drift does it see? Real tables, dealt.

    python benchmarks/drift.py [--data FOLDER] [--draws 200] [NAME ...]

Of each table training rows and new rows are drawn at random, near-duplicates once, so there is no
drift: a line says in what share of the draws any comparison was called clear (at most 5% may be),
in what share one counted as drift, in what share the classifier alone had p below 5%, and by how
much the variance of its AUC exceeds that of independent folds (`WIDER` in drift/classifier.py).
Then CFPB complaints by time (new rows are the latest), and reviews of one department among others'.
Predictions stand in for a run's: the label, with a made-up confidence.
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
from foldwise.table.duplicates import find_duplicates

DEFAULT = Path(__file__).resolve().parents[2] / "shared" / "data"


@dataclass(frozen=True)
class Source:
    """A table, the columns used of it, and by what it drifts."""

    file: str
    target: str
    text: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()
    by: str = ""
    training: int = 1500
    new: int = 400


SOURCES = {
    "cfpb": Source(
        "cfpb_dev.csv.gz",
        "Product",
        ("Consumer complaint narrative",),
        ("Sub-issue", "ZIP code"),
        by="Date received",
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


def without_drift(name: str, source: Source, frame: pl.DataFrame, draws: int) -> None:
    """Print how often parts of one table are told apart."""
    clear = found = classifier = 0
    zs, kinds = [], dict[str, list[bool]]()
    began = time.perf_counter()
    for seed in range(draws):
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
            zs.append(norm.isf(drift.apart.p))
    from foldwise.drift.classifier import WIDER

    wider = WIDER * float(np.mean(np.square(zs)))
    seconds = (time.perf_counter() - began) / draws
    shares = ", ".join(f"{kind} {np.mean(low):.3f}" for kind, low in sorted(kinds.items()))
    print(
        f"| {name} | {source.training} | {source.new} | {clear / draws:.3f} | {found / draws:.3f} "
        f"| {classifier / draws:.3f} | {wider:.2f} | {seconds:.1f} s | p <= 0.05: {shares}",
        flush=True,
    )


def with_drift(name: str, source: Source, frame: pl.DataFrame, draws: int) -> None:
    """Print how often rows of another time, or another department, are told apart."""
    frame = frame.sort(source.by)
    places = np.arange(frame.height)
    if source.by == "Date received":
        early, late = places[: frame.height // 2], places[-frame.height // 4 :]
    else:
        values = frame[source.by].to_numpy()
        early, late = places, places[values == "Dresses"]
    for new in (50, 150, 400):
        found, sizes, aucs = 0, [], []
        for seed in range(draws):
            random = np.random.default_rng(seed)
            training = np.sort(random.choice(early, source.training, replace=False))
            others = np.setdiff1d(late, training)
            drawn = np.sort(random.choice(others, new, replace=False))
            drift = compare(frame[training], frame[drawn], source, seed)
            found += bool(drift.found)
            sizes.append(drift.size)
            aucs.append(drift.apart.auc if drift.apart else np.nan)
        print(
            f"| {name} by {source.by} | {source.training} | {new} | {found / draws:.2f} | "
            f"{np.mean(sizes):.2f} | {np.mean(aucs):.2f} |",
            flush=True,
        )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="of: " + ", ".join(SOURCES))
    parser.add_argument("--data", type=Path, default=DEFAULT)
    parser.add_argument("--draws", type=int, default=200)
    given = parser.parse_args(argv)
    for name in given.names or SOURCES:
        source = SOURCES[name]
        frame = read(source, given.data)
        without_drift(name, source, frame, given.draws)
        if source.by:
            with_drift(name, source, frame, max(1, given.draws // 10))


if __name__ == "__main__":
    main()
