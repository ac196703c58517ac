"""What is done with an answer's probabilities: a temperature, and thresholds for sets of labels.

Both are fitted together, on rows that no member was trained on and that aren't scored by them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import NDArray

from foldwise.decisions.temperature import Floats, Of, fit_temperature, temper
from foldwise.decisions.thresholds import f1_thresholds

# Thresholds for each label by itself, for all alike, or none: a half.
Labels = Literal["each", "together", "half"]


@dataclass(frozen=True)
class Decision:
    """A temperature, and from which probability on each label is named.

    Attributes:
        temperature: that probabilities are tempered by.
        thresholds: of each label, on tempered probabilities; empty where they are a half, and
            where one class a row is predicted.
    """

    temperature: float = 1.0
    thresholds: tuple[float, ...] = ()

    @property
    def plain(self) -> bool:
        """Whether it leaves everything as it is."""
        return self == AS_IT_IS


AS_IT_IS = Decision()


def fit_decision(
    probabilities: Floats, target: NDArray[Any], of: Of, *, calibrate: bool, labels: Labels
) -> Decision:
    """Fit what is done with an answer's probabilities.

    Args:
        probabilities: (n, k), of rows that no member was trained on.
        target: class ids (n,), or 0 and 1 (n, labels).
        of: what the probabilities are of.
        calibrate: fit a temperature.
        labels: which thresholds.
    """
    temperature = fit_temperature(probabilities, target, of) if calibrate else 1.0
    if labels == "half":
        return Decision(temperature)
    tempered = temper(probabilities, temperature, of)
    found = f1_thresholds(tempered, target, together=labels == "together")
    return Decision(temperature, tuple(found.tolist()))
