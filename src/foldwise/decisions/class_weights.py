"""Class weights: true labels in, by how much a class counts when a row's label is named out.

Where a mean over classes judges, the most probable class is the wrong label: a rare class counts as
much as a frequent one, so it should be named from a smaller probability. A label is the class of
the largest probability times weight, and a class's weight a power of the inverse of its rows (logit
adjustment after training, Menon et al. 2021, "Long-tail learning via logit adjustment").
Probabilities stay as they are: they needn't be bent to name other labels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from foldwise.decisions.temperature import Floats

# One is best for the mean recall, given right probabilities. F1 counts wrongly named rows too: it
# is the same for 0.35 to 0.5, and lower for 0 and 1 (docs/experiments.md).
POWERS = {"f1_macro": 0.5, "recall_macro": 1.0, "balanced_accuracy": 1.0}


def class_weights(target: NDArray[Any], classes: int, power: float) -> Floats:
    """Return weights by the inverse of the classes' rows; a class without any has those of one.

    Args:
        target: class ids (n,), of rows that no member was trained on.
        classes: how many there are.
        power: of the inverse; at 0 all weights are one.

    Returns:
        (classes,), one for the most frequent class and more for the others.
    """
    rows = np.maximum(np.bincount(target, minlength=classes), 1)
    weights: Floats = (rows.max() / rows) ** power
    return weights


def weighed(probabilities: Floats, weights: Floats) -> Floats:
    """Return probabilities times weights, rows summing to one again: what labels follow from."""
    products = probabilities * weights
    shares: Floats = products / products.sum(axis=1, keepdims=True)
    return shares
