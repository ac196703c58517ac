"""Differences of several configs' scores: arrays in, intervals that hold together out.

The best of k configs is picked by the very scores that are then tested, so its lead over the
others is too large by choice. Intervals for all k(k-1)/2 pairs that hold together with 95% hold for
any pair, however it was picked. Their width comes from the largest of all pairs' statistics (Tukey
1953; max-T, Westfall and Young 1993), not from a bound on their number: pairs share configs.

Training has noise of its own: the same config with another seed scores differently. Where configs
were run with several seeds, the variance between seeds goes into each difference, and the squares
of the two half-widths add up (Howe 1974), each with the t of its own degrees of freedom. With
Satterthwaite's one t for both, 8 to 13% of differences were wrong where seeds had 1 or 2 degrees,
for a variance that comes out small by chance brings its own high degrees along; so it is 1 to 5%.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import brentq

LEVEL = 0.95  # with which the intervals of all pairs hold together
FEWEST_FOLDS = 3  # with two, t has one degree of freedom: the interval reaches 12.7 standard errors

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """How far one config is ahead of another, with its interval; positive is better.

    Attributes:
        value: better minus worse: with a metric where less is better, the sign is turned.
        low: lower end of the interval; nan where there is nothing to tell it by.
        high: upper end.
    """

    value: float
    low: float
    high: float

    @property
    def clear(self) -> bool:
        """Whether the interval lies wholly above zero."""
        return self.low > 0

    @property
    def told(self) -> str:
        """`+0.031 [+0.010, +0.052]`; a dash for what isn't known."""
        if math.isnan(self.value):
            return "-"
        if math.isnan(self.low):
            return f"{self.value:+.3f} [-, -]"
        return f"{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


@dataclass(frozen=True)
class SeedNoise:
    """How much scores vary when a config is trained again with another seed.

    Attributes:
        rows: variance of a run's pooled score between seeds.
        folds: variance of a run's mean over folds, beyond what differs from fold to fold anyway.
        degrees: of freedom: runs less configs.
    """

    rows: float
    folds: float
    degrees: int


def seed_noise(by_fold: Sequence[Floats], pooled: Sequence[Floats]) -> SeedNoise | None:
    """Estimate the variance between seeds, taken to be the same for all configs.

    Args:
        by_fold: for each config (seeds, folds) scores.
        pooled: for each config (seeds,) scores of all rows.

    Returns:
        None where no config was run with two seeds, or a pooled score isn't defined.
    """
    degrees = sum(len(scores) - 1 for scores in pooled)
    if not degrees or not all(np.isfinite(scores).all() for scores in pooled):
        return None
    rows = sum(float(((scores - scores.mean()) ** 2).sum()) for scores in pooled) / degrees
    folds = by_fold[0].shape[1]
    if not folds:
        return SeedNoise(rows, 0.0, degrees)
    # Two-way analysis of variance, seeds within configs: what is left of a fold's scores beside
    # the seed's own mean is noise of single folds, which the test over folds sees already.
    between = within = 0.0
    for scores in by_fold:
        apart = scores - scores.mean(axis=0)
        means = apart.mean(axis=1, keepdims=True)
        between += folds * float((means**2).sum()) / degrees
        within += float(((apart - means) ** 2).sum()) / (degrees * max(folds - 1, 1))
    return SeedNoise(rows, max(0.0, (between - within) / folds), degrees)


def fold_differences(
    scores: Floats, test_to_train: float, seeds: Sequence[int], noise: SeedNoise | None
) -> list[tuple[Difference, float]]:
    """Test whether the first config is ahead of each other, fold by fold.

    The folds' training sets overlap, so their differences vary less than those of independent
    ones would; the variance of the mean is taken as (1/J + n_test/n_train) s^2 instead of s^2/J,
    with J - 1 degrees of freedom (Nadeau and Bengio 2003).

    Of more than two configs s^2 is the pair's own or the mean of all pairs', whichever is larger:
    a handful of folds gives some pair of many a tiny variance by chance. With each pair's own alone
    the interval of ten configs in five folds would reach 8.2 standard errors, so it reaches 3.3.
    That holds for configs whose scores vary alike from fold to fold. Where some vary four times as
    much, 5 to 9% of tens in five folds had a wrong interval instead of 5%; in three, up to 12%.

    Args:
        scores: (k, J) of k configs in J folds; more is better.
        test_to_train: rows scored over rows trained on, the mean over folds.
        seeds: (k,) runs that each config's scores are the mean of.
        noise: between seeds; None where it isn't known.

    Returns:
        For each config but the first the mean difference, with an interval that holds for all
        pairs together, and the p-value that allows for all pairs; nan below FEWEST_FOLDS. Equal
        differences throughout have no spread to test: the interval is the mean itself, p is nan.
    """
    k, folds = scores.shape
    means = scores.mean(axis=1) if folds else np.full(k, math.nan)
    if folds < FEWEST_FOLDS:
        return [
            (Difference(float(means[0] - mean), math.nan, math.nan), math.nan) for mean in means[1:]
        ]
    variances = _variances(scores[None])[0, 0]
    shared, level = (k - 1) * (folds - 1), _alone(k, folds)
    found = []
    for other in range(1, k):
        mean = float(means[0] - means[other])
        own = (1 / folds + test_to_train) * float(variances[other])
        added = 0.0 if noise is None else noise.folds * (1 / seeds[0] + 1 / seeds[other])
        if own + added == 0:
            found.append((Difference(mean, mean, mean), math.nan))
            continue
        parts = [(own, shared), (added, noise.degrees if noise else 1)]
        reach = _reach(level, parts)
        together = _together(_p_value(abs(mean), parts), k, folds)
        found.append((Difference(mean, mean - reach, mean + reach), together))
    return found


