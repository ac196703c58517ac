"""What levers.py has trained, as the lines of docs/experiments.md.

    python benchmarks/lever_scores.py [--dir runs-levers]

Each lever is told twice: its own score, and that of the blend of the members with it, both with
their loss; and how much better than `base`, with a paired bootstrap interval over groups of
near-duplicates. Each fold is blended by weights of the other folds, and always blended: the
fallback to a single member that a run has would jump, and hide what a lever does.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foldwise.ensemble.blend import SMALLEST, blend, fit_weights
from foldwise.members.member import Floats, Holds

LEVERS = ("base", "ema", "seed2", "two seeds", "long", "offset", "probe")
DRAWS = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dir", type=Path, default=Path("runs-levers"))
    options = parser.parse_args()
    print("| table | | model | minus base | blend | minus base | seconds |")
    for path in sorted(options.dir.glob("*.members.npz")):
        for line in lines(path):
            print(line, flush=True)


def lines(path: Path) -> list[str]:
    """Return a line for each lever that was trained on a table.

    Args:
        path: of its members; the levers' predictions lie beside it.
    """
    name = path.name.removesuffix(".members.npz")
    with np.load(path) as saved:
        members = {key: saved[key] for key in saved}
    target, fold, group = (members.pop(key) for key in ("target", "fold", "group"))
    models: dict[str, tuple[Floats, str]] = {}
    for lever in LEVERS:
        found = path.with_name(f"{name}-{lever}.npz")
        if found.exists():
            with np.load(found) as saved:
                models[lever] = saved["made"], f"{float(saved['seconds']):.0f}"
        elif lever == "two seeds" and {"base", "seed2"} <= models.keys():
            (first, a), (second, b) = models["base"], models["seed2"]
            models[lever] = (first + second) / 2, str(int(a) + int(b))
    alone = answer([*members.values()], target, fold)
    if "base" not in models:
        return [f"| {name} | no model | | | {_told(target, alone)} | | |"]
    base = models["base"][0]
    before = (base, answer([*members.values(), base], target, fold))
    without = difference(target, before[1], alone, group)
    told = [f"| {name} | no model | | | {_told(target, alone)} | {without} | |"]
    for lever, (made, seconds) in models.items():
        after = (made, answer([*members.values(), made], target, fold))
        cells = []
        for old, new in zip(before, after, strict=True):
            cells += [_told(target, new)]
            cells += ["" if lever == "base" else difference(target, old, new, group)]
        told.append(f"| {name} | {lever} | {' | '.join(cells)} | {seconds} |")
    return told


def answer(every: list[Floats], target: NDArray[Any], fold: NDArray[np.int64]) -> Floats:
    """Return the blend of some predictions, each fold by the weights of the others."""
    holds: Holds = "number" if target.ndim == 2 else "label"
    made = np.zeros_like(every[0])
    for number in np.unique(fold):
        out = fold == number
        others = [predictions[~out] for predictions in every]
        weights = fit_weights(others, target[~out], holds, macro=holds == "label")
        made[out] = blend(weights, [predictions[out] for predictions in every], holds)
    return made


def difference(target: NDArray[Any], old: Floats, new: Floats, group: NDArray[np.int64]) -> str:
    """Return how much better new is than old, with its interval."""
    _, of_row = np.unique(group, return_inverse=True)
    groups = int(of_row.max()) + 1
    rng, drawn = np.random.default_rng(0), []
    for _ in range(DRAWS):
        times = np.bincount(rng.integers(0, groups, groups), minlength=groups)[of_row]
        drawn.append(measure(target, new, times) - measure(target, old, times))
    low, high = np.percentile(drawn, [2.5, 97.5])
    return f"{measure(target, new) - measure(target, old):+.3f} [{low:+.3f}, {high:+.3f}]"


def measure(target: NDArray[Any], made: Floats, times: NDArray[np.int64] | None = None) -> float:
    """Return macro-F1 over the classes that occur, or R2 of numbers.

    Args:
        target: of each row.
        made: its prediction.
        times: that each row was drawn; None: once.
    """
    drawn = np.ones(len(target), dtype=np.int64) if times is None else times
    if target.ndim == 2:
        mean = np.average(target[:, 0], weights=drawn)
        left, spread = np.square(made - target)[:, 0], np.square(target - mean)[:, 0]
        return 1 - float((drawn @ left) / (drawn @ spread))
    predicted, width = made.argmax(axis=1), made.shape[1]
    right = predicted == target
    hits = np.bincount(target[right], drawn[right], width)
    both = np.bincount(target, drawn, width) + np.bincount(predicted, drawn, width)
    return float((2 * hits[both > 0] / both[both > 0]).mean())


def loss(target: NDArray[Any], made: Floats) -> float:
    """Return the mean log loss, or squared error of numbers."""
    if target.ndim == 2:
        return float(np.square(made - target).mean())
    inside = np.maximum(made, SMALLEST)
    inside /= inside.sum(axis=1, keepdims=True)
    return float(-np.log(inside[np.arange(len(made)), target]).mean())


def _told(target: NDArray[Any], made: Floats) -> str:
    return f"{measure(target, made):.3f} ({loss(target, made):.3f})"


if __name__ == "__main__":
    main()
