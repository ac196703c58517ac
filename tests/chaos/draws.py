"""What may befall a run, drawn from a seed: which command, when, and what.

In: a seed, and what each command does on the disk when nothing disturbs it. Out: a `Draw`. The
moment is the number of a file operation, so that the same seed strikes at the same place again;
with a delay after it, signals also fall between two of them.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field
from typing import Any

from chaos.faults import WRITES, Event

# Eight seeds in a row meet all of them.
KINDS = ("KILL", "ended", "second", "STOP", "ENOSPC", "EIO", "NaN", "damage")
COMMANDS = ("train", "train", "train", "predict", "evaluate")
ENDING = ("TERM", "INT", "HUP")
DAMAGES = ("flip", "truncate", "delete", "link")
STEPS = 20  # of all folds: a NaN may come in any of them


@dataclass(frozen=True)
class Draw:
    """What happens in one draw.

    Attributes:
        seed: all follows from it.
        command: train, predict or evaluate.
        phase: of the command, in which it happens.
        fate: the first call's, as `Fate` takes it.
        damage: flip, truncate, delete or link: to a file of the run, between two calls.
        where: which of the files, and where in it, from 0 to 1.
    """

    seed: int
    command: str
    phase: str
    fate: dict[str, Any] = field(default_factory=dict)
    damage: str | None = None
    where: tuple[float, float] = (0.0, 0.0)


def draw(seed: int, traces: dict[str, list[Event]]) -> Draw:
    """Return what a seed means.

    Args:
        seed: from 0; seed modulo 8 is the kind.
        traces: the file operations of each undisturbed command.
    """
    rng = random.Random(seed)
    kind = KINDS[seed % len(KINDS)]
    command = "train" if kind == "NaN" else rng.choice(COMMANDS)
    phases = phases_of(traces[command])
    refused = kind in ("ENOSPC", "EIO")
    moments = {
        name: [n for n in numbers if not refused or traces[command][n - 1].kind in WRITES]
        for name, numbers in phases.items()
    }
    # Evaluate writes nothing that a disk could refuse: it is killed in its place.
    refused = refused and any(moments.values())
    moments = {name: numbers for name, numbers in moments.items() if numbers} or phases
    phase = rng.choice(sorted(moments))
    at = rng.choice(moments[phase])
    delay_s = rng.choice((0.0, rng.uniform(0, 0.3)))
    where = (rng.random(), rng.random())
    if kind == "NaN":
        return Draw(seed, command, "train", {"nan": rng.randint(1, STEPS)})
    if kind == "damage":
        fate = {"at": at, "signals": ["SIGKILL"]} if command == "train" else {}
        return Draw(seed, command, phase, fate, rng.choice(DAMAGES), where)
    if refused:
        return Draw(seed, command, phase, {"at": at, "error": kind})
    first = {"ended": rng.choice(ENDING), "STOP": "STOP"}.get(kind, "KILL")
    names = [first]
    if kind == "second":
        names = [rng.choice(ENDING), rng.choice((*ENDING, "KILL"))]
    fate = {"at": at, "signals": [f"SIG{name}" for name in names], "delay_s": delay_s}
    return Draw(seed, command, phase, {**fate, "gap": rng.randint(1, 3)})


def phases_of(trace: list[Event]) -> dict[str, list[int]]:
    """Return the numbers of a command's operations, by the phase that they belong to."""
    found: dict[str, list[int]] = {}
    phase = "begin"
    for number, event in enumerate(trace, 1):
        phase = next((name for name, mark in MARKS if mark.search(event.path)), phase)
        found.setdefault(phase, []).append(number)
    return found


# The first file of a phase, as docs/architecture.md has them; it lasts until the next one's.
MARKS = [
    (name, re.compile(pattern))
    for name, pattern in (
        ("report", r"report\.html"),
        ("sum up", r"oof\.parquet"),
        ("validate", r"fold-\d+/\.?predictions\.parquet"),
        ("train", r"fold-\d+/(checkpoints|\.?metrics\.jsonl)"),
        ("record", r"runs/run/\.?(config\.yaml|folds\.parquet|manifest\.json)"),
    )
]
