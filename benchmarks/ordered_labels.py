"""How should labels in an order be named where quadratic kappa judges? Saved predictions.

    python benchmarks/ordered_labels.py RUN_OR_NPZ ...

Of each finished run, or of what `levers.py` has saved, whose classes are in an order (ratings), the
rows of a fold are answered by a blend whose weights the other folds' rows chose, and named

- `likeliest`: by the most probable label; `median`: by that; `rounded`: by the mean rank, rounded;
- `matched`: by the mean rank and the cutoffs that a run chooses (decisions/cutoffs.py);
- `searched`: by the mean rank and cutoffs that were moved, one at a time, to where kappa is highest
  on the other folds' rows.

Nothing is trained. Printed for each: quadratic kappa, what `matched` adds to the median with a
paired 95% interval over groups of near-duplicates, the best member's kappa by its median, and the
mean absolute error of two of them.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import cohen_kappa_score

from foldwise.decisions.cutoffs import matched_cutoffs, mean_ranks, ranks_of
from foldwise.ensemble.blend import blend, fit_weights
from foldwise.ensemble.choose import Rows
from foldwise.members.member import Floats
from lever_scores import difference
from stacking import load

Ids = NDArray[np.int64]
STEPS = (0.3, 0.15, 0.07)
WAYS = ("likeliest", "median", "rounded", "matched", "searched")


def main() -> None:
    """Print a line for each run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="+", type=Path, metavar="RUN_OR_NPZ")
    options = parser.parse_args()
    print(f"| table | rows | {' | '.join(WAYS)} | matched adds | best member | MAE |")
    for path in options.paths:
        saved = load(path)
        print(f"| {saved.name} | {' | '.join(line(saved.rows))} |", flush=True)


def line(rows: Rows) -> list[str]:
    """Return the cells of a run's line."""
    target, found = rows.target, named(rows)
    once = np.ones(len(target), dtype=np.int64)
    of_row = np.unique(rows.group, return_inverse=True)[1]
    adds = difference(_scorer(target, found["median"]), _scorer(target, found["matched"]), of_row)
    best = max(_scorer(target, median(made))(once) for made in rows.predictions.values())
    errors = [float(np.abs(found[way] - target).mean()) for way in ("median", "matched")]
    scores = [f"{_scorer(target, found[way])(once):.3f}" for way in WAYS]
    return [f"{len(target):,}", *scores, adds, f"{best:.3f}", " ".join(f"{e:.3f}" for e in errors)]


def named(rows: Rows) -> dict[str, Ids]:
    """Return the ranks that each way names, each fold's by what the others say."""
    made = {way: np.zeros(len(rows.target), dtype=np.int64) for way in WAYS}
    for fold in np.unique(rows.fold):
        out = rows.fold == fold
        known, new = rows.part(~out), rows.part(out)
        weights = fit_weights(list(known.predictions.values()), known.target, "label")
        taught, seen = (blend(weights, list(p.predictions.values()), "label") for p in (known, new))
        top = seen.shape[1] - 1
        made["likeliest"][out] = seen.argmax(axis=1)
        made["median"][out] = median(seen)
        made["rounded"][out] = np.clip(np.round(mean_ranks(seen)), 0, top)
        made["matched"][out] = ranks_of(seen, matched_cutoffs(taught, known.target))
        made["searched"][out] = ranks_of(seen, searched(taught, known.target))
    return made


def median(probabilities: Floats) -> Ids:
    """Return each row's median rank, (n,)."""
    reaching = probabilities[:, ::-1].cumsum(axis=1)[:, ::-1]
    ranks: Ids = (reaching[:, 1:] > 0.5).sum(axis=1)
    return ranks


def searched(probabilities: Floats, target: Ids) -> Floats:
    """Return cutoffs with a large kappa on these rows, (classes - 1,)."""
    cutoffs: Floats = np.arange(probabilities.shape[1] - 1) + 0.5
    best = kappa(target, ranks_of(probabilities, cutoffs))
    for step in STEPS:
        for place in [*range(len(cutoffs))] * 3:
            for move in (-step, step):
                tried = cutoffs.copy()
                tried[place] += move
                rising = bool((np.diff(tried) > 0).all())
                if rising and (worth := kappa(target, ranks_of(probabilities, tried))) > best:
                    best, cutoffs = worth, tried
    return cutoffs


def kappa(target: Ids, ranks: Ids, times: Ids | None = None) -> float:
    """Return quadratic kappa, rows counting so many times."""
    return float(cohen_kappa_score(target, ranks, weights="quadratic", sample_weight=times))


def _scorer(target: Ids, ranks: Ids) -> Any:
    return lambda times: kappa(target, ranks, times)


if __name__ == "__main__":
    main()
