"""Which rule chooses best between a member alone and a blend? Saved predictions, no training.

    python benchmarks/choices.py RUN_OR_NPZ ... [--draws 4] [--cells 300,700] [--rows 200,500,1000]

Of each finished run of one class a row, or of what `levers.py` has saved, whole groups of
out-of-fold rows are drawn. Every rule chooses weights by macro-F1 as a run does (choose.py), from
the rows at hand and the blend cross-fitted in them.

- `alone`: the best member. `0`, `0.5`, `1` (what runs do) and so on: that member where it is ahead
  of the blend by more than so many standard errors of the difference, by 60 resamples of groups,
  else the blend; classes are named by the class weights of a run (class_weights.py). `blend`:
  always the blend.
- `power ...`: as `1`, but with another power of the class weights (0 names the most probable
  class); `picked`: with the one of these that scores highest on the rows at hand.

Two measures, each less the best single member *on the rows that score*, which has luck on its side:

- `cells`: so many rows are answered as a run's out-of-fold rows are, each fold by what the others
  choose; at last all rows.
- `new rows`: weights chosen on so many rows answer the rest of the table.

Printed by table: the mean, then over all draws the mean, the fifth percentile, the lowest, and the
mean of what a rule changes against `1` with its standard error.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from foldwise.decisions.class_weights import POWERS as OF_METRIC
from foldwise.decisions.class_weights import class_weights, weighed
from foldwise.ensemble.blend import blend, fit_margins, margins
from foldwise.ensemble.choose import MARGIN, Rows, parts_of
from foldwise.members.member import Floats
from lever_scores import scorer
from stacking import load

RESAMPLES = 60
STEPS = (0.0, 0.5, MARGIN, 1.5, 2.0)
BEFORE = f"{MARGIN:g}"
POWERS = (0.0, 0.25, 0.4, OF_METRIC["f1_macro"], 1.0)

Rule = tuple[Floats, Floats]  # weights of the members, and of the classes
Found = dict[str, list[tuple[str, float]]]  # rule -> (table, gain)


def main() -> None:
    """Draw, choose, score and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="+", type=Path, metavar="RUN_OR_NPZ")
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--cells", default="300,700")
    parser.add_argument("--rows", default="200,500,1000")
    options = parser.parse_args()
    cells: Found = {}
    new: Found = {}
    for path in options.paths:
        saved = load(path)
        rows, name = saved.rows, saved.name
        n = len(rows.target)
        for part in [*drawn(rows, options.cells, options.draws, 0.7), rows]:
            _keep(cells, name, of_folds(part))
        for part in drawn(rows, options.rows, options.draws, 0.67):
            rest = rows.part(~np.isin(rows.group, np.unique(part.group)))
            _keep(new, name, gains(rest, {k: use(w, rest) for k, w in chosen(part).items()}))
        print(f"{name}: {n} rows", flush=True)
    for title, found in (("cells", cells), ("new rows", new)):
        if found:
            show(title, found)


def drawn(rows: Rows, sizes: str, draws: int, share: float) -> Iterator[Rows]:
    """Yield draws of whole groups, of each size that leaves enough of the table."""
    known, of_row = np.unique(rows.group, return_inverse=True)
    for size in map(int, sizes.split(",")):
        for draw in range(draws if size <= share * len(of_row) else 0):
            order = np.random.default_rng([draw, size]).permutation(len(known))
            held = np.cumsum(np.bincount(of_row)[order])
            taken = order[: int(np.searchsorted(held, size)) + 1]
            yield rows.part(np.isin(of_row, taken))


def of_folds(rows: Rows) -> dict[str, float]:
    """Answer each fold's rows by what the others choose; return each rule's gain."""
    made: dict[str, Floats] = {}
    for fold in np.unique(rows.fold):
        out = rows.fold == fold
        part = rows.part(out)
        for rule, weights in chosen(rows.part(~out)).items():
            whole = made.setdefault(rule, np.zeros_like(next(iter(rows.predictions.values()))))
            whole[out] = use(weights, part)
    return gains(rows, made)


