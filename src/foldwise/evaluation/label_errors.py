"""Rows whose label is likely wrong: targets and out-of-fold probabilities in, positions out.

Confident learning (Northcutt, Jiang and Chuang 2021) by cleanlab. It asks the model about each row
as it asks about any other: the row's own label had no part in the probabilities, because they are
out of fold. What it finds is where label and model disagree in a way that the other rows don't
excuse; a person has to look.

They are ranked by the probability of their own label. Where classes overlap (the last four lines of
the table that benchmarks/label_errors.py prints), 0.76 of the first rows had a planted error, and
0.60 ranked by the margin to the likeliest other class: a row that could be several things has a
small probability of each, a wrong label a smaller one still. In one case of eight the margin was
ahead, 0.96 to 0.90.

How much a list is worth hangs on the model: whatever it gets wrong looks like a wrong label. On
real tables with planted errors 0.95 of the listed rows were errors where the model agreed with
0.995 of the labels, and 0.16 to 0.30 where it agreed with 0.69 to 0.86. So its quality goes along.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

SURE = 0.95  # agreement below which most of a list was the model's own mistakes


@dataclass(frozen=True)
class Witness:
    """How good the model is that calls labels wrong.

    Attributes:
        rows: rows with a label that it knows.
        agrees: share of them where its prediction is the label.
        frequent: share of the most frequent label.
        informed: whether it agrees clearly more often than always naming that label would (the
            lower end of Wilson's 95% interval lies above).
    """

    rows: int
    agrees: float
    frequent: float
    informed: bool

    @property
    def told(self) -> str:
        """Say how far the list can be believed."""
        wrong = f"the model contradicts {1 - self.agrees:.1%} of the labels"
        if not self.informed:
            return (
                f"Don't believe this list: {wrong}, and is no better than always naming the most "
                f"frequent one ({self.frequent:.1%} of the rows)."
            )
        told = (
            f"The model agrees with {self.agrees:.1%} of the {self.rows:,} labels (the most "
            f"frequent one alone: {self.frequent:.1%})."
        )
        if self.agrees < SURE:
            told += (
                " Most of the list is likely to be its own mistakes: on real tables with planted "
                "errors, one listed row in three to six was an error where the model agreed with "
                "69 to 86% of the labels, and 19 in 20 where it agreed with 99.5%."
            )
        return told


def witness(target: NDArray[np.int64], probabilities: NDArray[np.float64]) -> Witness:
    """Judge the model behind a list of likely label errors.

    Args:
        target: (n,) class ids, as `likely_label_errors` takes them.
        probabilities: (n, n_classes), out of fold.
    """
    known = target < probabilities.shape[1]
    labels, right = target[known], probabilities[known].argmax(axis=1) == target[known]
    if not len(labels):
        return Witness(0, 0.0, 0.0, False)
    frequent = float(np.bincount(labels).max() / len(labels))
    low = binomtest(int(right.sum()), len(labels)).proportion_ci(0.95, "wilson").low
    return Witness(len(labels), float(right.mean()), frequent, bool(low > frequent))


def likely_label_errors(
    target: NDArray[np.int64], probabilities: NDArray[np.float64]
) -> NDArray[np.intp]:
    """Return the positions of likely label errors, the likeliest first.

    The only row of a class is never among them: nothing shows what its class is like.

    Args:
        target: (n,) class ids; rows with an id that has no column are left out.
        probabilities: (n, n_classes), out of fold.
    """
    # Imported here: it brings pandas along, which takes a second.
    from cleanlab.filter import find_label_issues

    known = np.flatnonzero(target < probabilities.shape[1])
    # Classes that no row has can't be thresholded; their probabilities stay out of the comparison.
    present = np.unique(target[known])
    if len(present) < 2:
        return np.empty(0, dtype=np.intp)
    kept = probabilities[np.ix_(known, present)].astype(np.float64)
    kept = np.maximum(kept, np.finfo(np.float64).tiny)
    kept /= kept.sum(axis=1, keepdims=True)
    with warnings.catch_warnings():
        # It names a class by number and an argument that nobody here can set.
        warnings.filterwarnings("ignore", "May not flag all label issues", UserWarning)
        found = find_label_issues(
            np.searchsorted(present, target[known]),
            kept,
            return_indices_ranked_by="self_confidence",
            n_jobs=1,
        )
    return known[np.asarray(found, dtype=np.intp)]
