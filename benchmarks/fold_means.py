"""Do weights fitted on single folds suit the mean of all folds? Saved predictions, no training.

    python benchmarks/fold_means.py RUN ...

Out of fold each row is answered by one fold's members, and weights are fitted on that; the holdout
and new rows are answered by the mean over folds, from which a member gains the more, the more its
folds differ. Of each finished run of one class a row that has a holdout, the holdout is answered

- `today`: each fold's blend, by the weights of all out-of-fold rows, then the mean;
- `geometric`: by the same weights, the folds averaged as logarithms;
- `model x`: with the fine-tuned model's weight so many times as large; `all x`: with every weight
  (a lower temperature);
- `corrected`: by weights that were fitted to what the mean's loss out of fold would be. Noise of
  covariance S in what a blend adds up costs about half of tr(H S), where H is the log loss's second
  derivative; the mean of K folds has a K-th of it. S is how the folds differ on the holdout's rows,
  of which no label is read;
- `best`: by the weights that fit the holdout itself, which is more than any rule could reach.

Printed of all but the first: what is better (log loss negated, one-against-rest AUC, macro-F1 of
the most probable classes) with paired intervals over the holdout's rows.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import softmax

from foldwise.config.members import MODEL
from foldwise.decisions.temperature import fit_temperature
from foldwise.ensemble.blend import blend, fit_margins, margins, scores_of
from foldwise.ensemble.choose import Rows
from foldwise.members.member import Floats
from foldwise.run.folder import RunFolder
from foldwise.run.readers import read_json
from foldwise.tasks.predictions import values_of
from lever_scores import difference, scorer
from stacking import load

METRICS = ("loss", "auc", "macro")
FACTORS = (("model", 1.1), ("model", 1.25), ("all", 1.1))


@dataclass(frozen=True)
class Held:
    """A holdout as the members of every fold answer it.

    Attributes:
        scores: log probabilities, float64 (folds, members, n, classes).
        target: class ids, int64 (n,).
    """

    scores: Floats
    target: NDArray[np.int64]

    def mean(self, weights: Floats, *, geometric: bool = False) -> Floats:
        """Return the answer, float64 (n, classes)."""
        each = np.tensordot(self.scores, weights, axes=(1, 0))
        made: Floats = softmax(each.mean(axis=0), axis=1) if geometric else softmax(each, axis=2)
        return made if geometric else made.mean(axis=0)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    options = parser.parse_args()
    print("| table | folds | | log loss | AUC | macro-F1 | weights |")
    for path in options.runs:
        show(path)


def show(path: Path) -> None:
    """Print a line for each way to answer a run's holdout."""
    saved = load(path)
    rows, names = saved.rows, list(saved.rows.predictions)
    held = read_holdout(path, names)
    raw, temperature = fitted(rows)
    weights = raw / temperature
    of_model = np.array([name == MODEL for name in names])
    ways = {"today": (weights, held.mean(weights))}
    ways["geometric"] = weights, held.mean(weights, geometric=True)
    for whose, factor in FACTORS:
        more = np.where(of_model | (whose == "all"), factor * weights, weights)
        ways[f"{whose} x {factor}"] = more, held.mean(more)
    for told, found in {
        "corrected": corrected(rows, held, raw) / temperature,
        "best": lowest(lambda tried: _loss(held.mean(tried), held.target), weights),
    }.items():
        ways[told] = found, held.mean(found)
    once = np.ones(len(held.target), dtype=np.int64)
    at = np.arange(len(held.target))
    scorers = {n: [scorer(held.target, made, m) for m in METRICS] for n, (_, made) in ways.items()}
    first = scorers["today"]
    for way, each in scorers.items():
        pairs = zip(first, each, strict=True)
        cells = [difference(old, new, at) for old, new in pairs]
        if way == "today":
            cells = [f"{score(once):.4f}" for score in first]
        by_name = zip(names, ways[way][0], strict=True)
        told = ", ".join(f"{name} {weight:.2f}" for name, weight in by_name if weight >= 0.005)
        folds = len(held.scores)
        print(f"| {saved.name} | {folds} | {way} | {' | '.join(cells)} | {told} |", flush=True)


def read_holdout(path: Path, names: list[str]) -> Held:
    """Read what each fold's members say of the holdout's rows whose label the run knows."""
    run = RunFolder(path)
    ids = {label: number for number, label in enumerate(read_json(run.classes)["classes"])}
    tables = [
        [
            pl.read_parquet(fold.holdout if name == MODEL else fold.member(name).holdout)
            for name in names
        ]
        for fold in map(run.fold, run.fold_numbers())
    ]
    labels = tables[0][0]["target"].cast(pl.String)
    known = labels.is_in(list(ids)).to_numpy()
    scores = [[scores_of(values_of(table), "label")[known] for table in fold] for fold in tables]
    target = np.array([ids[label] for label in labels.filter(pl.Series(known))])
    return Held(np.array(scores), target)


def fitted(rows: Rows) -> tuple[Floats, float]:
    """Return weights as a run fits them, (members,), and the temperature of their blend."""
    made = list(rows.predictions.values())
    wrong = margins(made, rows.target, "label")
    weights = fit_margins(wrong, rows.target, "label")
    return weights, fit_temperature(blend(weights, made, "label"), rows.target, "class")


def corrected(rows: Rows, held: Held, start: Floats) -> Floats:
    """Return weights fitted to the log loss that a mean of folds would have out of fold."""
    own = np.stack([scores_of(made, "label") for made in rows.predictions.values()])
    folds = len(held.scores)
    middle = held.scores.mean(axis=0)
    apart = held.scores - middle

    def objective(tried: Floats) -> float:
        loss = _loss(softmax(np.tensordot(tried, own, axes=1), axis=1), rows.target)
        chances = softmax(np.tensordot(tried, middle, axes=1), axis=1)
        noise = np.tensordot(apart, tried, axes=(1, 0))
        about = (chances * noise**2).sum(axis=2) - (chances * noise).sum(axis=2) ** 2
        variance = about.sum(axis=0).mean() / (folds - 1)
        return loss - (1 - 1 / folds) * float(variance) / 2

    return lowest(objective, start)


def lowest(objective: Callable[[Floats], float], start: Floats) -> Floats:
    """Return the weights, none negative, at which an objective is lowest."""
    found = minimize(objective, start, bounds=[(0, None)] * len(start), method="L-BFGS-B")
    return np.asarray(found.x)


def _loss(made: Floats, target: NDArray[np.int64]) -> float:
    return -float(np.log(np.maximum(made[np.arange(len(target)), target], 1e-12)).mean())


if __name__ == "__main__":
    main()
