"""What drift is called to a person: checks in, sentences out."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from foldwise.drift.look import MATTERS, Drift, is_clear, size_in_words
from foldwise.drift.measures import RARER, Check, Part

_SHOWN = 3  # values that a sentence names
_CHARS = 40

_TITLES = {
    "classes": "predicted classes",
    "predictions": "predicted numbers",
    "confidence": "confidence of the predictions",
    "length": "length of the inputs in tokens",
    "tokens": "rows with tokens that the model can't read",
    "words": "words of no training row in {}",
    "missing": "empty cells of {}",
    "values": "values of {}",
    "unseen": "values of no training row in {}",
    "numbers": "numbers in {}",
    "range": "numbers out of range in {}",
    "dropped": "rows that training leaves out for empty cells",
    "classifier": "rows that a classifier tells apart",
}


_LABELS = {
    "classes": "predicted classes",
    "predictions": "predicted numbers",
    "confidence": "confidence",
    "length": "length in tokens",
    "tokens": "unknown tokens",
    "words": "new words",
    "missing": "empty",
    "values": "values",
    "unseen": "new values",
    "numbers": "numbers",
    "range": "out of range",
    "dropped": "left-out rows",
    "classifier": "classifier",
}


def label_of(check: Check) -> str:
    """Name what is compared in a few words: `new values: ZIP code`."""
    label = _LABELS[check.kind]
    return label if check.column is None else f"{label}: {shortened(check.column)}"


def title_of(check: Check) -> str:
    """Name what is compared: `empty cells of ZIP code`."""
    return _TITLES[check.kind].format(shortened(str(check.column)))


def sentence(check: Check) -> str:
    """Say what differs, in a line: `values of State: CA 12% (training 5%), ...`."""
    return f"{title_of(check)}: {what_differs(check)}"


def what_differs(check: Check) -> str:
    """Say how a thing that `title_of` names differs."""
    first = check.parts[0] if check.parts else None
    if first is None:
        return "nothing to compare"
    if check.kind == "classifier":
        told = f"in {first.new:.0%} of pairs, where chance is 50%"
        if len(check.parts) > 1 and is_clear(check):
            told += "; by " + ", ".join(f"{p.name} {_pair(p)}" for p in check.parts[1 : _SHOWN + 1])
    elif not check.percent:
        told = f"{first.name} {_number(first.new)}, of training rows {_number(first.training)}"
        if check.kind == "length":
            cut = check.parts[-1]
            told += f"; {cut.name}: {_percent(cut.new)}, of training rows {_percent(cut.training)}"
        if check.kind == "words":
            mean = check.parts[0]
            told = f"{mean.new:.1%} of a row's words{_beside(mean, ', of training rows {}')}"
            told += _named(check.parts[1:])
    elif check.kind in ("values", "classes"):
        named = [part for part in check.parts if part.name != RARER] or check.parts
        told = ", ".join(f"{shortened(part.name)} {_pair(part)}" for part in named[:_SHOWN])
    elif check.kind == "unseen":
        expected = _beside(first, ", where {} are to be expected")
        told = f"{_percent(first.new)} of rows{expected}"
        told += _named(check.parts[1:])
    elif check.kind == "range":
        told = f"{_percent(first.new)} of rows {first.name}"
    else:
        told = f"{_percent(first.new)} of rows, of training rows {_percent(first.training)}"
    return told


def verdict(check: Check) -> str:
    """Say whether it counts: large, moderate, small; slight; chance; not tested."""
    if not math.isfinite(check.p):
        return "not tested"
    if not is_clear(check):
        return "may be chance"
    return size_in_words(check.size)


def headline(drift: Drift) -> str:
    """Say in a sentence or two whether there is drift, and how much."""
    found, clear, tested = drift.found, drift.clear, len(drift.tested)
    if not tested:
        return "Nothing could be compared: " + (drift.sides.why or "there are too few new rows.")
    if found:
        plain = [check for check in found if check.kind != "classifier"]
        worst = (plain or found)[0]
        told = (
            f"Drift: {len(found)} of {tested} comparisons differ clearly. {sentence(worst)} "
            f"({size_in_words(worst.size)}: at least {worst.size:.0%} of the rows differ)."
        )
        if drift.apart is not None and 0 < len(plain) < len(found):
            told += f" A classifier tells {drift.apart.auc:.0%} of pairs apart."
        return told
    if clear:
        return (
            f"No drift to speak of: {len(clear)} of {tested} comparisons differ by more than "
            f"chance, none of them in {MATTERS:.0%} of the rows or more."
        )
    return f"No drift: none of {tested} comparisons differs by more than chance."


def remarks(drift: Drift) -> list[str]:
    """Say what was compared, and what couldn't be."""
    sides = drift.sides
    told = []
    if sides.training is None:
        told.append(f"without the training rows only the predictions can be compared: {sides.why}")
    if sides.drawn < sides.rows or sides.training_drawn < sides.training_rows:
        told.append(
            f"{sides.drawn:,} of {sides.rows:,} new rows and {sides.training_drawn:,} of "
            f"{sides.training_rows:,} training rows were drawn to be compared"
        )
    if sides.unreadable:
        told.append(f"{sides.unreadable:,} new rows are left out: a cell of theirs can't be read")
    if sides.twins:
        told.append(
            f"{sides.twins:,} of {sides.drawn:,} new rows are near-duplicates of training rows, "
            "which have not changed, and are left out"
        )
    if sides.copies:
        told.append(f"{sides.copies:,} more are near-duplicates of another new row and count once")
    if drift.apart is None and sides.training is not None:
        told.append(f"too few rows for a classifier to learn from: {sides.new.height} new ones")
    return told