def row_differences(
    values: Floats, draws: Floats, seeds: Sequence[int], noise: SeedNoise | None
) -> list[Difference]:
    """Set the first config's pooled score against each other's, by bootstrap.

    A pair's interval is its difference, plus and minus c standard deviations of its draws, where c
    is the 95% quantile of the most extreme pair of each draw.

    Args:
        values: (k,) scores of k configs on all rows; more is better.
        draws: (b, k) their scores on the same resamples of the rows.
        seeds: (k,) runs that each config's scores are the mean of.
        noise: between seeds; None where it isn't known.
    """
    draws = draws[np.isfinite(draws).all(axis=1)]
    k = len(values)
    if len(draws) < 2 or not np.isfinite(values).all():
        return [Difference(float(values[0] - v), math.nan, math.nan) for v in values[1:]]
    off = draws - values
    most = np.zeros(len(draws))
    ahead = np.empty(0)  # variances of the differences to the first
    for i in range(k - 1):
        apart = off[:, i, None] - off[:, i + 1 :]
        variance = apart.var(axis=0, ddof=1)
        ahead = variance if i == 0 else ahead
        squared = apart**2 / np.where(variance > 0, variance, np.inf)
        most = np.maximum(most, squared.max(axis=1))
    most = np.sqrt(most)
    width = float(np.quantile(most, LEVEL))
    alone = 2 * float(stats.norm.sf(width))
    found = []
    for other in range(1, k):
        value, own = float(values[0] - values[other]), float(ahead[other - 1])
        added = 0.0 if noise is None else noise.rows * (1 / seeds[0] + 1 / seeds[other])
        reach = _reach(alone, [(own, math.inf), (added, noise.degrees if noise else 1)])
        found.append(Difference(value, value - reach, value + reach))
    return found


def _reach(alone: float, parts: Sequence[tuple[float, float]]) -> float:
    """Return an interval's half-width at a level, from variances and their degrees of freedom."""
    return math.sqrt(
        sum(variance * stats.t.isf(alone / 2, degrees) ** 2 for variance, degrees in parts)
    )


def _p_value(distance: float, parts: Sequence[tuple[float, float]]) -> float:
    """Return the level at which an interval's half-width is a distance."""
    smallest = 1e-12
    if distance >= _reach(smallest, parts):
        return smallest
    return float(brentq(lambda alone: _reach(alone, parts) - distance, smallest, 1, xtol=1e-13))


def _alone(k: int, folds: int) -> float:
    """Return the level of one pair's test at which all pairs' hold together."""
    if k == 2:
        return 1 - LEVEL
    reach = np.quantile(_largest(k, folds), LEVEL)
    return 2 * float(stats.t.sf(reach, (k - 1) * (folds - 1)))


def _together(alone: float, k: int, folds: int) -> float:
    """Return how often the most extreme of all pairs of equal configs has such a p-value."""
    if k == 2:
        return alone
    largest = _largest(k, folds)
    reach = stats.t.isf(alone / 2, (k - 1) * (folds - 1))
    return float((1 + (largest >= reach).sum()) / (1 + len(largest)))


def _variances(scores: Floats) -> Floats:
    """Return the variances of pairs' differences between folds, (n, k, k), from (n, k, J).

    None is below the mean of all pairs.
    """
    k, folds = scores.shape[1:]
    apart = scores - scores.mean(axis=2, keepdims=True)
    products = apart @ apart.transpose(0, 2, 1) / (folds - 1)
    own = np.diagonal(products, axis1=1, axis2=2)
    variances = own[:, :, None] + own[:, None, :] - 2 * products
    mean = variances.sum(axis=(1, 2), keepdims=True) / (k * (k - 1))
    return np.asarray(np.maximum(variances, mean))


@lru_cache(maxsize=8)
def _largest(k: int, folds: int, draws: int = 20_000) -> Floats:
    """Draw the largest |t| of all pairs of k equal configs, with `_variances`: (draws,).

    Scores are normal and vary alike. The random numbers are fixed: the same scores, the same
    intervals.
    """
    random = np.random.default_rng(0)
    largest = np.empty(draws)
    size = max(1, 1_000_000 // k**2)
    for start in range(0, draws, size):
        scores = random.standard_normal((min(size, draws - start), k, folds))
        means = scores.mean(axis=2)
        apart = (means[:, :, None] - means[:, None, :]) ** 2
        squared = apart / (_variances(scores) / folds)
        largest[start : start + size] = np.sqrt(squared.max(axis=(1, 2)))
    return largest
