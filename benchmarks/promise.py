"""Does the interval that `foldwise evaluate` promises hold? Made-up runs, made-up new tables.

    python benchmarks/promise.py [--draws 300]

Each draw makes out-of-fold rows and a new table of the same source: classes of unlike size, some
rows in groups of near-duplicates that are answered alike. A line is printed for each pair of sizes:
the share of draws in which the new table's score lies inside the interval (95% were right), for
each metric. The second part gives the new table other class shares, as a real one has: there the
plain interval may miss, and the one for those shares is to hold.
"""

from __future__ import annotations

import argparse

import numpy as np

from foldwise.evaluation.promise import Scored, promises
from foldwise.metrics.metric import builtin_metric

METRICS = [builtin_metric(name) for name in ("f1_macro", "accuracy", "log_loss")]
SHARES = np.array([0.4, 0.25, 0.15, 0.1, 0.06, 0.04])
OTHER = np.array([0.1, 0.15, 0.15, 0.2, 0.2, 0.2])
RIGHT = {"good": (0.9, 0.85, 0.8, 0.7, 0.6, 0.5), "nearly perfect": (0.99,) * 6}
SIZES = [(300, 50), (300, 300), (300, 3000), (3000, 200), (3000, 3000)]


def rows_of(
    random: np.random.Generator, n: int, shares: np.ndarray, right: tuple[float, ...]
) -> Scored:
    """Make about n rows; one group in ten has up to eight near-duplicates."""
    classes = len(shares)
    sizes = np.where(random.random(n) < 0.1, random.integers(2, 9, n), 1)
    sizes = sizes[: int(np.searchsorted(np.cumsum(sizes), n)) + 1]
    target = random.choice(classes, len(sizes), p=shares)
    other = (target + random.integers(1, classes, len(sizes))) % classes
    guess = np.where(random.random(len(sizes)) < np.array(right)[target], target, other)
    scores = random.gamma(1.0, size=(len(sizes), classes)) * 0.4
    scores[np.arange(len(sizes)), guess] += 0.5 + random.gamma(2.0, size=len(sizes))
    guess = scores.argmax(axis=1)
    rows = np.repeat(np.arange(len(sizes)), sizes)
    probabilities = scores / scores.sum(axis=1, keepdims=True)
    return Scored(target[rows], guess[rows], probabilities[rows], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=300)
    parser.add_argument("--resamples", type=int, default=300)
    parser.add_argument("--quality", choices=RIGHT, nargs="*", default=list(RIGHT))
    given = parser.parse_args()
    print("| rows | out of fold | new | class shares | " + " | ".join(m.name for m in METRICS))
    for quality in given.quality:
        right = RIGHT[quality]
        for shifted in (False, True):
            for own, new in SIZES if not shifted else SIZES[1::2]:
                plain, by_shares = np.zeros(len(METRICS)), np.zeros(len(METRICS))
                for draw in range(given.draws):
                    random = np.random.default_rng([draw, own, new])
                    oof = rows_of(random, own, SHARES, right)
                    table = rows_of(random, new, OTHER if shifted else SHARES, right)
                    found = promises(
                        METRICS, oof, table, classes=6, seed=draw, resamples=given.resamples
                    )
                    plain += [each.where == "inside" for each in found]
                    by_shares += [
                        each.shares_low - 1e-9 <= each.value <= each.shares_high + 1e-9
                        for each in found
                    ]
                told = " | ".join(
                    f"{a:.3f}, {b:.3f}"
                    for a, b in zip(plain / given.draws, by_shares / given.draws, strict=True)
                )
                print(f"| {quality} | {own} | {new} | {'other' if shifted else 'same'} | {told} |")


if __name__ == "__main__":
    main()
