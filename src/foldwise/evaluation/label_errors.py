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
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray


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
