"""Columns that stand out: a `Look` in, findings out.

Those that give the target away, whose empty cells tell it, that hold one value, that name rows, or
that name who a row belongs to.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from foldwise.eda.findings import Change, Finding
from foldwise.eda.leaks import Power
from foldwise.eda.look import Look
from foldwise.eda.overview import Column
from foldwise.table.giveaways import follows_from, nearly_empty

_ENTITY = re.compile(
    r"(^|[^a-z])(users?|customers?|clients?|patients?|accounts?|authors?|members?|persons?|"
    r"reviewers?|sellers?|students?|devices?|sessions?)([^a-z]|$)"
)


def column_findings(look: Look) -> Iterator[Finding]:
    """Yield what stands out about columns."""
    yield from _leaks(look)
    yield from _empty(look)
    yield from _columns(look)


def _leaks(look: Look) -> Iterator[Finding]:
    for power in look.leaks.powers:
        if not power.verdict:
            yield from _made_of_it(look, power)
            continue
        scores = ", ".join(
            f"{name} {value:.3f} (baseline {look.leaks.baseline[name]:.3f})"
            for name, value in power.scores.items()
        )
        used = power.role in ("text", "categorical", "numeric")
        place = f"used as {power.role}" if used else "not used by the config: leave it so"
        yield Finding(
            "leak",
            "warning" if used or power.verdict == "copies the target" else "note",
            f"{power.column!r} {power.verdict} ({place}): alone, by {power.method}, it reaches "
            f"{scores}. If it isn't known when you predict, it doesn't belong in the model.",
            _without(look, power.column, f"{power.column!r} {power.verdict}") if used else (),
        )


def _made_of_it(look: Look, power: Power) -> Iterator[Finding]:
    if power.role not in ("text", "categorical", "numeric"):
        return
    used = look.rows.used
    sets = look.rows.holds == "labels"
    why = follows_from(used[power.column], used[look.rows.target], sets=sets)
    if why is not None:
        says = f"{power.column!r} (used as {power.role}): {why}"
        doubt = " If it isn't known when you predict, it doesn't belong in the model."
        yield Finding("leak", "warning", says + doubt, _without(look, power.column, says))


def _without(look: Look, column: str, why: str) -> tuple[Change, ...]:
    data = look.rows.config.data
    role = look.rows.roles[column]
    left = [name for name in getattr(data, role) if name != column]
    others = [*data.text, *data.categorical, *data.numeric]
    if others == [column]:
        return ()  # nothing would be left to learn from
    if role == "text" and not left:
        return ()  # another model altogether
    if look.rows.config.model.fusion.name != "text" and not (
        left or [n for n in (*data.categorical, *data.numeric) if n != column]
    ):
        return (Change({"data": {role: left}, "model": {"fusion": {"name": "text"}}}, why),)
    return (Change({"data": {role: left}}, why),)


def _empty(look: Look) -> Iterator[Finding]:
    policy = look.rows.config.data.missing
    for entry in look.missing:
        if not entry.tells:
            continue
        dropped = entry.role == "categorical" and policy.categorical == "drop"
        change = Change(
            {"data": {"missing": {"categorical": "category"}}},
            f"empty cells of {entry.column!r} go with the target: keep the rows, as a category",
        )
        used = "" if entry.role else " (the config doesn't use it)"
        yield Finding(
            "empty cells",
            "warning" if entry.role else "note",
            f"Whether {entry.column!r} is empty{used} tells the target: {entry.method} "
            f"{entry.strength:.2f}, {entry.share:.1%} of the rows empty. Find out why before you "
            "rely on it.",
            (change,) if dropped else (),
        )


def _columns(look: Look) -> Iterator[Finding]:
    for name, why in look.rows.unread.items():
        yield Finding(
            "column", "note", f"{name!r}, which the config doesn't use, was left out: {why}"
        )
    for note in look.rows.notes:
        yield Finding("column", "note", _sentence(note, look.rows.files))
    named = [repr(column.name) for column in look.columns if column.comma]
    if named and look.rows.config.data.decimal == ".":
        yield Finding(
            "column",
            "note",
            f'Numbers have a decimal comma: {", ".join(named)}. With `decimal: ","` under data '
            "they can stand under numeric.",
        )
    for column in look.columns:
        if column.role in ("categorical", "numeric"):
            yield from _useless(look, column)
        elif not column.role:
            yield from _entity(look, column)


def _sentence(note: str, files: Sequence[str]) -> str:
    # A file's name keeps its case.
    begun = note if note.startswith(tuple(files)) else f"{note[0].upper()}{note[1:]}"
    return begun if begun.endswith("...") else f"{begun}."


def _useless(look: Look, column: Column) -> Iterator[Finding]:
    filled = column.guess.filled
    if column.unique < 2:
        says = f"{column.name!r} has one value only ({column.examples[0]!r}): nothing to learn."
        why = f"{column.name!r} is the same in every row"
    elif column.role == "categorical" and column.unique > 0.9 * filled and filled >= 20:
        says = (
            f"{column.name!r} is listed as categorical, but {column.unique:,} of its "
            f"{look.rows.frame.height - column.nulls:,} values are different: it names rows."
        )
        why = f"{column.name!r} has a value a row, so a category of it is never met again"
    elif column.role == "numeric" and column.guess.role == "identifier":
        says = f"{column.name!r} is listed as numeric, but names rows: {column.guess.reason}."
        why = f"{column.name!r} is {column.guess.reason}: it names rows"
    elif sparse := nearly_empty(look.rows.frame[column.name]):
        says = f"{column.name!r} is {sparse}: hardly anything to learn from."
        why = f"{column.name!r} is {sparse}"
    else:
        return
    yield Finding("column", "note", says, _without(look, column.name, why))


def _entity(look: Look, column: Column) -> Iterator[Finding]:
    config, used = look.rows.config, look.rows.used
    spaced = re.sub(r"([a-z])([A-Z])", r"\1 \2", column.name).lower()
    if config.folds.group is not None or not _ENTITY.search(spaced):
        return
    if config.folds.strategy.name in ("time", "column"):
        return
    counts = used[column.name].drop_nulls().value_counts()["count"]
    several = counts.filter(counts > 1)
    repeated = int(several.sum()) / max(used.height, 1)
    largest = int(counts.max() or 0)  # type: ignore[arg-type]
    enough = len(counts) >= 10 * config.folds.n and largest <= used.height / config.folds.n
    if repeated < 0.2 or not enough:
        return
    why = f"{column.name!r} comes back: {repeated:.0%} of the rows share theirs with another row"
    yield Finding(
        "group",
        "note",
        f"{column.name!r} has {len(counts):,} values, and {repeated:.0%} of the rows share theirs "
        "with another row. If new rows will come from others, keep each on one side of a fold.",
        (Change({"folds": {"group": column.name}}, why),),
    )
