"""What is asked of new rows beyond their labels; imports nothing that takes time."""

from __future__ import annotations

from dataclasses import dataclass

from foldwise.errors import FoldwiseError


@dataclass(frozen=True)
class Asked:
    """What was asked for.

    Attributes:
        abstain: leave the prediction out below this confidence.
        costs: a table of costs, by its path.
        sets: share of rows whose truth shall lie in their set or interval.
        by_class: hold that share in each class.
    """

    abstain: float | None = None
    costs: str | None = None
    sets: float | None = None
    by_class: bool = False

    def __post_init__(self) -> None:
        """Refuse a share that is none.

        Raises:
            FoldwiseError: names the option.
        """
        if self.abstain is not None and not 0 < self.abstain <= 1:
            raise FoldwiseError(f"--abstain {self.abstain}: a confidence is above 0 and at most 1")
        if self.sets is not None and not 0 < self.sets < 1:
            raise FoldwiseError(f"--sets {self.sets}: a share of rows is above 0 and below 1")
        if self.by_class and self.sets is None:
            raise FoldwiseError("--by-class: only goes with --sets")

    @property
    def anything(self) -> bool:
        """Whether there is anything to do."""
        return (self.abstain, self.costs, self.sets) != (None, None, None)


NOTHING = Asked()