def chosen(rows: Rows) -> dict[str, Rule]:
    """Return what each rule chooses on rows."""
    made, target = list(rows.predictions.values()), rows.target
    wrong, parts = margins(made, target, "label"), parts_of(rows.group, 0)
    whole, blended = fit_margins(wrong, target, "label"), np.empty_like(made[0])
    for part in np.unique(parts):
        out = parts == part
        weights = fit_margins(wrong[:, ~out], target[~out], "label", start=whole)
        blended[out] = blend(weights, [each[out] for each in made], "label")
    classes = [class_weights(target, blended.shape[1], power) for power in POWERS]
    scorers = [scorer(target, each, "macro") for each in made]
    named = [scorer(target, weighed(blended, each), "macro") for each in classes]
    once, times = np.ones(len(target), dtype=np.int64), list(_times(rows.group))
    scores, reached = [score(once) for score in scorers], [score(once) for score in named]
    best, usual = int(np.argmax(scores)), POWERS.index(OF_METRIC["f1_macro"])

    def rule(step: float, power: int) -> Rule:
        noise = np.std([scorers[best](each) - named[power](each) for each in times])
        lead = scores[best] - reached[power]
        return alone if lead > 0 and lead > step * noise else (whole, classes[power])

    alone = np.eye(len(made))[best], np.ones(blended.shape[1])
    found = {"alone": alone} | {f"{step:g}": rule(step, usual) for step in STEPS}
    found["blend"] = whole, classes[usual]
    others = {f"power {power:g}": place for place, power in enumerate(POWERS) if place != usual}
    others["picked"] = int(np.argmax(reached))
    return found | {told: rule(MARGIN, power) for told, power in others.items()}


def use(rule: Rule, rows: Rows) -> Floats:
    """Return what the rows' labels are named from, float64 (n, classes)."""
    weights, classes = rule
    return weighed(blend(weights, list(rows.predictions.values()), "label"), classes)


def gains(rows: Rows, made: dict[str, Floats]) -> dict[str, float]:
    """Return by how much each answer's macro-F1 is above the best member's."""
    once = np.ones(len(rows.target), dtype=np.int64)
    alone = max(scorer(rows.target, p, "macro")(once) for p in rows.predictions.values())
    return {rule: scorer(rows.target, m, "macro")(once) - alone for rule, m in made.items()}


def show(title: str, found: Found) -> None:
    """Print a table of rules."""
    tables = list(dict.fromkeys(name for name, _ in found[BEFORE]))
    before = np.array([gain for _, gain in found[BEFORE]])
    summed = f"mean | 5% | lowest | against {BEFORE}"
    print(f"| {title}, {len(before)} | {' | '.join(tables)} | {summed} |")
    for rule, each in found.items():
        gain = np.array([value for _, value in each])
        of = np.array([name for name, _ in each])
        change = gain - before
        cells = [f"{gain[of == name].mean():+.4f}" for name in tables]
        cells += [f"{value:+.4f}" for value in (gain.mean(), np.quantile(gain, 0.05), gain.min())]
        error = change.std() / np.sqrt(len(change))
        print(f"| {rule} | {' | '.join(cells)} | {change.mean():+.4f} ± {error:.4f} |")


def _keep(found: Found, name: str, gained: dict[str, float]) -> None:
    for rule, gain in gained.items():
        found.setdefault(rule, []).append((name, gain))


def _times(group: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    # How often each row is drawn, where groups of near-duplicates are.
    known, of_row = np.unique(group, return_inverse=True)
    rng = np.random.default_rng(0)
    for _ in range(RESAMPLES):
        yield np.bincount(rng.integers(0, len(known), len(known)), minlength=len(known))[of_row]


if __name__ == "__main__":
    main()
