"""How two samples of a column differ, and whether that can be chance: a `Check` out.

Every size is on one scale: the share of rows, at least, that would have to change for the two
samples to be alike. For shares of values that is the total variation distance; for numbers the
largest distance of the cumulative shares (Kolmogorov and Smirnov), which never exceeds it. What
two samples of one source differ by on average is taken off, so that a size means what it says on
few rows, too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2_contingency, fisher_exact, ks_2samp

Floats = NDArray[np.float64]
FEWEST = 5  # rows expected of a value in the smaller sample; rarer values count as one
MANY = 60  # rows in the smaller sample from which the asymptotic distribution holds
_KOLMOGOROV = math.sqrt(math.pi / 2) * math.log(2)  # mean of his distribution
_HALF_NORMAL = math.sqrt(2 / math.pi)
RARER = "(rarer values)"


@dataclass(frozen=True)
class Part:
    """One value of what is compared, or one summary.

    Attributes:
        name: of the value.
        training: its share of the training rows, or the summary of them.
        new: of the new rows.
    """

    name: str
    training: float
    new: float


@dataclass(frozen=True)
class Check:
    """One way in which new rows may differ from training rows.

    Attributes:
        kind: what is compared: classes, confidence, length, ...
        column: of which column; None where it is of the whole row.
        size: share of rows, at least, that differ; 0 to 1.
        p: chance of as much between samples of one source; nan where nothing can be tested.
        parts: what differs, the most first.
        percent: whether the parts are shares.
        adjusted: p for all checks together.
        note: a remark.
    """

    kind: str
    column: str | None
    size: float
    p: float
    parts: tuple[Part, ...] = ()
    percent: bool = True
    adjusted: float = field(default=math.nan)
    note: str = ""


def compare_shares(
    kind: str, column: str | None, training: dict[str, int], new: dict[str, int], most: int = 12
) -> Check:
    """Compare how often values occur: a chi-squared test of homogeneity.

    Args:
        kind: of the check.
        column: of the check.
        training: rows by value.
        new: likewise.
        most: parts that are kept.
    """
    names = sorted({*training, *new})
    counts = np.array([[side.get(name, 0) for name in names] for side in (training, new)])
    totals = counts.sum(axis=1)
    if not len(names) or not totals.all():
        return Check(kind, column, 0.0, math.nan)
    expected = counts.sum(axis=0) * totals.min() / totals.sum()
    common = expected >= FEWEST
    if not common.all():
        rare = counts[:, ~common].sum(axis=1, keepdims=True)
        counts = np.hstack([counts[:, common], rare])
        names = [name for name, kept in zip(names, common, strict=True) if kept] + [RARER]
    shares = counts / totals[:, None]
    p = 1.0
    if len(names) > 1:
        p = float(chi2_contingency(counts, correction=False).pvalue)
    pooled = counts.sum(axis=0) / totals.sum()
    by_chance = _HALF_NORMAL * np.sqrt(pooled * (1 - pooled) * (1 / totals).sum())
    distance = 0.5 * float(np.abs(shares[0] - shares[1]).sum() - by_chance.sum())
    order = np.argsort(-np.abs(shares[1] - shares[0]), kind="stable")[:most]
    parts = tuple(Part(names[i], float(shares[0, i]), float(shares[1, i])) for i in order)
    return Check(kind, column, max(0.0, distance), p, parts)


def compare_rate(
    kind: str,
    column: str | None,
    training: tuple[int, int],
    new: tuple[int, int],
    name: str,
) -> Check:
    """Compare how many rows have a property: Fisher's exact test.

    Args:
        kind: of the check.
        column: of the check.
        training: rows that have it, and rows.
        new: likewise.
        name: of the property.
    """
    (a, n), (b, m) = training, new
    if not n or not m:
        return Check(kind, column, 0.0, math.nan)
    p = float(fisher_exact([[a, n - a], [b, m - b]]).pvalue)
    pooled = (a + b) / (n + m)
    by_chance = _HALF_NORMAL * math.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    size = max(0.0, abs(a / n - b / m) - by_chance)
    return Check(kind, column, size, p, (Part(name, a / n, b / m),))


def compare_numbers(kind: str, column: str | None, training: Floats, new: Floats) -> Check:
    """Compare the distributions of a number: the test of Kolmogorov and Smirnov.

    Args:
        kind: of the check.
        column: of the check.
        training: (n,); nan where missing, which another check is about.
        new: (m,) likewise.
    """
    training, new = training[np.isfinite(training)], new[np.isfinite(new)]
    if not len(training) or not len(new):
        return Check(kind, column, 0.0, math.nan)
    few = min(len(training), len(new)) < MANY  # a row alone has p = 0 by the asymptotic formula
    found = ks_2samp(training, new, method="exact" if few else "asymp")
    by_chance = _KOLMOGOROV * math.sqrt(1 / len(training) + 1 / len(new))
    marks = {"median": 0.5, "mean": None, "5%": 0.05, "95%": 0.95}
    parts = tuple(
        Part(name, *(_mark(side, q) for side in (training, new))) for name, q in marks.items()
    )
    size = max(0.0, float(found.statistic) - by_chance)
    return Check(kind, column, size, float(found.pvalue), parts, percent=False)


def beyond_range(column: str, training: Floats, new: Floats) -> Check:
    """Look for numbers outside of what training rows hold.

    Under one source all orders of the two samples together are alike, so that k new rows above the
    largest training row have the chance C(n + m - k, n) / C(n + m, n), whatever the distribution.
    """
    training, new = training[np.isfinite(training)], new[np.isfinite(new)]
    n, m = len(training), len(new)
    if not n or not m:
        return Check("range", column, 0.0, math.nan)
    low, high = float(training.min()), float(training.max())
    beyond = [int((new < low).sum()), int((new > high).sum())]
    k = max(beyond)
    log_p = float(np.log((m - np.arange(k)) / (n + m - np.arange(k))).sum()) if k else 0.0
    share = sum(beyond) / m
    size = max(0.0, share - 2 / (n + 1))
    name = f"outside {low:.6g} to {high:.6g}"
    return Check("range", column, size, min(1.0, 2 * math.exp(log_p)), (Part(name, 0.0, share),))


def holm(checks: list[Check]) -> list[float]:
    """Return the checks' p-values for all of them together (Holm 1979); nan stays nan."""
    p = np.array([check.p for check in checks])
    tested = np.flatnonzero(np.isfinite(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    adjusted = np.full(len(p), math.nan)
    steps = (len(order) - np.arange(len(order))) * p[order]
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps)) if len(order) else steps
    return [float(value) for value in adjusted]


def _mark(values: Floats, quantile: float | None) -> float:
    return float(values.mean() if quantile is None else np.quantile(values, quantile))
