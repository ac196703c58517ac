"""What a column's value says of the target: fitted rows and rows to score in, predictions out.

The simplest model of a category: the class frequencies, or the mean target, of the fitted rows that
have the same value. A value that isn't among them gets what all rows together would say. Imports
no torch, so that a look at a table starts at once.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]


def lookup(fitted: pl.Series, target: Ids, values: pl.Series, n_classes: int) -> Floats:
    """Give each value (rows,) its class frequencies (rows, n_classes); all rows' if it is new."""
    known = fitted.unique(maintain_order=True)  # null is a value like another
    row_of_value = {value: i for i, value in enumerate(known)}
    counts = np.zeros((len(known) + 1, n_classes))
    np.add.at(counts, (np.array([row_of_value[value] for value in fitted]), target), 1)
    counts[-1] = frequencies(target, n_classes)
    shares = counts / counts.sum(axis=1, keepdims=True)
    picked: Floats = shares[[row_of_value.get(value, len(known)) for value in values]]
    return picked


def lookup_means(fitted: pl.Series, target: Floats, values: pl.Series) -> Floats:
    """Give each value (rows,) its rows' mean target (rows, k); the mean of all if it is new."""
    known = fitted.unique(maintain_order=True)  # null is a value like another
    row_of_value = {value: i for i, value in enumerate(known)}
    place = np.array([row_of_value[value] for value in fitted])
    sums = np.zeros((len(known) + 1, target.shape[1]))
    np.add.at(sums, place, target)
    means = sums / np.append(np.bincount(place), 1)[:, None]
    means[-1] = target.mean(axis=0)
    picked: Floats = means[[row_of_value.get(value, len(known)) for value in values]]
    return picked


def frequencies(target: Ids, n_classes: int) -> Floats:
    """Return each class's share of the rows: (n_classes,)."""
    shares: Floats = np.bincount(target, minlength=n_classes) / len(target)
    return shares
