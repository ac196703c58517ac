"""What is done with an answer's probabilities: a temperature, and what labels are named by.

Sets of labels have thresholds, classes weights, an order cutoffs. All are fitted together, on rows
that no member was trained on and that aren't scored by them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from foldwise.decisions.class_weights import class_weights, weighed
from foldwise.decisions.cutoffs import matched_cutoffs
from foldwise.decisions.temperature import Floats, Of, fit_temperature, temper
from foldwise.decisions.thresholds import f1_thresholds

# Thresholds for each label of a set or for all alike, cutoffs of an order, or none: a half.
Labels = Literal["each", "together", "order", "half"]
# Of `Decision`, what names other labels; a temperature names none.
NAMINGS = ("thresholds", "class_weights", "cutoffs")


@dataclass(frozen=True)
class Decision:
    """A temperature, and from which probability on a label is named.

    Attributes:
        temperature: that probabilities are tempered by.
        thresholds: of each label of a set, on tempered probabilities; empty where they are a half.
        class_weights: of each class, by which tempered probabilities are multiplied to find the
            largest; empty where the most probable class is the label.
        cutoffs: of ordered labels but the lowest, from which mean rank on each is named; empty
            where the median is the label.
    """

    temperature: float = 1.0
    thresholds: tuple[float, ...] = ()
    class_weights: tuple[float, ...] = ()
    cutoffs: tuple[float, ...] = ()

    @property
    def plain(self) -> bool:
        """Whether it leaves everything as it is."""
        return self == AS_IT_IS

    @property
    def naming(self) -> dict[str, tuple[float, ...]]:
        """What labels are named by, one of `NAMINGS`; empty where they are as without it."""
        return {way: numbers for way in NAMINGS if (numbers := getattr(self, way))}

    def names_from(self, probabilities: Floats) -> Floats:
        """Return what a row's class is named from, (n, classes): the largest is its label."""
        if not self.class_weights:
            return probabilities
        return weighed(probabilities, np.array(self.class_weights))


AS_IT_IS = Decision()


def fit_decision(
    probabilities: Floats,
    target: NDArray[Any],
    of: Of,
    *,
    calibrate: bool,
    labels: Labels = "half",
    power: float = 0.0,
) -> Decision:
    """Fit what is done with an answer's probabilities.

    Args:
        probabilities: (n, k), of rows that no member was trained on.
        target: class ids (n,), or 0 and 1 (n, labels).
        of: what the probabilities are of.
        calibrate: fit a temperature.
        labels: which thresholds, or cutoffs.
        power: of the class weights; 0 for none.
    """
    temperature = fit_temperature(probabilities, target, of) if calibrate else 1.0
    if power:
        weights = class_weights(target, probabilities.shape[1], power)
        return Decision(temperature, class_weights=tuple(weights.tolist()))
    if labels == "half":
        return Decision(temperature)
    tempered = temper(probabilities, temperature, of)
    if labels == "order":
        cutoffs = matched_cutoffs(tempered, target)
        return Decision(temperature, cutoffs=tuple(cutoffs.tolist()))
    found = f1_thresholds(tempered, target, together=labels == "together")
    return Decision(temperature, tuple(found.tolist()))
