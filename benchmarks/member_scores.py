"""Do other members make a better answer beside the same fine-tuned models?

    python benchmarks/member_scores.py BEFORE AFTER [--levers base,unweighted]

BEFORE and AFTER are two folders of levers.py, of the same tables: with members fitted by two states
of the code (--levers none), and with models that were trained once, in either. For each table and
model: macro-F1, log loss (negated) and one-against-rest AUC of the blend of it and the members of
before, and what changes with those of after, with 95% paired bootstrap intervals over groups of
near-duplicates, positive where it is better. `no model` blends the members alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foldwise.members.member import Floats, Holds
from lever_scores import answer, difference, scorer
from lever_tables import grown

METRICS = ("macro", "loss", "auc")


def main() -> None:
    """Print a line for each table and model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--levers", default="base,unweighted,unweighted+rdrop")
    options = parser.parse_args()
    print("| table | model | macro-F1 | | log loss | | AUC | |")
    for path in sorted(options.after.glob("*.members.npz")):
        name = path.name.removesuffix(".members.npz")
        before, old = members(options.before / path.name)
        _, new = members(path)
        models: dict[str, list[Floats]] = {"no model": []}
        for lever in options.levers.split(","):
            for folder in (options.before, options.after):
                if (file := folder / f"{name}-{lever}.npz").exists():
                    with np.load(file) as saved:
                        models[lever] = [grown(saved["made"], _holds(before["target"]))]
        for lever, model in models.items():
            told = compared([*old, *model], [*new, *model], before)
            print(f"| {name} | {lever} | {' | '.join(told)} |", flush=True)


def members(path: Path) -> tuple[dict[str, NDArray[Any]], list[Floats]]:
    """Return a table's target, fold and group, and its members' predictions."""
    with np.load(path) as saved:
        kept = {key: saved[key] for key in saved}
    rows = {key: kept.pop(key) for key in ("target", "fold", "group")}
    return rows, [grown(made, _holds(rows["target"])) for made in kept.values()]


def compared(old: list[Floats], new: list[Floats], rows: dict[str, NDArray[Any]]) -> list[str]:
    """Return each score of the old blend, and by how much the new one is better."""
    target, fold = rows["target"], rows["fold"]
    groups = np.unique(rows["group"], return_inverse=True)[1]
    once = np.ones(len(target), dtype=np.int64)
    told = []
    for metric in METRICS:
        if metric == "auc" and _holds(target) == "number":
            continue
        first, second = (
            scorer(target, answer(every, target, fold, macro=metric == "macro"), metric)
            for every in (old, new)
        )
        told += [f"{first(once):.4f}", difference(first, second, groups)]
    return told


def _holds(target: NDArray[Any]) -> Holds:
    return "number" if target.ndim == 2 else "label"


if __name__ == "__main__":
    main()
