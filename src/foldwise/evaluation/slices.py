"""How good a run is on parts of its rows: a value for each row and the parts in, scores out.

A part's score is the mean of a value a row has (1 for a right prediction, or its absolute error).
Beside it stands an interval for that part alone: Wilson's (1927) for shares, which says "0 to 0.66"
of two wrong rows where a bootstrap says "0 to 0"; Student's over groups for errors.

A mark says "worse than over all" and stands on another footing: a report looks at a hundred parts,
and some are far off by chance. Each of 2,000 permutations deals the groups' mean values anew and
keeps the most extreme part of all columns together (max-T; Westfall and Young 1993). A part is
marked if fewer than 2.5% of them hold one as extreme, so that of tables whose columns have nothing
to do with the score 2.5% have any mark. Holm's (1979) bound promises the same, but pays for every
part as if parts had nothing in common, and the columns cut the same rows again. Benjamini and
Hochberg's would promise less: a share of wrong marks among the marks.

The unit is the group of near-duplicates, never the row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.stats import t as student

OTHERS = "(others)"
FEWEST = 10  # groups from which a part is judged
CHANCE = 0.025  # of any mark on a table whose columns have nothing to do with the score

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Part:
    """Which rows have a value, or a length.

    Attributes:
        name: the column's value, or a range of lengths.
        inside: (n,) its rows.
    """

    name: str
    inside: NDArray[np.bool_]


@dataclass(frozen=True)
class Slice:
    """The score of a part.

    Attributes:
        name: the part's.
        rows: how many it has.
        score: mean of their values.
        low: lower end of its 95% interval; nan for the errors of a single group.
        high: upper end.
        enough: whether it has the groups to be judged by.
        worse: whether it is clearly worse than all rows are.
    """

    name: str
    rows: int
    score: float
    low: float
    high: float
    enough: bool
    worse: bool


def by_value(cells: Sequence[str], most: int = 15) -> list[Part]:
    """Part the rows by the values of a column, the frequent ones first.

    Args:
        cells: (n,) the column's values.
        most: parts in all; rarer values are pooled as "(others)".
    """
    names, place, counts = np.unique(np.array(cells), return_inverse=True, return_counts=True)
    ranked = np.argsort(-counts, kind="stable")
    alone = ranked if len(ranked) <= most else ranked[: most - 1]
    parts = [Part(str(names[i]), place == i) for i in alone]
    if len(ranked) > len(alone):
        parts.append(Part(OTHERS, ~np.isin(place, alone)))
    return parts


def by_length(lengths: NDArray[np.int64], parts: int = 6) -> list[Part]:
    """Part the rows by length, into parts of about equally many rows.

    Args:
        lengths: (n,) tokens before truncation.
        parts: how many; fewer where many rows have the same length.
    """
    inner = np.unique(np.quantile(lengths, np.linspace(0, 1, parts + 1)[1:-1]).astype(np.int64))
    edges = [int(lengths.min()) - 1, *(int(e) for e in inner), int(lengths.max())]
    found = []
    for low, high in pairwise(edges):
        inside = (lengths > low) & (lengths <= high)
        if inside.any():
            found.append(Part(f"{low + 1} to {high} tokens", inside))
    return found


def score_slices(
    columns: Sequence[Sequence[Part]],
    values: Floats,
    groups: NDArray[np.int64],
    *,
    smaller_is_better: bool,
    seed: int,
    permutations: int = 1999,
) -> list[list[Slice]]:
    """Score the parts of all columns that a report shows, and mark those that are clearly worse.

    Args:
        columns: the parts of each column; a mark depends on all of them.
        values: (n,) what is averaged.
        groups: (n,) rows of equal number are one observation.
        smaller_is_better: whether the values are errors.
        seed: of the permutations.
        permutations: how many.
    """
    parts = [part for column in columns for part in column]
    if not parts:
        return []
    _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    counts = csr_array(
        np.array([np.bincount(group[p.inside], minlength=len(sizes)) for p in parts])
    )
    enough = (counts > 0).sum(axis=1) >= FEWEST
    means = np.bincount(group, values) / sizes
    sign = 1 if smaller_is_better else -1
    chances = _chances(counts[enough], sign * means, seed, permutations)
    overall = float(values.mean())
    worse = np.zeros(len(parts), dtype=bool)
    worse[enough] = chances <= CHANCE
    share = bool(np.isin(values, (0, 1)).all())
    scored = []
    for i, part in enumerate(parts):
        inside = values[part.inside]
        score = float(inside.mean())
        ends = (_wilson if share else _student)(inside, group[part.inside])
        marked = bool(worse[i]) and sign * (score - overall) > 0
        scored.append(Slice(part.name, len(inside), score, *ends, bool(enough[i]), marked))
    told = iter(scored)
    return [[next(told) for _ in column] for column in columns]


def _chances(counts: csr_array, means: Floats, seed: int, permutations: int) -> Floats:
    """Return, for each part, how often the most extreme of all parts is as high by chance.

    Args:
        counts: (parts, groups) rows of each group in each part.
        means: (groups,) of the values; high is worse.
        seed: of the draws.
        permutations: how many.
    """
    if not counts.shape[0]:
        return np.empty(0)
    # A part's sum over random dealings has this variance (Hoeffding 1951, theorem 2).
    n = counts.shape[1]
    rows = counts.sum(axis=1)
    spread = (counts.multiply(counts)).sum(axis=1) - rows**2 / n
    deviation = np.sqrt(np.maximum(spread, 0) * means.var(ddof=1)) if n > 1 else np.zeros(len(rows))
    deviation[deviation <= 1e-9 * rows] = np.inf  # nothing varies, or the part is all rows
    centred = means - means.mean()
    found = (counts @ centred) / deviation
    random = np.random.default_rng(seed)
    highest = np.empty(permutations)
    for start in range(0, permutations, 64):
        size = min(64, permutations - start)
        dealt = random.permuted(np.broadcast_to(centred, (size, n)), axis=1)
        highest[start : start + size] = ((counts @ dealt.T) / deviation[:, None]).max(axis=0)
    # The table at hand is one of the dealings (Phipson and Smyth 2010); ties count against a mark.
    as_high = (highest[:, None] >= found - 1e-9).sum(axis=0)
    return np.asarray((1 + as_high) / (1 + permutations))


def _wilson(values: Floats, group: NDArray[np.intp]) -> tuple[float, float]:
    # Rows of a group count as wholly alike, which leaves (sum n)^2 / sum n^2 of them (Kish 1965).
    sizes = np.unique(group, return_counts=True)[1].astype(np.float64)
    n, share = float(sizes.sum() ** 2 / (sizes**2).sum()), float(values.mean())
    z = NormalDist().inv_cdf(0.975)
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    reach = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return max(0.0, float(middle - reach)), min(1.0, float(middle + reach))


def _student(values: Floats, group: NDArray[np.intp]) -> tuple[float, float]:
    # The mean as a ratio of the groups' sums to their sizes (Cochran 1977, section 2.11).
    place = np.unique(group, return_inverse=True)[1]
    n, mean = int(place.max()) + 1, float(values.mean())
    if n < 2:
        return float("nan"), float("nan")
    apart = np.bincount(place, values - mean)
    reach = float(student.ppf(0.975, n - 1)) * np.sqrt(n / (n - 1) * (apart**2).sum()) / len(values)
    return float(mean - reach), float(mean + reach)
