"""How much is computed to explain a row, and when there is time for something else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

MOST_STEPS = 256


@dataclass(frozen=True)
class Effort:
    """How much is computed for a row.

    Attributes:
        steps: of a path of gradients, at most.
        draws: cells a column that another row's take the place of.
        random: draws of random words that the named ones are compared with; 0: no check.
        labels: explained of a row of several labels.
        seed: of all draws.
        between: called between two pieces of the work, a few dozen rows' forward passes each, for
            who has something else to do; what it raises ends the explanation.
    """

    steps: int = MOST_STEPS
    draws: int = 8
    random: int = 10
    labels: int = 3
    seed: int = 0
    between: Callable[[], object] = lambda: None


# Of one row, while somebody waits: a short path, few draws, and words that aren't checked.
QUICK = Effort(steps=16, draws=4, random=0)
