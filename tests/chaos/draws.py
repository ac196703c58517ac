"""What may befall a run, drawn from a seed: which command, when, and what.

In: a seed, and what each command does on the disk when nothing disturbs it. Out: a `Draw`. The
moment is the number of a file operation, so that the same seed strikes at the same place again;
with a delay after it, signals also fall between two of them.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from chaos.faults import WRITES, Event

FAULTS = ("ENOSPC", "EIO")
ENDING = ("TERM", "INT", "HUP")
DAMAGES = ("flip", "truncate", "delete", "link")
STEPS = 20  # of all folds: a NaN may come in any of them


@dataclass(frozen=True)
class Draw:
    """What happens in one draw.

    Attributes:
        seed: all follows from it.
        command: train, predict, evaluate or refit.
        phase: of the command, in which it (first) happens.
        fates: of the first calls, each as `Fate` takes it; the calls after them are undisturbed.
        another: while the first is stopped, another process is given the same command.
        damage: flip, truncate, delete or link: to a file of the run, between two calls.
        where: which of the files, and where in it, from 0 to 1.
    """

    seed: int
    command: str
    phase: str
    fates: tuple[dict[str, Any], ...] = ()
    another: bool = False
    damage: str | None = None
    where: tuple[float, float] = (0.0, 0.0)


def draw(
    seed: int,
    traces: dict[str, list[Event]],
    kinds: Sequence[str],
    commands: Sequence[str],
) -> Draw:
    """Return what a seed means.

    Args:
        seed: from 0; modulo the number of kinds it is the kind.
        traces: the file operations of each undisturbed command.
        kinds: of what befalls them.
        commands: to choose from.
    """
    rng = random.Random(seed)
    kind = kinds[seed % len(kinds)]
    command = "train" if kind == "NaN" else rng.choice(commands)
    trace = traces[command]
    if kind in FAULTS and not any(event.kind in WRITES for event in trace):
        kind = "KILL"  # evaluate writes nothing that a disk could refuse
    moments = {
        phase: [n for n in numbers if kind not in FAULTS or trace[n - 1].kind in WRITES]
        for phase, numbers in phases_of(command, trace).items()
    }
    if kind == "damage" and command == "train":
        del moments["read"]  # nothing lies there yet
    phase = rng.choice(sorted(name for name, numbers in moments.items() if numbers))
    at = rng.choice(moments[phase])
    if kind == "NaN":
        return Draw(seed, command, "train", ({"nan": rng.randint(1, STEPS)},))
    if kind in FAULTS:
        return Draw(seed, command, phase, ({"at": at, "error": kind},))
    first = rng.choice(ENDING) if kind in ("ended", "second") else kind
    struck = {"at": at, "late": rng.random() < 0.5, "gap": rng.randint(1, 3)}
    struck["delay_s"] = rng.choice((0.0, rng.uniform(0, 0.3)))
    if kind == "damage":
        killed = {**struck, "signals": ["SIGKILL"]}
        where = (rng.random(), rng.random())
        fates = (killed,) if command == "train" else ()
        return Draw(seed, command, phase, fates, damage=rng.choice(DAMAGES), where=where)
    signals = [f"SIG{first}"]
    if kind == "second":
        signals.append(f"SIG{rng.choice((*ENDING, 'KILL'))}")
    fates = [{**struck, "signals": signals}]
    while kind == "KILL" and rng.random() < 0.5:  # what goes on is killed again, and again
        fates.append({**struck, "signals": signals, "at": rng.randint(1, len(trace))})
    another = kind == "STOP" and command == "train" and rng.random() < 0.5
    return Draw(seed, command, phase, tuple(fates), another)


def phases_of(command: str, trace: list[Event]) -> dict[str, list[int]]:
    """Return the numbers of a command's operations, by the phase that they belong to."""
    found: dict[str, list[int]] = {}
    phase = "read"
    for number, event in enumerate(trace, 1):
        phase = next((name for name, mark in MARKS[command] if mark.search(event.path)), phase)
        found.setdefault(phase, []).append(number)
    return found


# The files that begin a phase, as docs/architecture.md has them; it lasts until the next one's.
MARKS = {
    command: [(name, re.compile(pattern)) for name, pattern in marks]
    for command, marks in {
        "train": [
            ("report", r"report\.html"),
            ("sum up", r"oof\.parquet"),
            ("fit members", r"fold-\d+/members"),
            ("validate", r"fold-\d+/\.?predictions\.parquet"),
            ("train", r"fold-\d+/(checkpoints|\.?metrics\.jsonl)"),
            ("record", r"runs/run/\.?(config\.yaml|folds\.parquet|manifest\.json)"),
        ],
        "refit": [
            ("measure", r"refit/\.?holdout\.parquet"),
            ("fit members", r"refit/members"),
            ("train", r"refit/(checkpoints|\.?metrics\.jsonl)"),
            ("record", r"refit/"),
        ],
        "predict": [("write", r"labels\.parquet"), ("load", r"fold-\d+/")],
        "evaluate": [("load", r"fold-\d+/")],
    }.items()
}
