"""Whether empty cells tell the target: rows in, a strength of association a column out.

Classes: Cramér's V between "empty" and the class, corrected for bias (Bergsma 2013), 0 for none and
1 for a class that is always or never empty. Sets of labels: the largest V of a label. Numbers: the
correlation ratio eta, the share of the spread that lies between empty and filled rows, square root
taken. The p-value (chi-squared, or Welch's t) says whether so much could be chance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from foldwise.eda.answers import Answers
from foldwise.eda.rows import Rows
from foldwise.evaluation.lookup import Floats

FEWEST = 5  # empty (and filled) cells, below which nothing can be said
STRONG = 0.3
CHANCE = 0.001


@dataclass(frozen=True)
class Missingness:
    """How a column's empty cells go with the target.

    Attributes:
        column: its name.
        role: what the config does with it.
        share: of the rows in which it is empty.
        method: of the strength.
        strength: from 0 (none) to 1.
        p_value: of no association.
        by_class: class or label -> share of its rows that are empty; empty for numbers.
        means: mean target of empty and of filled rows, for numbers.
    """

    column: str
    role: str
    share: float
    method: str
    strength: float
    p_value: float
    by_class: dict[str, float]
    means: tuple[float, float] | None

    @property
    def tells(self) -> bool:
        """Whether the empty cells tell the target well enough to be warned of."""
        return self.strength >= STRONG and self.p_value < CHANCE


def relate_missing(rows: Rows, answers: Answers) -> list[Missingness]:
    """Relate each column's empty cells to the target, the strongest first."""
    found = []
    for name in rows.columns:
        empty = rows.used[name].is_null().to_numpy()
        if min(empty.sum(), (~empty).sum()) >= FEWEST:
            found.append(_relate(name, rows.roles[name], empty, answers))
    return sorted(found, key=lambda entry: -entry.strength)


def _relate(name: str, role: str, empty: np.ndarray, answers: Answers) -> Missingness:
    share = float(empty.mean())
    if answers.is_number:
        assert answers.values is not None
        values = answers.values[:, 0]
        strength, p = _eta(values, empty)
        means = (float(values[empty].mean()), float(values[~empty].mean()))
        return Missingness(name, role, share, "eta", strength, p, {}, means)
    if answers.ids is not None:
        of_class = np.bincount(answers.ids, minlength=len(answers.names))
        of_empty = np.bincount(answers.ids[empty], minlength=len(answers.names))
        strength, p = cramers_v(np.stack([of_empty, of_class - of_empty]))
        method = "Cramér's V"
    else:
        assert answers.values is not None
        of_class, of_empty = answers.values.sum(axis=0), answers.values[empty].sum(axis=0)
        n, n_empty = len(empty), int(empty.sum())
        pairs = [
            cramers_v(np.array([[e, n_empty - e], [c - e, n - n_empty - c + e]]))
            for e, c in zip(of_empty, of_class, strict=True)
        ]
        strength, p = max(pairs, default=(0.0, 1.0))
        method = "largest Cramér's V of a label"
    shares = of_empty / np.maximum(of_class, 1)
    by_class = dict(zip(answers.names, shares.tolist(), strict=True))
    return Missingness(name, role, share, method, strength, p, by_class, None)


def cramers_v(counts: np.ndarray) -> tuple[float, float]:
    """Return Cramér's V corrected for bias (Bergsma 2013) of a table of counts, and its p-value."""
    from scipy.stats import chi2_contingency

    counts = counts[counts.sum(axis=1) > 0][:, counts[:, :].sum(axis=0) > 0]
    if min(counts.shape) < 2:
        return 0.0, 1.0
    found = chi2_contingency(counts, correction=False)
    n, (r, k) = counts.sum(), counts.shape
    phi = max(0.0, found.statistic / n - (r - 1) * (k - 1) / (n - 1))
    rows, columns = r - (r - 1) ** 2 / (n - 1), k - (k - 1) ** 2 / (n - 1)
    return min(1.0, math.sqrt(phi / (min(rows, columns) - 1))), float(found.pvalue)


def _eta(values: Floats, empty: np.ndarray) -> tuple[float, float]:
    from scipy.stats import ttest_ind

    spread = float(((values - values.mean()) ** 2).sum())
    if not spread:
        return 0.0, 1.0
    between = sum(
        part.sum() * (values[part].mean() - values.mean()) ** 2 for part in (empty, ~empty)
    )
    p = float(ttest_ind(values[empty], values[~empty], equal_var=False).pvalue)
    return math.sqrt(float(between) / spread), p
