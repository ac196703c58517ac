"""What levers.py predicted, scored: each change beside `base`, alone and in the blend.

    python benchmarks/lever_scores.py [--dir runs-levers] [--metric macro|loss|auc]
                                      [--base LEVER]

For each table and lever: the model alone and the blend of it and the members, each with its score,
and their differences to those of --base with a 95% paired bootstrap interval over groups of
near-duplicates, positive where the lever is better. The score is macro-F1 (of numbers R2), the log
loss (squared error), or the one-against-rest AUC, macro average. Each fold is blended by weights of
the other folds, and always blended: the fallback to a single member that a run has would jump, and
hide what a lever does.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foldwise.decisions.class_weights import POWERS, class_weights, weighed
from foldwise.ensemble.blend import SMALLEST, blend, fit_weights
from foldwise.members.member import Floats, Holds
from lever_tables import grown

DRAWS = 1000
# Times that each row was drawn -> the score.
Scorer = Callable[[NDArray[np.int64]], float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dir", type=Path, default=Path("runs-levers"))
    parser.add_argument("--metric", choices=["macro", "loss", "auc"], default="macro")
    parser.add_argument("--base", default="base")
    options = parser.parse_args()
    print("| table | | model | minus base | blend | minus base | seconds |")
    for path in sorted(options.dir.glob("*.members.npz")):
        for line in lines(path, options.metric, options.base):
            print(line, flush=True)


def lines(path: Path, metric: str, base: str) -> list[str]:
    """Return a line for each lever that was trained on a table.

    Args:
        path: of its members; the levers' predictions lie beside it.
        metric: macro, loss or auc.
        base: the lever that the others are compared with.
    """
    name = path.name.removesuffix(".members.npz")
    with np.load(path) as saved:
        kept = {key: saved[key] for key in saved}
    target, fold, group = (kept.pop(key) for key in ("target", "fold", "group"))
    holds: Holds = "number" if target.ndim == 2 else "label"
    if holds == "number" and metric == "auc":
        return []
    members = [grown(made, holds) for made in kept.values()]
    models: dict[str, tuple[Floats, str]] = {}
    found = {p.stem.removeprefix(f"{name}-"): p for p in path.parent.glob(f"{name}-*.npz")}
    for lever in sorted(found, key=lambda lever: (lever != base, lever)):
        with np.load(found[lever]) as saved:
            models[lever] = grown(saved["made"], holds), f"{float(saved['seconds']):.0f}"
    again = "seed2" if base == "base" else f"{base}+seed2"
    if {base, again} <= models.keys():
        (first, a), (second, b) = models[base], models[again]
        models["two seeds"] = (first + second) / 2, str(int(a) + int(b))
    macro = holds == "label" and metric == "macro"
    alone = scorer(target, answer(members, target, fold, macro=macro), metric)
    once, of_row = np.ones(len(target), dtype=np.int64), np.unique(group, return_inverse=True)[1]
    if base not in models:
        return [f"| {name} | no model | | | {alone(once):.4f} | | |"]
    told = []
    before: list[Scorer] = []
    for lever, (made, seconds) in models.items():
        blended = answer([*members, made], target, fold, macro=macro)
        after = [scorer(target, predictions, metric) for predictions in (made, blended)]
        if lever == base:
            before = after
            less = difference(before[1], alone, of_row)
            told.append(f"| {name} | no model | | | {alone(once):.4f} | {less} | |")
        cells = []
        for old, new in zip(before, after, strict=True):
            cells += [f"{new(once):.4f}"]
            cells += ["" if lever == base else difference(old, new, of_row)]
        told.append(f"| {name} | {lever} | {' | '.join(cells)} | {seconds} |")
    return told


def answer(
    every: list[Floats], target: NDArray[Any], fold: NDArray[np.int64], *, macro: bool
) -> Floats:
    """Return the blend of some predictions, each fold by the weights of the others.

    Args:
        every: predictions of the same rows.
        target: of each row.
        fold: that scored it.
        macro: whether a mean over classes judges the labels: then probabilities are weighed by the
            inverse of the classes' rows to a run's power, and the largest is the label.
    """
    holds: Holds = "number" if target.ndim == 2 else "label"
    made = np.zeros_like(every[0])
    for number in np.unique(fold):
        out = fold == number
        others = [predictions[~out] for predictions in every]
        weights = fit_weights(others, target[~out], holds)
        made[out] = blend(weights, [predictions[out] for predictions in every], holds)
        if macro:
            classes = class_weights(target[~out], made.shape[1], POWERS["f1_macro"])
            made[out] = weighed(made[out], classes)
    return made


def difference(old: Scorer, new: Scorer, of_row: NDArray[np.int64]) -> str:
    """Return how much better new is than old, with its interval.

    Args:
        old: a score.
        new: another of the same rows.
        of_row: the number of each row's group, from 0.
    """
    groups = int(of_row.max()) + 1
    rng, drawn = np.random.default_rng(0), []
    for _ in range(DRAWS):
        times = np.bincount(rng.integers(0, groups, groups), minlength=groups)[of_row]
        drawn.append(new(times) - old(times))
    low, high = np.percentile(drawn, [2.5, 97.5])
    once = np.ones(len(of_row), dtype=np.int64)
    return f"{new(once) - old(once):+.4f} [{low:+.4f}, {high:+.4f}]"


def scorer(target: NDArray[Any], made: Floats, metric: str) -> Scorer:
    """Return what scores predictions when rows are drawn several times; greater is better.

    Args:
        target: of each row.
        made: its prediction.
        metric: macro-F1 over the classes that occur, or R2; the log loss or squared error, negated;
            or the mean of the classes' AUC.
    """
    if metric == "loss":
        each = _losses(target, made)
        return lambda times: -float(times @ each / times.sum())
    if target.ndim == 2:
        return lambda times: _r2(target, made, times)
    if metric == "auc":
        orders = [(np.argsort(column, kind="stable"), column) for column in made.T]
        return lambda times: float(
            np.mean([_auc(target == k, *order, times) for k, order in enumerate(orders)])
        )
    return lambda times: _macro_f1(target, made, times)


def _r2(target: NDArray[Any], made: Floats, times: NDArray[np.int64]) -> float:
    mean = np.average(target[:, 0], weights=times)
    left, spread = np.square(made - target)[:, 0], np.square(target - mean)[:, 0]
    return 1 - float((times @ left) / (times @ spread))


def _macro_f1(target: NDArray[Any], made: Floats, times: NDArray[np.int64]) -> float:
    predicted, width = made.argmax(axis=1), made.shape[1]
    right = predicted == target
    hits = np.bincount(target[right], times[right], width)
    both = np.bincount(target, times, width) + np.bincount(predicted, times, width)
    return float((2 * hits[both > 0] / both[both > 0]).mean())


def _auc(
    positive: NDArray[np.bool_],
    order: NDArray[np.int64],
    values: Floats,
    times: NDArray[np.int64],
) -> float:
    # Of the pairs of a positive and a negative row: where the positive is above, ties by half.
    weights, is_positive, at = times[order], positive[order], values[order]
    first = np.flatnonzero(np.concatenate([[True], at[1:] != at[:-1]]))
    up = np.add.reduceat(weights * is_positive, first)
    down = np.add.reduceat(weights * ~is_positive, first)
    below = np.cumsum(down) - down
    pairs = up.sum() * down.sum()
    return float((up * (below + down / 2)).sum() / pairs) if pairs else 0.5


def _losses(target: NDArray[Any], made: Floats) -> Floats:
    if target.ndim == 2:
        squares: Floats = np.square(made - target)[:, 0]
        return squares
    inside = np.maximum(made, SMALLEST)
    inside /= inside.sum(axis=1, keepdims=True)
    losses: Floats = -np.log(inside[np.arange(len(made)), target])
    return losses


if __name__ == "__main__":
    main()
