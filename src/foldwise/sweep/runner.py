"""Run the variants of a sweep one after the other, whatever becomes of each.

A run is a process of its own, the same command a person would give, so that one that crashes or
runs out of memory takes nothing along. What each has come to is written down as it ends; called
again, finished runs are skipped and the others continued.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from foldwise.run.files import now, write_json
from foldwise.run.seal import read_metrics
from foldwise.sweep.variants import Variant

State = Literal["waiting", "running", "finished", "skipped", "failed"]
# Runs a variant, its output going to a file; returns the exit code.
Run = Callable[[Variant, Path], int]


@dataclass(frozen=True)
class Outcome:
    """What has become of a variant.

    Attributes:
        name: the run's.
        state: skipped means that it was finished before.
        message: why it failed, or its scores.
        log: file with what it printed, or None.
        ended: when, in UTC; None while it hasn't.
    """

    name: str
    state: State
    message: str = ""
    log: str | None = None
    ended: str | None = None


def run_all(
    variants: Sequence[Variant],
    folder: Path,
    tell: Callable[[list[Outcome]], None],
    run: Run | None = None,
) -> list[Outcome]:
    """Run the variants in order.

    Args:
        variants: all of them, also finished ones.
        folder: where logs and `sweep.json` go.
        tell: called with all outcomes whenever one changes.
        run: runs one; None for `foldwise train` in a process of its own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    outcomes = [Outcome(variant.name, "waiting") for variant in variants]
    for number, variant in enumerate(variants):
        if variant.run.finished:
            outcomes[number] = Outcome(variant.name, "skipped", scores_of(variant), ended=now())
        else:
            log = folder / f"{variant.name}.log"
            outcomes[number] = Outcome(variant.name, "running", log=str(log))
            tell(outcomes)
            code = (run or train)(variant, log)
            outcomes[number] = _ended(variant, log, code)
        write_json(folder / "sweep.json", [asdict(outcome) for outcome in outcomes])
        tell(outcomes)
    return outcomes


def _ended(variant: Variant, log: Path, code: int) -> Outcome:
    if variant.run.finished:
        return Outcome(variant.name, "finished", scores_of(variant), str(log), now())
    return Outcome(variant.name, "failed", _why(log, code), str(log), now())


def train(variant: Variant, log: Path) -> int:
    """Train a variant in a process of its own; it ends with this one."""
    command = [sys.executable, "-c", "from foldwise.cli import main; main()", "train"]
    command.append(str(variant.path))
    for override in variant.overrides:
        command += ["--set", override]
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            return process.wait()
        finally:
            if process.poll() is None:  # this process was told to stop
                process.terminate()
                process.wait()


def scores_of(variant: Variant) -> str:
    """Return a finished run's score as one reads it: `f1_macro 0.612 [0.590, 0.640]`."""
    metrics = read_metrics(variant.run)
    name = main_metric(variant, metrics)
    entry = metrics["oof"][name]
    if entry["value"] is None:
        return f"{name} not defined"
    ends = ", ".join("-" if entry[k] is None else f"{entry[k]:.3f}" for k in ("low", "high"))
    return f"{name} {entry['value']:.3f} [{ends}]"


def main_metric(variant: Variant, metrics: dict[str, Any]) -> str:
    """Return the metric that a run is judged by: what picked its epochs, or its first."""
    chosen = variant.config.selection.metric
    return chosen if chosen in metrics["oof"] else next(iter(metrics["oof"]))


def ranked(variants: Sequence[Variant]) -> list[Variant]:
    """Return the finished variants, best first by their own metric."""

    def key(variant: Variant) -> float:
        metrics = read_metrics(variant.run)
        name = main_metric(variant, metrics)
        value = metrics["oof"][name]["value"]
        if value is None:
            return float("inf")
        return float(value if name in metrics["smaller_is_better"] else -value)

    return sorted((v for v in variants if v.run.finished), key=key)


def _why(log: Path, code: int) -> str:
    lines = [line.strip() for line in log.read_text("utf-8", "replace").splitlines()]
    told = [line for line in lines if line.startswith(("error: ", "stopped: "))]
    last = told[-1] if told else next((line for line in reversed(lines) if line), "")
    return f"exit code {code}: {last}"[:500]
