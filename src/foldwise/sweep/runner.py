"""Run the variants of a sweep, one after the other or side by side, whatever becomes of each.

A run is a process of its own, the same command a person would give, so that one that crashes or
runs out of memory takes nothing along; where it runs is the place's. What each has come to is
written down as it ends; called again, finished runs are skipped and the others continued.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from foldwise.places.place import Call, Place, ending
from foldwise.places.work import Task, do_all, train_call
from foldwise.run.files import now, write_json
from foldwise.run.seal import read_metrics
from foldwise.sweep.variants import Variant

State = Literal["waiting", "running", "finished", "skipped", "failed"]


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
    place: Place,
) -> list[Outcome]:
    """Run the variants, begun in their order.

    Args:
        variants: all of them, also finished ones.
        folder: where logs and `sweep.json` go.
        tell: called with all outcomes whenever one changes.
        place: where the others run, as many at a time as it has room for.
    """
    folder.mkdir(parents=True, exist_ok=True)
    outcomes = [
        Outcome(variant.name, "skipped", scores_of(variant), ended=now())
        if variant.run.finished
        else Outcome(variant.name, "waiting")
        for variant in variants
    ]
    tasks = {
        _task(variant, folder / f"{variant.name}.log"): number
        for number, variant in enumerate(variants)
        if not variant.run.finished
    }

    def became(task: Task, outcome: Outcome) -> None:
        outcomes[tasks[task]] = outcome
        write_json(folder / "sweep.json", [asdict(each) for each in outcomes])
        tell(outcomes)

    def began(task: Task) -> None:
        name = variants[tasks[task]].name
        became(task, Outcome(name, "running", log=str(folder / f"{name}.log")))

    def ended(task: Task, code: int) -> None:
        variant = variants[tasks[task]]
        became(task, _ended(variant, folder / f"{variant.name}.log", code))

    tell(outcomes)
    do_all(place, list(tasks), ended, began=began)
    write_json(folder / "sweep.json", [asdict(each) for each in outcomes])
    return outcomes


def _task(variant: Variant, log: Path) -> Task:
    def write(line: str) -> None:
        with log.open("a", encoding="utf-8") as output:
            output.write(f"{line}\n")

    arguments = train_call(variant.path, variant.overrides)
    return Task(Call(arguments, write, whole=True), variant.run, variant.folds)


def _ended(variant: Variant, log: Path, code: int) -> Outcome:
    if variant.run.finished:
        return Outcome(variant.name, "finished", scores_of(variant), str(log), now())
    return Outcome(variant.name, "failed", _why(log, code), str(log), now())


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
    written = log.read_text("utf-8", "replace") if log.exists() else ""
    lines = [line.strip() for line in written.splitlines()]
    told = [line for line in lines if line.startswith(("error: ", "stopped: "))]
    last = told[-1] if told else next((line for line in reversed(lines) if line), "")
    how = f"exit code {code}" if code >= 0 else ending(code)
    return f"{how}: {last}"[:500]