def as_json(drift: Drift) -> dict[str, Any]:
    """Return what `drift --json` says."""
    sides, apart = drift.sides, drift.apart
    return {
        "drift": bool(drift.found),
        "size": drift.size,
        "told": headline(drift),
        "remarks": remarks(drift),
        "rows": {
            "new": sides.rows,
            "new_drawn": sides.drawn,
            "new_compared": sides.new.height,
            "new_unreadable": sides.unreadable,
            "training": sides.training_rows,
            "training_drawn": sides.training_drawn,
            "training_compared": None if sides.training is None else sides.training.height,
            "near_duplicates_of_training_rows": sides.twins,
            "near_duplicates_of_new_rows": sides.copies,
        },
        "checks": [
            {
                "kind": check.kind,
                "column": check.column,
                "size": check.size,
                "p": check.p,
                "p_of_all": check.adjusted,
                "verdict": verdict(check),
                "told": sentence(check),
                "parts": [asdict(part) for part in check.parts],
            }
            for check in drift.checks
        ],
        "classifier": None
        if apart is None
        else {
            "auc": apart.auc,
            "low": apart.low,
            "high": apart.high,
            "p": apart.p,
            "kind": apart.kind,
            "rows": list(apart.rows),
            "by_column": apart.by_column,
            "by_value": [asdict(part) for part in apart.by_value],
        },
    }


def shortened(name: str) -> str:
    """Return a name that fits a line, without line breaks or control characters."""
    plain = "".join(sign if sign.isprintable() else " " for sign in name)
    return plain if len(plain) <= _CHARS else plain[: _CHARS - 3].rstrip() + "..."


def _named(parts: tuple[Part, ...]) -> str:
    if not parts:
        return ""
    return "; such as " + ", ".join(
        f"{shortened(part.name)} ({_percent(part.new)})" for part in parts[:_SHOWN]
    )


def _beside(part: Part, told: str) -> str:
    return "" if math.isnan(part.training) else told.format(f"{part.training:.1%}")


def _pair(part: Part) -> str:
    return f"{_percent(part.new)} (training {_percent(part.training)})"


def _percent(share: float) -> str:
    return f"{share:.1%}" if share < 0.1 else f"{share:.0%}"


def _number(value: float) -> str:
    return f"{value:,.4g}"
