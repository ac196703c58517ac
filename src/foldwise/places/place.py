"""The seam between what is to be done and where: a place starts calls of `foldwise`.

A call is what a person would type, so what it leaves is the same wherever it ran. Two places keep
to this: processes.py, this machine, and on_ray.py, the machines of a Ray.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

# What holds the threads of torch, polars and tokenizers.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS", "RAYON_NUM_THREADS")
LOST = -1000  # in place of an exit code, of what is gone with its machine


@dataclass(frozen=True)
class Call:
    """A call of `foldwise`.

    Attributes:
        arguments: of the command line.
        tell: takes each line that it prints.
        whole: whether that is its stdout too, or stderr alone.
    """

    arguments: Sequence[str]
    tell: Callable[[str], None]
    whole: bool = False


def ending(code: int) -> str:
    """Say how a call ended, after "a process"."""
    if code == LOST:
        return "was lost with its machine"
    return f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"


class Job(Protocol):
    """A call at work."""

    def ended(self) -> int | None:
        """Return the exit code, once all it said has been told; None while it runs.

        That of one that was killed is the signal's number below zero, or LOST.
        """

    def stop(self) -> None:
        """Ask it to end."""

    def wait(self) -> None:
        """Wait for its end, after `stop`."""


class Place(Protocol):
    """Where calls are at work."""

    @property
    def room(self) -> int:
        """How many calls at a time, at least 1."""

    def start(self, call: Call) -> Job:
        """Start a call."""
