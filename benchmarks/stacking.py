"""Is a stacker over the members' outputs better than their blend? Saved predictions, no training.

    python benchmarks/stacking.py RUN_OR_NPZ ... [--rows 300,1000,3000] [--draws 3]
                                  [--ways blend,diagonal]

Of each finished run, or of what `levers.py` has saved, the out-of-fold predictions of the members
are combined in several ways. The rows of a fold are answered by what so many rows of the other
folds teach (all of them at last), so that a score is of all rows, however few taught.

- `blend`: a weight a member, as a run answers.
- `diagonal`, `full`: the blend's scores and a number a class, to which are added a weight for each
  member and class, or for each class a weight of every member's every class: multinomial logistic
  regression, drawn towards the blend. How hard follows from three parts of the rows that teach; the
  hardest is the blend itself.
- `plain`: the logistic regression of scikit-learn on the same log probabilities, drawn towards
  nothing, its C picked in the same way.
- `trees`: LightGBM on them, small trees that begin at the blend, stopped early on a part; `columns`
  on the table's categories and numbers too.
- `greedy`: selection with replacement (Caruana et al. 2004) by the AUC.
- `climbed`: the blend's weights moved, one at a time, to where the AUC is highest.

Printed: log loss (negated), one-against-rest AUC (macro average, within folds), macro-F1, of all
but the first way less those of the first; at all rows with a paired interval over groups of
near-duplicates.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
import polars as pl

from foldwise.config.load import load_stored
from foldwise.ensemble.choose import Rows
from foldwise.members.member import Floats
from foldwise.run.folder import RunFolder
from foldwise.run.readers import read_json, read_parquet
from foldwise.split.assignment import SCHEMA, read_assignment
from foldwise.tasks.predictions import values_of
from lever_scores import Scorer, difference, scorer
from lever_tables import grown
from stackers import WAYS, Combine, Saved

METRICS = ("loss", "auc", "macro")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="+", type=Path, metavar="RUN_OR_NPZ")
    parser.add_argument("--rows", default="300,1000,3000")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--ways", default=",".join(WAYS))
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=UserWarning)
    print("| table | rows | teaching | | log loss | AUC | macro-F1 |")
    ways = {name: WAYS[name] for name in options.ways.split(",")}
    for path in options.paths:
        saved = load(path)
        fold = saved.rows.fold
        least = min(int((fold != k).sum()) for k in np.unique(fold))
        for wanted in [*map(int, options.rows.split(",")), None]:
            if wanted is None or wanted < least:
                show(saved, wanted, options.draws, ways)


def load(path: Path) -> Saved:
    """Read a finished run, or the members and the model that levers.py has saved of a table."""
    if path.suffix == ".npz":
        name = path.name.removesuffix(".members.npz")
        with np.load(path) as saved:
            kept = {key: saved[key] for key in saved}
        target, fold, group = (kept.pop(key) for key in ("target", "fold", "group"))
        if (base := path.with_name(f"{name}-base.npz")).exists():
            with np.load(base) as saved:
                kept["model"] = saved["made"]
        members = {key: grown(made, "label") for key, made in kept.items()}
        rows = Rows(members, target, np.arange(len(target)), fold, group)
        return Saved(name, rows, np.empty((len(target), 0)))
    run = RunFolder(path)
    names = list(read_json(run.metrics)["answer"]["weights"])
    tables = {n: pl.read_parquet(path / "members" / n / "oof.parquet") for n in names}
    first = next(iter(tables.values()))
    classes = read_json(run.classes)["classes"]
    ids = {label: number for number, label in enumerate(classes)}
    target = np.array([ids[label] for label in first["target"].cast(pl.String)])
    row = first["row"].to_numpy()
    groups = np.asarray(read_assignment(read_parquet(run.folds, SCHEMA)).groups(row))
    members = {n: values_of(table) for n, table in tables.items()}
    rows = Rows(members, target, row, first["fold"].to_numpy().astype(np.int64), groups)
    data = load_stored(run.config).data
    source = Path(str(data.path))
    if source.suffix != ".parquet" or not source.exists():
        return Saved(path.name, rows, np.empty((len(row), 0)))
    table = pl.read_parquet(source)[row.tolist()]
    coded = [table[c].cast(pl.String).rank("dense") for c in data.categorical]
    columns = [*coded, *(table[name] for name in data.numeric)]
    beside = np.column_stack([c.cast(pl.Float64).fill_null(np.nan).to_numpy() for c in columns])
    return Saved(path.name, rows, beside, len(coded))


def show(saved: Saved, wanted: int | None, draws: int, ways: dict[str, Combine]) -> None:
    """Print a line for each way of combining."""
    name, rows = saved.name, saved.rows
    of_row = np.unique(rows.group, return_inverse=True)[1]
    found: dict[str, list[list[float]]] = {}
    intervals: dict[str, list[str]] = {}
    for draw in range(1 if wanted is None else draws):
        base: dict[str, Scorer] = {}
        for way in ways:
            if way == "columns" and not saved.columns.size:
                continue
            made = combined(saved, ways[way], wanted, draw)
            scorers = {metric: _scorer(rows, made, metric) for metric in METRICS}
            base = base or scorers
            once = np.ones(len(rows.target), dtype=np.int64)
            found.setdefault(way, []).append([scorers[m](once) - base[m](once) for m in METRICS])
            if way == next(iter(ways)):
                found[way][-1] = [scorers[m](once) for m in METRICS]
            elif wanted is None:
                intervals[way] = [difference(base[m], scorers[m], of_row) for m in METRICS]
    for way, values in found.items():
        cells = intervals.get(way) or [f"{value:+.4f}" for value in np.mean(values, axis=0)]
        teaching = wanted or "all"
        told = f"| {name} | {len(rows.target)} | {teaching} | {way} | {' | '.join(cells)} |"
        print(told, flush=True)


def _scorer(rows: Rows, made: Floats, metric: str) -> Scorer:
    # Ranks are compared within folds: weights of different folds may differ in their scale.
    if metric != "auc":
        return scorer(rows.target, made, metric)
    folds = [rows.fold == fold for fold in np.unique(rows.fold)]
    each = [(out, scorer(rows.target[out], made[out], metric)) for out in folds]
    return lambda times: float(np.mean([score(times[out]) for out, score in each]))


def combined(saved: Saved, way: Combine, wanted: int | None, draw: int) -> Floats:
    """Answer each fold's rows by what rows of the other folds teach."""
    rows = saved.rows
    made = np.zeros_like(next(iter(rows.predictions.values())))
    for fold in np.unique(rows.fold):
        others = np.flatnonzero(rows.fold != fold)
        if wanted is not None:
            others = np.sort(np.random.default_rng([draw, fold]).permutation(others)[:wanted])
        out = rows.fold == fold
        made[out] = way(saved.part(others), saved.part(out))
    return made


if __name__ == "__main__":
    main()
